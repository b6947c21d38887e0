"""UnderstandingService on a real front, with a worker that answers what a test says."""

from __future__ import annotations

import struct
from typing import Any

import grpc
import pytest
from tests.integration.service.conftest import Claimed, ScriptedWorker, tokenizer
from tokenizers import processors

from miao.internal.v1.queue_pb2 import EncoderCard, UnderstandingEntry, UnderstandingResult
from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as generations
from miao.v1 import understanding_pb2 as understanding
from miao.v1 import understanding_service_pb2 as rpc
from miao.v1.understanding_service_pb2_grpc import UnderstandingServiceStub
from miao_queue import keys, records

DIMENSIONS = 4


def encoder(make_worker: Any, name: str, *tasks: understanding.Task, **fields: Any) -> Any:
    """A worker that has announced an encoder with a token for each byte, and two around them."""
    made = tokenizer()
    ends = [(text, made.token_to_id(text)) for text in ("<|im_start|>", "<|im_end|>")]
    made.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        pair="<|im_start|> $A <|im_end|> $B:1 <|im_end|>:1",
        special_tokens=ends,
    )
    worker = make_worker(
        name,
        tokenizer_json=made.to_str(),
        max_model_length=32,
        chat_template="",
        tasks=tasks,
        encoder=EncoderCard(takes_type_ids=True, **fields),
    )
    worker.announce()
    return worker


@pytest.fixture
def embedder(make_worker: Any) -> ScriptedWorker:
    task = understanding.TASK_EMBED
    made: ScriptedWorker = encoder(make_worker, "vectors", task, embedding_dimensions=DIMENSIONS)
    return made


@pytest.fixture
def stub(front: Any) -> Any:
    return UnderstandingServiceStub(front.channel)


def finish(
    worker: ScriptedWorker,
    claimed: Claimed,
    rows: list[list[float]],
    reason: pb.FinishReason = pb.FINISH_REASON_STOP,
) -> int:
    """Write the end of a job, as a worker does; the code that Redis answers."""
    finished = records.finished_message(claimed.record, reason, claimed.record.accept_ms + 5)
    packed = [struct.pack(f"<{len(row)}f", *row) for row in rows]
    entry = UnderstandingEntry(
        event=pb.GenerationEvent(finished=finished), result=UnderstandingResult(rows=packed)
    )
    code, _ = worker._finish(
        args=[
            *(claimed.generation_id, claimed.owner, 0, entry.SerializeToString()),
            *(finished.SerializeToString(), claimed.record.retention_seconds),
        ]
    )
    return int(code)


def embed(*inputs: str, **fields: Any) -> rpc.EmbedRequest:
    return rpc.EmbedRequest(inputs=inputs, model="vectors", **fields)


async def test_an_answer_comes_once_and_is_given_again_for_the_same_key(
    stub: Any, embedder: ScriptedWorker, front: Any, refused: Any, database: Any
) -> None:
    request = embed("ab", "c", request_id="r1", normalize=True)
    first, second = stub.Embed(request), stub.Embed(request)
    claimed = await embedder.next()
    assert finish(embedder, claimed, [[1, 2, 3, 4], [5, 6, 7, 8]]) == 0
    answers = [await first, await second, await stub.Embed(request)]
    assert answers[0] == answers[1] == answers[2]
    assert embedder.claim() is None
    (one, two), usage = answers[0].embeddings, answers[0].usage
    assert struct.unpack("<4f", two.values) == (5, 6, 7, 8)
    assert (one.num_tokens, two.num_tokens, usage.input_tokens) == (4, 3, 7)
    assert (await refused(stub.Embed(embed("other", request_id="r1")))).reason == (
        "REQUEST_ID_CONFLICT"
    )
    ttl = database.ttl(keys.generation(claimed.generation_id))
    assert 0 < ttl <= 120


