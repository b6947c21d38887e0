"""Grammars in the engine: who waits for one, and what each step may say by them.

add ──► preparing (compiled in a thread) ──► the scheduler, with a guide
│ each step
masks are found in a thread  ◄───────┤ while the model runs
and applied by the sampler   ───────►│
"""

from __future__ import annotations

from collections.abc import Sequence as Items
from concurrent.futures import FIRST_COMPLETED, Future, wait

from miao_worker.engine.bans import Bans
from miao_worker.engine.batch import Proposal
from miao_worker.engine.guidance.compiler import GuideCompiler
from miao_worker.engine.guidance.guide import BANNED, DEAD_END, TOO_COMPLEX, Guide, GuideError
from miao_worker.engine.guidance.masks import MaskFinder, Masks
from miao_worker.engine.guidance.vocabulary import load_vocabulary
from miao_worker.engine.sequence import Sequence


class Guidance:
    """Keeps the grammars of an engine's sequences. Not thread-safe."""

    def __init__(self, compiler: GuideCompiler, masks: MaskFinder) -> None:
        self._compiler = compiler
        self._masks = masks
        self._preparing: dict[str, tuple[Sequence, Future[Guide]]] = {}

    @classmethod
    def of(cls, tokenizer_json: str, vocab_size: int, eos_token_ids: Items[int]) -> Guidance:
        """For a model's tokens. Raises VocabularyError where they cannot be used."""
        vocabulary = load_vocabulary(tokenizer_json, vocab_size, eos_token_ids)
        return cls(GuideCompiler(vocabulary, vocab_size), MaskFinder(vocab_size, eos_token_ids))

    @property
    def is_preparing(self) -> bool:
        return bool(self._preparing)

    def __contains__(self, sequence_id: object) -> bool:
        """Whether the sequence waits for its guide."""
        return sequence_id in self._preparing

    def prepare(self, sequence: Sequence, grammar: str, max_model_length: int) -> None:
        """Compile a sequence's grammar and follow its output so far, beside the steps."""
        room = max_model_length - sequence.num_prompt_tokens
        guide = self._compiler.compile(grammar, sequence, min(room, sequence.sampling.max_tokens))
        self._preparing[sequence.sequence_id] = (sequence, guide)

    def forget(self, sequence_id: str) -> None:
        """Let go of a sequence that waits for its guide."""
        self._preparing.pop(sequence_id, None)

    def prepared(self, *, is_idle: bool) -> list[tuple[Sequence, str | None]]:
        """Those whose guide is there, or why it cannot be.

        is_idle: there is nothing else to do, so at least one is awaited.
        """
        if is_idle and self._preparing:
            futures = [future for _, future in self._preparing.values()]
            wait(futures, return_when=FIRST_COMPLETED)
        ready = [item for item in self._preparing.values() if item[1].done()]
        return [(sequence, self._hand_over(sequence, future)) for sequence, future in ready]

    def find_masks(
        self, sequences: Items[Sequence], proposed: Items[Proposal] | None
    ) -> Masks | None:
        """Begin to look for the masks of a step's rows; None where none has a guide."""
        return self._masks.begin(sequences, proposed)

    def _hand_over(self, sequence: Sequence, future: Future[Guide]) -> str | None:
        del self._preparing[sequence.sequence_id]
        try:
            sequence.guide = future.result()
        except GuideError as error:
            return str(error)
        return None


def allowed_proposals(sequences: Items[Sequence], proposals: Items[Proposal]) -> list[Proposal]:
    """The proposals, each up to the first token that its sequence's guide refuses."""
    return [
        proposal if sequence.guide is None else proposal[: sequence.guide.count_allowed(proposal)]
        for sequence, proposal in zip(sequences, proposals, strict=True)
    ]


def guide_fault(sequence: Sequence) -> str | None:
    """Why a sequence's guide leaves nothing to say; None where it does."""
    if sequence.guide is None:
        return None
    matcher = sequence.guide.matcher
    if matcher.is_error():
        return TOO_COMPLEX
    allowed = bytearray(matcher.compute_bitmask())
    if not any(allowed):
        return DEAD_END
    bans = Bans(sequence.sampling.bad_token_ids)
    for token_id in (*bans.always, *bans.completing(sequence.token_ids)):
        allowed[token_id // 8] &= ~(1 << (token_id % 8))
    return None if any(allowed) else BANNED
