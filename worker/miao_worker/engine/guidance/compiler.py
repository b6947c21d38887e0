"""Makes guides of grammars, beside the engine's steps."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence as Items
from concurrent.futures import Future, ThreadPoolExecutor

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from miao_worker.engine.guidance.guide import Guide, GuideError

_MAX_KEPT = 128  # grammars
_STACK_BYTES = 32 << 20  # grammars are compiled by recursion; fronts try them with less
# Errors must not quote the grammar or the output.
_LIMITS = LLParserLimits(verbose_errors=False)


class GuideCompiler:
    """Compiles each grammar once, in a thread of its own, and copies it for each sequence."""

    def __init__(self, vocabulary: LLTokenizer) -> None:
        self.vocabulary = vocabulary
        self._kept: OrderedDict[str, LLMatcher] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    def compile(self, grammar: str, output_token_ids: Items[int] = ()) -> Future[Guide]:
        """A guide that has followed the output so far. The result raises GuideError."""
        if self._threads is None:
            self._threads = _one_thread()
        return self._threads.submit(self._guide, grammar, tuple(output_token_ids))

    def _guide(self, grammar: str, output_token_ids: tuple[int, ...]) -> Guide:
        guide = Guide(self._matcher(grammar).deep_copy())
        guide.take(output_token_ids)
        return guide

    def _matcher(self, grammar: str) -> LLMatcher:
        matcher = self._kept.get(grammar)
        if matcher is None:
            matcher = LLMatcher(self.vocabulary, grammar, log_level=0, limits=_LIMITS)
            if matcher.is_error():
                raise GuideError("the grammar of the output cannot be used with this model")
            self._kept[grammar] = matcher
        self._kept.move_to_end(grammar)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return matcher


def _one_thread() -> ThreadPoolExecutor:
    """With a deep stack: its size is set for all threads that are started meanwhile."""
    before = threading.stack_size(_STACK_BYTES)
    try:
        threads = ThreadPoolExecutor(1, thread_name_prefix="compile-guides")
        threads.submit(int).result()  # starts it
        return threads
    finally:
        threading.stack_size(before)