async def test_what_is_asked_of_encoders_is_no_generation(
    stub: Any, embedder: ScriptedWorker, front: Any, refused: Any
) -> None:
    call = stub.Embed(embed("x"))
    claimed = await embedder.next()
    listed = await front.generations.ListGenerations(generations.ListGenerationsRequest())
    assert not listed.generations
    name = {"generation_id": claimed.generation_id}
    for method, request in (
        ("GetGeneration", generations.GetGenerationRequest(**name)),
        ("FollowGeneration", generations.FollowGenerationRequest(**name)),
    ):
        refusal = await refused(getattr(front.generations, method)(request))
        assert refusal.code is grpc.StatusCode.NOT_FOUND
    finish(embedder, claimed, [[0] * DIMENSIONS])
    await call


@pytest.mark.parametrize(
    ("request_", "field", "words"),
    [
        (embed(), "inputs", "at least 1"),
        (embed(*["x"] * 1025), "inputs", "at most 1,024"),
        (embed("x" * 31), "inputs[0]", "33 tokens long; the model takes 32"),
        (embed("x", dimensions=5), "dimensions", "at most 4"),
        (embed("x", dimensions=0), "dimensions", "at least 1"),
        (embed("x", prompt_name="q"), "prompt_name", "it has: none"),
        (embed("x", overlong=9), "overlong", "must be one of"),
        (embed("x", handling={"timeout": {"seconds": -1}}), "handling.timeout", "above 0 s"),
        (rpc.EmbedRequest(inputs=["x"], model="tiny"), "model", "is for Generate"),
        (rpc.RerankRequest(query="q", documents=["x"], model="vectors"), "model", "for Embed"),
        (rpc.ClassifyRequest(inputs=[{"text": "x"}], top_k=0), "top_k", "at least 1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_request_is_told_its_field_and_limit_and_writes_nothing(
    stub: Any,
    embedder: ScriptedWorker,
    refused: Any,
    database: Any,
    request_: Any,
    field: str,
    words: str,
) -> None:
    method = type(request_).DESCRIPTOR.name.removesuffix("Request")
    refusal = await refused(getattr(stub, method)(request_))
    assert refusal.code is grpc.StatusCode.INVALID_ARGUMENT
    assert refusal.fields == [field]
    assert words in refusal.message
    assert not database.keys("miao:gen:*")


async def test_what_is_too_long_is_cut_where_that_is_asked_for(
    stub: Any, embedder: ScriptedWorker
) -> None:
    call = stub.Embed(embed("x" * 100, "y", overlong=understanding.OVERLONG_CUT))
    claimed = await embedder.next()
    finish(embedder, claimed, [[0] * DIMENSIONS] * 2)
    long, short = (await call).embeddings
    assert (long.num_tokens, long.is_cut, long.num_cut_tokens) == (32, True, 70)
    assert (short.num_tokens, short.is_cut, short.num_cut_tokens) == (3, False, 0)


async def test_of_a_pair_what_was_cut_of_both_is_counted(stub: Any, make_worker: Any) -> None:
    worker = encoder(make_worker, "cross", understanding.TASK_RERANK, labels=["fit"])
    cut = understanding.OVERLONG_CUT
    call = stub.Rerank(rpc.RerankRequest(query="q" * 40, documents=["x" * 50], overlong=cut))
    finish(worker, await worker.next(), [[0.5]])
    (said,) = (await call).results
    assert (said.num_tokens, said.is_cut, said.num_cut_tokens) == (32, True, 40 + 50 + 3 - 32)


async def test_text_cannot_smuggle_in_a_control_token(stub: Any, embedder: ScriptedWorker) -> None:
    call = stub.Embed(embed("a<|im_end|>b"), timeout=3)
    claimed = await embedder.next()
    finish(embedder, claimed, [[0] * DIMENSIONS])
    assert (await call).embeddings[0].num_tokens == 2 + len("a<|im_end|>b")


async def test_tokens_come_with_their_places_in_the_text(stub: Any, make_worker: Any) -> None:
    task = understanding.TASK_CLASSIFY_TOKENS
    worker = encoder(make_worker, "names", task, labels=["O", "B-PER"])
    call = stub.Classify(rpc.ClassifyRequest(inputs=[{"text": "a秒b"}]))  # the only one that does
    claimed = await worker.next()
    finish(worker, claimed, [[0, 0.5, 0, 0.9, 1, 0.8, 1, 0.8, 1, 0.8, 1, 0.7, 0, 0.5]])
    (said,) = (await call).classifications
    assert [(t.label, t.start, t.end) for t in said.tokens] == [
        ("O", 0, 1),
        *[("B-PER", 1, 2)] * 3,  # a token for each byte
        ("B-PER", 2, 3),
    ]
    assert not said.labels


async def test_pairs_are_ranked_and_labelled_by_their_scores(stub: Any, make_worker: Any) -> None:
    tasks = (understanding.TASK_RERANK, understanding.TASK_CLASSIFY)
    worker = encoder(make_worker, "cross", *tasks, labels=["fit"])
    call = stub.Rerank(rpc.RerankRequest(query="q", documents=["a", "bc", "d"], top_n=2))
    claimed = await worker.next()
    job = records.Job.FromString(claimed.state[b"job"]).understanding
    assert list(job.inputs[1].type_ids) == [0, 0, 0, 1, 1, 1]
    finish(worker, claimed, [[0.1], [0.7], [0.7]])
    results = (await call).results
    assert [(r.index, round(r.score, 2), r.num_tokens) for r in results] == [
        (1, 0.7, 6),
        (2, 0.7, 5),
    ]


async def test_the_best_labels_alone_and_the_models_own_numbers(
    stub: Any, make_worker: Any
) -> None:
    worker = encoder(make_worker, "moods", understanding.TASK_CLASSIFY, labels=["a", "b", "c"])
    call = stub.Classify(rpc.ClassifyRequest(inputs=[{"text": "x"}], top_k=2, raw_scores=True))
    claimed = await worker.next()
    assert records.Job.FromString(claimed.state[b"job"]).understanding.raw_scores
    finish(worker, claimed, [[-1.5, 2.5, 0.5]])
    (said,) = (await call).classifications
    assert [(each.label, each.score) for each in said.labels] == [("b", 2.5), ("c", 0.5)]


async def test_a_deadline_ends_what_waits_and_what_no_worker_answers(
    stub: Any, embedder: ScriptedWorker, refused: Any
) -> None:
    waits = stub.Embed(embed("x", handling={"queue_timeout": {"nanos": 50_000_000}}))
    refusal = await refused(waits)
    assert (refusal.code.name, refusal.reason) == ("DEADLINE_EXCEEDED", "JOB_OVERDUE")
    assert embedder.claim() is None


@pytest.mark.parametrize("choice", [pb.ON_DISCONNECT_CANCEL, pb.ON_DISCONNECT_CONTINUE])
async def test_a_caller_who_leaves_ends_the_work_unless_it_wants_it(
    stub: Any, embedder: ScriptedWorker, database: Any, eventually: Any, refused: Any, choice: Any
) -> None:
    request = embed("x", request_id="r", handling={"on_disconnect": choice})
    call = stub.Embed(request)
    key = keys.generation(records.generation_id(records.TENANT, "r"))
    await eventually(lambda: database.exists(key))
    call.cancel()
    if choice == pb.ON_DISCONNECT_CANCEL:
        await eventually(lambda: database.hget(key, "status") == b"finished")
        assert embedder.claim() is None
        assert (await refused(stub.Embed(request))).reason == "JOB_CANCELLED"
    else:
        claimed = await embedder.next()
        finish(embedder, claimed, [[1, 2, 3, 4]])
        assert len((await stub.Embed(request)).embeddings) == 1


async def test_a_job_that_fails_says_so(
    stub: Any, embedder: ScriptedWorker, database: Any, refused: Any
) -> None:
    call = stub.Embed(embed("x"))
    finish(embedder, await embedder.next(), [], pb.FINISH_REASON_ERROR)
    refusal = await refused(call)
    assert (refusal.code.name, refusal.reason) == ("INTERNAL", "JOB_FAILED")
