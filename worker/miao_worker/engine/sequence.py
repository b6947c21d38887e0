"""A sequence's state while the engine owns it. Knows no torch and no text."""

from __future__ import annotations

from dataclasses import dataclass, field

from miao_worker.engine.types import FinishReason, SamplingParams, SequenceRequest


@dataclass(slots=True, eq=False)
class Sequence:
    """Tokens, how far they are computed, and the blocks that hold their keys and values.

        token_ids:  [ prompt ............ | output ......... ]
                    [ computed ...... | to compute in steps  ]

    The last token of a decoding sequence is sampled but not yet computed.
    """

    sequence_id: str
    sampling: SamplingParams
    token_ids: list[int]
    num_prompt_tokens: int
    num_computed_tokens: int = 0
    block_table: list[int] = field(default_factory=list)
    block_digests: list[bytes] = field(default_factory=list)  # of full blocks, chained
    num_published_blocks: int = 0  # leading blocks offered to the prefix cache
    num_cached_tokens: int | None = None  # prompt tokens found in the cache when first admitted
    row: int | None = None  # its line in the runner's block table, while it runs
    has_emitted: bool = False
    adjustment: object = None  # the sampler's own, while the sequence lives
    pace: object = None  # the speculator's own
    lookup: object = None  # the prompt lookup's own

    @classmethod
    def from_request(cls, request: SequenceRequest) -> Sequence:
        return cls(
            sequence_id=request.sequence_id,
            sampling=request.sampling,
            token_ids=[*request.prompt_token_ids, *request.output_token_ids],
            num_prompt_tokens=len(request.prompt_token_ids),
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

    def finish_reason(self, max_model_length: int) -> FinishReason | None:
        """Why the sequence ends at its current last token, if it does."""
        if self.num_output_tokens and self.token_ids[-1] in self.sampling.stop_token_ids:
            return FinishReason.STOP
        if self.num_output_tokens >= self.sampling.max_tokens:
            return FinishReason.LENGTH
        if self.num_tokens >= max_model_length:
            return FinishReason.LENGTH
        return None
