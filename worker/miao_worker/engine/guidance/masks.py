"""Which tokens the guides of a batch allow, found while the model computes it."""

from __future__ import annotations

from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch
from llguidance import LLExecutor, LLMatcher
from torch import Tensor

from miao_worker.engine.batch import Proposal
from miao_worker.engine.guidance.guide import Guide
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.transfer import upload

_WORD_BITS = 32

Flags = npt.NDArray[np.bool_]  # (rows, vocab)
Bits = npt.NDArray[np.uint32]  # (rows, words), the lowest bit of a word first


class Masks:
    """What some rows of a step may not say, ready or being found."""

    def __init__(self, rows: list[int], refused: Future[Flags]) -> None:
        self.rows = rows  # places among the step's logits
        self._refused = refused

    def apply_(self, scores: Tensor) -> None:
        """Set what is not allowed to -inf, in place. Shapes: scores (step's rows, vocab)."""
        refused = self._refused.result()
        if scores.device.type == "cpu" and scores.dtype == torch.float32:
            lines = scores.numpy()  # without waking torch's threads, which costs more than it saves
            for row, line in zip(self.rows, refused, strict=True):
                np.copyto(lines[row], -np.inf, where=line)
            return
        on_device = upload(refused, scores.device)
        if len(self.rows) == len(scores):
            scores.masked_fill_(on_device, -torch.inf)
            return
        for row, line in zip(self.rows, on_device, strict=True):
            scores[row].masked_fill_(line, -torch.inf)

    def wait(self) -> None:
        """Until no thread looks at the guides any more."""
        self._refused.exception()


class MaskFinder:
    """Finds masks in a thread, whose work leaves the interpreter's lock alone."""

    def __init__(self, vocab_size: int, eos_token_ids: Items[int]) -> None:
        self._vocab_size = vocab_size
        self._num_words = -(-vocab_size // _WORD_BITS)
        self._eos_token_ids = frozenset(eos_token_ids)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="find-masks")
        self._executor = LLExecutor()

    def begin(
        self, sequences: Items[Sequence], proposed: Items[Proposal] | None = None
    ) -> Masks | None:
        """Look for the masks of a step's rows, as the sampler will get them.

        None where no row has a guide. Nothing else may use the guides until the
        masks were applied.
        """
        rows = [i for i, sequence in enumerate(sequences) if sequence.guide is not None]
        if not rows:
            return None
        work = [(sequences[i], proposed[i] if proposed else ()) for i in rows]
        return Masks(rows, self._thread.submit(self._find, work))

    def _find(self, work: list[tuple[Sequence, Proposal]]) -> Flags:
        bits = np.zeros((len(work), self._num_words), dtype=np.uint32)
        self._fill(work, bits)
        for line, (sequence, proposed) in zip(bits, work, strict=True):
            self._hold_ends_back(line, sequence, len(proposed))
        flags = np.unpackbits((~bits).view(np.uint8), axis=1, bitorder="little")
        refused: Flags = flags[:, : self._vocab_size].view(np.bool_)
        return refused

    def _fill(self, work: list[tuple[Sequence, Proposal]], bits: Bits) -> None:
        """The grammars' own masks. A line that cannot be reached stays empty."""
        lines = _by_sequence(work)
        address, size = bits.ctypes.data, bits.shape[1] * bits.itemsize
        plain = [(matcher, line) for matcher, line, proposal in lines if not proposal]
        if len(plain) == 1:
            matcher, line = plain[0]
            matcher.unsafe_compute_mask_ptr(address + line * size, size)
        elif plain:
            self._executor.unsafe_compute_mask_ptr(plain, address, size, len(bits))
        drafts = [line for line in lines if line[2]]
        if drafts:
            self._executor.unsafe_compute_mask_ptr_with_draft_token(
                drafts, address, size, len(bits)
            )

    def _hold_ends_back(self, line: Bits, sequence: Sequence, num_proposed: int) -> None:
        """Leave out what would end the sequence too early, unless nothing else is allowed."""
        params = sequence.sampling
        early = sequence.num_output_tokens + num_proposed < params.min_tokens
        held = set(self._eos_token_ids - params.stop_token_ids)  # they do not end it
        if early:
            held |= params.stop_token_ids | self._eos_token_ids
        if not held:
            return
        without = line.copy()
        for token_id in held:
            without[token_id // _WORD_BITS] &= ~np.uint32(1 << (token_id % _WORD_BITS))
        if without.any():
            line[:] = without


def _by_sequence(work: list[tuple[Sequence, Proposal]]) -> list[tuple[LLMatcher, int, list[int]]]:
    """Each sequence once: its matcher, its first line, and the proposal that its lines cover.

    The lines of a sequence follow each other, each with one proposed token more.
    """
    lines: list[tuple[LLMatcher, int, list[int]]] = []
    for line, (sequence, proposed) in enumerate(work):
        guide = sequence.guide
        assert isinstance(guide, Guide)
        if proposed:
            matcher, first, _ = lines[-1]
            lines[-1] = (matcher, first, list(proposed))
        else:
            lines.append((guide.matcher, line, []))
    return lines
