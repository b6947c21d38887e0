"""Turns logits into tokens, each row by its own parameters.

A row's token depends on its logits, its parameters and one uniform of (seed,
position); never on the other rows. Nothing is sorted unless a row asks for
top-k or top-p.
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from miao_worker.engine.adjustments import adjusted
from miao_worker.engine.batch import Proposal
from miao_worker.engine.cpu import kernels
from miao_worker.engine.guidance.masks import Masks
from miao_worker.engine.logprobs import LogprobTable
from miao_worker.engine.randomness import uniform
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.transfer import Download, upload
from miao_worker.engine.truncation import Truncation, truncate_
from miao_worker.engine.types import SamplingParams, TokenLogprobs

_CHUNK = 256  # of the vocabulary, in the two-level inverse CDF


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A row's token; `token_id` is None where its logits were not finite or none is allowed."""

    token_id: int | None
    logprobs: TokenLogprobs | None = None


@dataclass(frozen=True, slots=True)
class _RandomRows:
    """The rows of a batch that are not greedy, and their settings on the device."""

    places: list[int]  # of the rows in the batch
    indices: Tensor  # (random rows,) int64, the same
    temperatures: Tensor  # (random rows, 1) float32
    truncation: Truncation


class Drawn:
    """Tokens that were drawn on the device, and are on their way to the host."""

    def __init__(
        self,
        token_ids: Tensor,
        finite: Tensor,
        logprobs: LogprobTable | None,
        logits: Tensor | None = None,
    ) -> None:
        """Shapes: token_ids (rows,) int64, finite (rows,) bool.

        logits: the model's own, (rows, vocab), where `replaced` may be asked for others.
        """
        self._logits = logits
        self.token_ids = token_ids  # on the device; within the vocabulary, also of what is no token
        tables = () if logprobs is None else logprobs.tensors
        self._logprobs = logprobs
        self._download = Download(torch.stack([token_ids, finite.long()]), *tables)

    def collect(self) -> list[SampledToken]:
        """Each row's token, once the device has come so far."""
        numbers, *tables = self._download.wait()
        token_ids, finite = numbers.tolist()
        chosen = [t if ok else None for t, ok in zip(token_ids, finite, strict=True)]
        if self._logprobs is None:
            return [SampledToken(token_id) for token_id in chosen]
        logprobs = self._logprobs.read(chosen, tables)
        return [SampledToken(t, lp) for t, lp in zip(chosen, logprobs, strict=True)]

    @torch.inference_mode()
    def replaced(self, row: int, sample: SampledToken, token_id: int) -> SampledToken:
        """A row's sample with another token; to be asked before the next step is launched."""
        if sample.logprobs is None or self._logits is None:
            return SampledToken(token_id)
        logprob = torch.log_softmax(self._logits[row].float(), dim=-1)[token_id]
        return SampledToken(token_id, replace(sample.logprobs, logprob=float(logprob)))


