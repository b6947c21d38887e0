"""A sequence's state while the engine owns it. Knows no torch and no text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from miao_worker.engine.types import FinishReason, SamplingParams, SequenceRequest

if TYPE_CHECKING:
    from miao_worker.engine.guidance.guide import Guide

_PENDING = 0  # stands in `token_ids` for a token that is not known yet; nobody reads it


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens, how far they are computed, and the blocks that hold their keys and values.

        token_ids:  [ prompt ............ | output ......... ]
                    [ computed ...... | to compute in steps  ]

    The last token of a decoding sequence is sampled but not yet computed. Where
    steps overlap it may be pending: drawn on the device, not known here, `_PENDING`
    in its place.
    """

    sequence_id: str
    sampling: SamplingParams
    token_ids: list[int]
    num_prompt_tokens: int
    adapter: str | None = None  # its id
    tenant: str = ""
    weight: float = 1.0  # the tenant's
    cache_scope: bytes = b""  # with whom blocks are shared
    num_computed_tokens: int = 0
    next_scored: int = 1  # the prompt token whose log-probability is to come next
    scored_end: int = 0  # behind the last one that is scored; 0: none is
    block_table: list[int] = field(default_factory=list)
    block_digests: list[bytes] = field(default_factory=list)  # of full blocks, chained
    num_published_blocks: int = 0  # leading blocks offered to the prefix cache
    num_cached_tokens: int | None = None  # prompt tokens found in the cache when first admitted
    row: int | None = None  # its line in the runner's block table, while it runs
    pending_row: int | None = None  # of the step that draws the last token, while it is pending
    num_in_flight: int = 0  # steps that compute it and whose tokens have not been read
    is_stopped: bool = False  # nothing more of it is to be scheduled
    has_ended: bool = False  # reported or cancelled; stays while a step computes it
    has_emitted: bool = False
    guide: Guide | None = None  # follows the output through its grammar
    adjustment: object = None  # the sampler's own, while the sequence lives
    pace: object = None  # the speculator's own
    lookup: object = None  # the prompt lookup's own

    @classmethod
    def from_request(cls, request: SequenceRequest) -> Sequence:
        asks_scores = request.sampling.num_prompt_logprobs is not None
        return cls(
            sequence_id=request.sequence_id,
            sampling=request.sampling,
            token_ids=[*request.prompt_token_ids, *request.output_token_ids],
            num_prompt_tokens=len(request.prompt_token_ids),
            next_scored=max(1, request.score_from),
            scored_end=len(request.prompt_token_ids) if asks_scores else 0,
            adapter=request.adapter,
            tenant=request.tenant,
            weight=request.weight,
            cache_scope=request.cache_scope,
        )

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_output_tokens(self) -> int:
        return len(self.token_ids) - self.num_prompt_tokens

    @property
    def num_uncomputed_tokens(self) -> int:
        return len(self.token_ids) - self.num_computed_tokens

    @property
    def wants_scores(self) -> bool:
        """Whether log-probabilities of prompt tokens are still to be computed."""
        return self.next_scored < self.scored_end

    @property
    def is_only_scored(self) -> bool:
        """Whether no token is to be drawn: the last one is never computed then."""
        return self.sampling.max_tokens == 0

    @property
    def num_sharable_tokens(self) -> int:
        """The first tokens whose logits nobody needs: their blocks may come from the cache."""
        return self.next_scored - 1 if self.wants_scores else len(self.token_ids) - 1

    def scored_positions(self, start: int, end: int) -> range:
        """Of the positions from start to end, those whose logits score the token after them."""
        if not self.wants_scores:
            return range(0)
        return range(max(start, self.next_scored - 1), min(end, self.scored_end - 1))

    @property
    def num_known_tokens(self) -> int:
        """Tokens without the pending one."""
        return len(self.token_ids) - (self.pending_row is not None)

    def expect(self, row: int) -> None:
        """Go on with a token that the step in flight draws in that row."""
        self.token_ids.append(_PENDING)
        self.pending_row = row

    def learn(self, token_id: int) -> None:
        """Take the next token, or the pending one that has become known.

        Raises GuideError where its grammar does not allow the token.
        """
        if self.guide is not None:
            self.guide.take((token_id,))
        if self.pending_row is None:
            self.token_ids.append(token_id)
        else:
            self.token_ids[-1] = token_id
            self.pending_row = None

    def forget_pending(self) -> None:
        """Without the pending token, which does not count."""
        if self.pending_row is not None:
            self.token_ids.pop()
            self.pending_row = None

    def finish_reason(self, max_model_length: int) -> FinishReason | None:
        """Why the sequence ends at its current last token, if it does."""
        if self.num_output_tokens and self.token_ids[-1] in self.sampling.stop_token_ids:
            return FinishReason.STOP
        if self.guide is not None and self.guide.is_over:
            return FinishReason.STOP
        return FinishReason.LENGTH if self.is_full(max_model_length) else None

    def is_full(self, max_model_length: int) -> bool:
        """Whether the current last token is the last, whichever it is."""
        if self.wants_scores:
            return False
        return (
            self.num_output_tokens >= self.sampling.max_tokens
            or self.num_tokens >= max_model_length
        )
