"""Makes guides of grammars, beside the engine's steps."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from miao_worker.engine.bans import Bans
from miao_worker.engine.guidance.closing import Closable, Closing, Speller
from miao_worker.engine.guidance.guide import TOO_SHORT, Guide, GuideError
from miao_worker.engine.sequence import Sequence

_MAX_KEPT = 128  # grammars
_LONGEST_BAN = 128  # tokens of the prompt that a ban may reach into
_STACK_BYTES = 32 << 20  # grammars are compiled by recursion; fronts try them with less
# Errors must not quote the grammar or the output.
_OPTIONS = "%llguidance"
_NO_FORCING = f'{_OPTIONS} {{"no_forcing": true}}'
_LIMITS = LLParserLimits(verbose_errors=False)


class GuideCompiler:
    """Compiles each grammar once, in a thread of its own, and copies it for each sequence."""

    def __init__(self, vocabulary: LLTokenizer, vocab_size: int) -> None:
        self.vocabulary = vocabulary
        self._vocab_size = vocab_size
        self._speller: Speller | None = None
        self._kept: OrderedDict[str, tuple[LLMatcher, Closable]] = OrderedDict()
        self._threads: ThreadPoolExecutor | None = None

    def compile(self, grammar: str, sequence: Sequence, max_tokens: int) -> Future[Guide]:
        """A guide that has followed a sequence's output so far. The result raises GuideError.

        max_tokens: the most that the output may have.
        """
        if self._threads is None:
            self._threads = _one_thread()
        return self._threads.submit(self._guide, grammar, sequence, max_tokens)

    def _guide(self, grammar: str, sequence: Sequence, max_tokens: int) -> Guide:
        matcher, closable = self._compiled(grammar)
        if self._speller is None:
            self._speller = Speller(self.vocabulary, self._vocab_size)
        prompt = sequence.token_ids[: sequence.num_prompt_tokens]
        output = sequence.token_ids[sequence.num_prompt_tokens :]
        bans = Bans(sequence.sampling.bad_token_ids)
        eos_token_id = self.vocabulary.eos_token
        closing = Closing(
            closable, self._speller, eos_token_id, bans, prompt[-_LONGEST_BAN:], max_tokens
        )
        if closing.num_end_tokens > max_tokens and not output:
            raise GuideError(TOO_SHORT.format(max_tokens, closing.num_end_tokens))
        guide = Guide(matcher.deep_copy(), closing if closing.is_known else None)
        guide.take(output)
        return guide

    def _compiled(self, grammar: str) -> tuple[LLMatcher, Closable]:
        kept = self._kept.get(grammar)
        if kept is None:
            unforced = without_forcing(grammar)
            matcher = LLMatcher(self.vocabulary, unforced, log_level=0, limits=_LIMITS)
            if matcher.is_error():
                raise GuideError("the grammar of the output cannot be used with this model")
            kept = self._kept[grammar] = (matcher, Closable.of(grammar))
        self._kept.move_to_end(grammar)
        if len(self._kept) > _MAX_KEPT:
            self._kept.popitem(last=False)
        return kept


def without_forcing(grammar: str) -> str:
    """The same grammar, by which a text that is left to say may be said in any tokens.

    llguidance would else allow one tokenization of it alone. A model that has to spell a key of
    JSON in tokens that it would not have chosen goes on worse, and takes more steps for it.
    """
    if not grammar.lstrip().startswith("{"):
        return grammar if _OPTIONS in grammar else f"{_NO_FORCING}\n{grammar}"
    (part,) = json.loads(grammar)["grammars"]
    if part.get("lark_grammar"):
        return f"{_NO_FORCING}\n{part['lark_grammar']}"
    return f"{_NO_FORCING}\nstart: %json {json.dumps(part['json_schema'])}"


def _one_thread() -> ThreadPoolExecutor:
    """With a deep stack: its size is set for all threads that are started meanwhile."""
    before = threading.stack_size(_STACK_BYTES)
    try:
        threads = ThreadPoolExecutor(1, thread_name_prefix="compile-guides")
        threads.submit(int).result()  # starts it
        return threads
    finally:
        threading.stack_size(before)