class Sampler:
    """Draws tokens; keeps the parameters of the last batch on the device."""

    def __init__(self) -> None:
        self._cached: tuple[list[SamplingParams], _RandomRows | None] = ([], None)

    @torch.inference_mode()
    def launch(
        self,
        logits: Tensor,
        sequences: Items[Sequence],
        proposed: Items[Proposal] | None = None,
        masks: Masks | None = None,
    ) -> Drawn:
        """Begin to draw one token for each row; nobody waits for the device.

        Shapes: logits (rows, vocab), one row at least, row i of sequences[i], for
        the token that follows the sequence's tokens and proposed[i]; masks of the
        same rows. The logits may be changed.
        """
        wanted = [sequence.sampling.num_logprobs for sequence in sequences]
        keeps = masks is not None and any(num is not None for num in wanted)
        scores = logits.clone() if keeps else logits
        token_ids, finite = self._draw(scores, sequences, proposed, masks)
        table = LogprobTable.of(logits, token_ids, wanted)
        return Drawn(token_ids, finite, table, logits if keeps else None)

    def sample(
        self,
        logits: Tensor,
        sequences: Items[Sequence],
        proposed: Items[Proposal] | None = None,
    ) -> list[SampledToken]:
        """Draw one token for each row, and wait for it. As `launch`, of any number of rows."""
        return self.launch(logits, sequences, proposed).collect() if sequences else []

    @torch.inference_mode()
    def draw(
        self,
        logits: Tensor,
        sequences: Items[Sequence],
        proposed: Items[Proposal] | None = None,
    ) -> list[int | None]:
        """The tokens alone; None for a row whose logits are not finite. As `launch`."""
        drawn = Drawn(*self._draw(logits, sequences, proposed), logprobs=None)
        return [sample.token_id for sample in drawn.collect()]

    def _draw(
        self,
        logits: Tensor,
        sequences: Items[Sequence],
        proposed: Items[Proposal] | None,
        masks: Masks | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Tokens (rows,) int64, and whether the row had any that is finite (rows,)."""
        scores = adjusted(logits, sequences, proposed)
        if masks is not None:
            masks.apply_(scores)
        best, token_ids = _row_maxima(scores)  # greedy for all; also finds what is not finite
        random_rows = self._random_rows([s.sampling for s in sequences], logits.device)
        if random_rows is not None:
            drawn = _draw(scores, random_rows, sequences, proposed)
            # What comes of a row of NaN is not used, but may be the next step's input.
            drawn.clamp_(max=logits.shape[-1] - 1)
            token_ids = token_ids.index_copy(0, random_rows.indices, drawn)
        return token_ids, torch.isfinite(best)

    def _random_rows(
        self, params: list[SamplingParams], device: torch.device
    ) -> _RandomRows | None:
        """None where all rows are greedy. A decode batch seldom changes: the last is kept."""
        cached_params, rows = self._cached
        if params != cached_params:
            rows = _gather_random_rows(params, device)
            self._cached = (params, rows)
        return rows


def _row_maxima(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's largest score, NaN where it has one, and its first place."""
    functions = kernels.load() if scores.device.type == "cpu" else None
    if functions is None or scores.dtype != torch.float32:
        return scores.max(dim=-1)
    return functions.row_maxima(scores.contiguous())


def _gather_random_rows(params: list[SamplingParams], device: torch.device) -> _RandomRows | None:
    indices = [i for i, p in enumerate(params) if p.temperature > 0]
    if not indices:
        return None
    chosen = [params[i] for i in indices]
    temperatures = np.array([[p.temperature] for p in chosen], dtype=np.float32)
    return _RandomRows(
        places=indices,
        indices=upload(np.array(indices), device),
        temperatures=upload(temperatures, device),
        truncation=Truncation.from_params(chosen, device),
    )


def _draw(
    logits: Tensor,
    rows: _RandomRows,
    sequences: Items[Sequence],
    proposed: Items[Proposal] | None,
) -> Tensor:
    """Temperature, truncation, inverse CDF. Returns (random rows,) int64."""
    scores = logits.index_select(0, rows.indices).float()
    scores -= scores.amax(dim=-1, keepdim=True)  # before the division: a tiny temperature is safe
    scores /= rows.temperatures
    truncate_(scores, rows.truncation)
    uniforms = []
    for place in rows.places:
        sequence = sequences[place]
        position = sequence.num_tokens + (len(proposed[place]) if proposed else 0)
        uniforms.append(uniform(sequence.sampling.seed, position))
    return inverse_cdf(scores, upload(np.array(uniforms), scores.device))


def inverse_cdf(scores: Tensor, uniforms: Tensor) -> Tensor:
    """The first token whose cumulative probability exceeds the uniform.

    Two levels, so that only one chunk of the vocabulary is accumulated in
    float64. Shapes: scores (rows, vocab) float32, unnormalised log-probabilities
    of maximum 0; uniforms (rows,) float64 in (0, 1); returns (rows,) int64.
    """
    rows, vocab = scores.shape
    num_chunks = -(-vocab // _CHUNK)
    weights = scores.new_zeros(rows, num_chunks * _CHUNK)
    torch.exp(scores, out=weights[:, :vocab])
    chunks = weights.view(rows, num_chunks, _CHUNK)
    cumulative = chunks.sum(dim=-1).double().cumsum(dim=-1)  # (rows, chunks)
    targets = uniforms[:, None] * cumulative[:, -1:]
    chunk = torch.searchsorted(cumulative, targets, right=True)  # (rows, 1)
    chunk.clamp_(max=num_chunks - 1)  # a row of NaN finds nothing; its token is not used
    before = (cumulative - chunks.sum(dim=-1)).gather(1, chunk)
    return chunk.squeeze(1) * _CHUNK + _search_chunk(chunks, chunk, targets - before)


def _search_chunk(chunks: Tensor, chunk: Tensor, targets: Tensor) -> Tensor:
    """Where in its chunk each row's target falls. Returns (rows,) int64."""
    index = chunk[:, :, None].expand(-1, -1, _CHUNK)
    inner = chunks.gather(1, index).squeeze(1).double().cumsum(dim=-1)  # (rows, _CHUNK)
    # The chunk's sum was float32: a target past the end means its last likely token.
    limit = inner[:, -1:] * (1 - 2.0**-40)
    return torch.searchsorted(inner, torch.minimum(targets, limit), right=True).squeeze(1)
