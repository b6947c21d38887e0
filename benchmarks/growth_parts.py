"""The parts of the service that take a generation token by token, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

import numpy as np
import torch
from redis import Redis
from tokenizers import Tokenizer

from miao.internal.v1.queue_pb2 import AnswerForm, Job, ReasoningFormat
from miao.v1 import generation_pb2 as pb
from miao.v1.generation_service_pb2 import GenerateResponse
from miao_client.progress import Progress
from miao_queue import events, keys
from miao_queue.claims import Append, Claim, ClaimStore, Entry
from miao_queue.events import Position
from miao_queue.records import Record, Status
from miao_service.follower import Follower
from miao_worker.bundled import bundled_model_path
from miao_worker.engine.adjustments import adjusted
from miao_worker.engine.sequence import Sequence
from miao_worker.engine.speculation.prompt_lookup import PromptLookup
from miao_worker.engine.types import SamplingParams, SequenceOutput, SequenceRequest
from miao_worker.execution import Execution
from miao_worker.tool_formats import FORMATS

MOST = 65536
VOCABULARY = 32000
PROMPT = list(range(300, 364))
TOKENIZER = Tokenizer.from_file(str(bundled_model_path() / "tokenizer.json"))
TOKENS = [int(i) for i in np.random.default_rng(0).integers(300, 3300, MOST)]  # words, mostly

Take = Callable[[int], object]  # the next token, by its place


def execution(**job: object) -> Execution:
    """One that this process runs, for as many tokens as there are."""
    record = Record(
        generation_id="growth",
        request_id="r",
        model="m",
        tenant="t",
        queue="q",
        status=Status.RUNNING,
        attempt=1,
        tokens=0,
        crashes=0,
        crashed_alone=False,
        accept_ms=0,
        deadline_ms=1 << 60,
        queue_deadline_ms=1 << 60,
        retention_seconds=60,
        accepted=pb.Accepted(),
        worker="w",
        claimed_ms=0,
        first_token_ms=None,
        finished=None,
    )
    wanted = Job(prompt_token_ids=PROMPT, max_tokens=1 << 30, **job)  # type: ignore[arg-type]
    claim = Claim(record, wanted, uuid4().hex, [], 0, {})
    return Execution(claim, TOKENIZER, str)


def _said_by(running: Execution, tokens: list[int]) -> Take:
    answer = running.answers[0]

    def take(place: int) -> object:
        return running.advance([(answer, SequenceOutput("s", (tokens[place],)))], 0)

    return take


def text() -> Take:
    """Detokenizing, the event, the journal in memory."""
    return _said_by(execution(), TOKENS)


def stop_texts() -> Take:
    """The same with sixteen stop texts that never come."""
    return _said_by(execution(stop=[f"never {i} said" for i in range(16)]), TOKENS)


def thoughts() -> Take:
    """The same within thoughts that do not end."""
    form = AnswerForm(
        reasoning=ReasoningFormat(start="<think>", end="</think>"), starts_in_reasoning=True
    )
    return _said_by(execution(answer_form=form), TOKENS)


def tool_call() -> Take:
    """The same within an argument of a function's call that does not end."""
    begin = '<tool_call>\n{"name": "write", "arguments": {"text": "'
    ids = TOKENIZER.encode(begin, add_special_tokens=False).ids
    form = AnswerForm(tools=FORMATS["hermes"], tool_names=["write"])
    words = TOKENIZER.encode("one day a small bird came by", add_special_tokens=False).ids
    tokens = [*ids, *(words * (MOST // len(words) + 1))][:MOST]
    return _said_by(execution(answer_form=form), tokens)


def _growing(sampling: SamplingParams) -> Sequence:
    return Sequence.from_request(SequenceRequest("s", tuple(PROMPT), sampling))


def penalties() -> Take:
    """Three penalties and a bias on one row of 32,000 logits."""
    sequence = _growing(
        SamplingParams(
            max_tokens=1 << 30,
            seed=0,
            repetition_penalty=1.1,
            presence_penalty=0.5,
            frequency_penalty=0.5,
            logit_bias=((5, 1.0), (6, -1.0)),
        )
    )
    logits = torch.randn(1, VOCABULARY)

    def take(place: int) -> object:
        sequence.token_ids.append(TOKENS[place])
        return adjusted(logits, [sequence])

    return take


def bad_words() -> Take:
    """Two hundred banned sequences of four tokens."""
    draw = np.random.default_rng(1)
    banned = tuple(tuple(int(i) for i in draw.integers(300, 3300, 4)) for _ in range(200))
    params = SamplingParams(max_tokens=1 << 30, seed=0, bad_token_ids=banned)
    sequence, logits = _growing(params), torch.randn(1, VOCABULARY)

    def take(place: int) -> object:
        sequence.token_ids.append(TOKENS[place])
        return adjusted(logits, [sequence])

    return take


def prompt_lookup() -> Take:
    """Proposals out of the sequence itself."""
    sequence = _growing(SamplingParams(max_tokens=1 << 30, seed=0))
    lookup = PromptLookup()

    def take(place: int) -> object:
        sequence.token_ids.append(TOKENS[place])
        return lookup.propose([sequence], [8])

    return take


def journal() -> list[Entry]:
    """What a worker writes of the tokens."""
    running = execution()
    take = _said_by(running, TOKENS)
    for place in range(MOST):
        take(place)
    return running.entries


def front(entries: list[Entry]) -> Take:
    """The front's place in a journal, and what waits for its reader."""
    follower = Follower("growth", 0, 1 << 20, None)  # type: ignore[arg-type]
    follower.is_live = True

    def take(place: int) -> object:
        entry = entries[place]
        follower.take([(Position(entry.last), entry.payload)])
        batch, follower._waiting = follower._waiting, []
        follower._waiting_bytes = 0
        return batch

    return take


def caller(entries: list[Entry]) -> Take:
    """The SDK: the event's message, its place, the chunk, what is kept for the result."""
    progress = Progress("growth")
    return lambda place: progress.take(GenerateResponse.FromString(entries[place].payload).event)


def callers_tool_call() -> Take:
    """The SDK within an argument of a call."""
    progress = Progress("growth")

    def take(place: int) -> object:
        tokens = pb.Tokens(token_ids=[7])
        delta = pb.ToolCallDelta(index=0, arguments_json=" word")
        if not place:
            delta.id, delta.name = "a", "write"
        tokens.parts.add(token_index=0, tool_call=delta)
        payload = events.tokens(place + 1, 1, tokens, 0)
        return progress.take(GenerateResponse.FromString(payload).event)

    return take


@contextmanager
def redis_parts(client: Redis, entries: list[Entry]) -> Iterator[dict[str, Take]]:
    """Appending to a journal, and reading its end as a front does."""
    owner = uuid4().hex
    client.hset(keys.generation("growth"), mapping={"owner": owner, "tokens": 0})
    claims = ClaimStore(client, "w", 60_000)
    stream = keys.journal("growth")

    def append(place: int) -> object:
        return claims.append([Append("growth", owner, entries[place])])

    def read(place: int) -> object:
        return client.xread({stream: f"{place}-0"}, count=1)

    yield {"redis: append": append, "redis: read the end": read}


def whole_parts(entries: list[Entry]) -> dict[str, Callable[[int], object]]:
    """What reads so many tokens of a journal at once."""
    payloads = [entry.payload for entry in entries]
    return {
        "whole output, for GetGeneration": lambda count: events.output(payloads[:count]),
        "taking over: replay": lambda count: (
            Execution(_begun(entries[:count]), TOKENIZER, str).num_tokens
        ),
    }


def _begun(entries: list[Entry]) -> Claim:
    claim = execution().claim
    return Claim(claim.record, claim.job, claim.owner, entries, 0, {})


TOKEN_PARTS: dict[str, Callable[[], Take]] = {
    "worker: text and journal": text,
    "worker: 16 stop texts": stop_texts,
    "worker: thoughts": thoughts,
    "worker: a tool call": tool_call,
    "engine: penalties": penalties,
    "engine: bad words": bad_words,
    "engine: prompt lookup": prompt_lookup,
    "SDK: a tool call": callers_tool_call,
}
JOURNAL_PARTS: dict[str, Callable[[list[Entry]], Take]] = {
    "front: follow": front,
    "SDK: read": caller,
}
