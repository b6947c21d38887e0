"""Calls that answer once, and the refusals of every call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2

from miao.v1 import generation_pb2 as pb
from miao.v1 import model_service_pb2 as models_pb
from miao_client import (
    AlreadyExistsError,
    BusyError,
    Client,
    DeadlineExceededError,
    FieldViolation,
    GenerationNotFoundError,
    GenerationState,
    InvalidRequestError,
    ModelNotFoundError,
    UnsupportedError,
)

MODEL = models_pb.Model(
    name="m",
    architecture="LlamaForCausalLM",
    num_parameters=5_000_000,
    dtype="float32",
    max_model_length=512,
    vocab_size=4096,
    has_chat_template=True,
    default_sampling=pb.Sampling(temperature=0.0),
    num_workers=1,
    num_queued=0,
)


@pytest.fixture
def client(target: str) -> Any:
    with Client(target) as client:
        yield client


def busy(service: Any, seconds: float = 0.1) -> Exception:
    retry = error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(seconds * 1e9)))
    quota = error_details_pb2.QuotaFailure()
    quota.violations.add(subject="model:m", description="the backlog of 10 is full")
    refusal: Exception = service.Refuse(grpc.StatusCode.RESOURCE_EXHAUSTED, "busy", quota, retry)
    return refusal


def test_create_returns_at_once(service: Any, client: Client) -> None:
    service.script(
        "CreateGeneration", {"generation": service.generation(pb.GENERATION_STATE_QUEUED)}
    )
    generation = client.create("hello", max_tokens=0)
    assert (generation.generation_id, generation.state) == ("gen-1", GenerationState.QUEUED)
    (request,) = service.requests("CreateGeneration")
    assert request.spec.HasField("max_tokens")
    assert request.request_id


def test_get_reads_the_end_and_the_output(service: Any, client: Client) -> None:
    generation = service.generation(
        pb.GENERATION_STATE_FINISHED,
        finished=pb.Finished(reason=pb.FINISH_REASON_STOP, stop_token_id=0),
        output=pb.Output(text="a", token_ids=[1]),
    )
    generation.accept_time.FromJsonString("2030-01-02T03:04:05Z")
    service.script("GetGeneration", {"generation": generation})
    found = client.get("gen-1", include_output=True)
    assert found.ending is not None
    assert found.output is not None
    assert (found.ending.reason, found.ending.stopped_by) == ("stop", 0)
    assert (found.output.text, found.output.token_ids) == ("a", (1,))
    assert found.accept_time == datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert service.requests("GetGeneration")[0].include_output


def test_list_fetches_pages_as_needed(service: Any, client: Client) -> None:
    pages = [["a", "b"], [], ["c"]]
    for number, names in enumerate(pages, start=1):
        page = [service.generation(generation_id=name) for name in names]
        token = str(number) if number < len(pages) else ""
        service.script("ListGenerations", {"generations": page, "next_page_token": token})
    found = client.list(model="m", state="running", page_size=2)
    assert next(found).generation_id == "a"
    assert len(service.requests("ListGenerations")) == 1
    assert [generation.generation_id for generation in found] == ["b", "c"]
    requests = service.requests("ListGenerations")
    assert [request.page_token for request in requests] == ["", "1", "2"]
    assert {request.state for request in requests} == {pb.GENERATION_STATE_RUNNING}


def test_cancel_returns_the_generation(service: Any, client: Client) -> None:
    service.script("CancelGeneration", {"generation": service.generation()})
    assert client.cancel("gen-1").state is GenerationState.RUNNING


def test_models_are_described(service: Any, client: Client) -> None:
    service.script("ListModels", {"models": [MODEL]})
    service.script("GetModel", {"model": MODEL})
    (model,) = client.models()
    assert model == client.model("m")
    assert (model.name, model.num_parameters, model.has_chat_template) == ("m", 5_000_000, True)
    assert (model.default_sampling.temperature, model.default_sampling.top_k) == (0.0, None)


def test_the_clients_model_is_used_where_none_is_named(service: Any, target: str) -> None:
    service.script("GetModel", {"model": MODEL}, {"model": MODEL})
    service.script("Tokenize", {"token_ids": [1]})
    service.script("Generate", service.answer("a"))
    with Client(target, model="m") as client:
        client.model()
        client.model("other")
        client.tokenize("hello")
        client.generate("hello").result()
    assert [request.name for request in service.requests("GetModel")] == ["m", "other"]
    assert service.requests("Tokenize")[0].model == "m"
    assert service.requests("Generate")[0].spec.model == "m"


def test_tokenize_takes_text_and_messages(service: Any, client: Client) -> None:
    answer = {"token_ids": [5, 6], "tokens": ["为", "什么"], "max_model_length": 512}
    service.script("Tokenize", answer, answer)
    found = client.tokenize("为什么")
    assert (found.token_ids, found.tokens, found.max_model_length) == ((5, 6), ("为", "什么"), 512)
    client.tokenize([{"role": "user", "content": "x"}])
    assert service.requests("Tokenize")[1].chat.messages[0].content == "x"


def test_a_call_is_made_again_when_its_connection_breaks(service: Any, client: Client) -> None:
    cut = service.Refuse(grpc.StatusCode.UNAVAILABLE, "Socket closed")
    service.script("ListModels", cut, cut, {"models": [MODEL]})
    assert len(client.models()) == 1


def test_a_call_has_a_deadline(service: Any, target: str) -> None:
    service.script("ListModels", lambda _: service.hold())
    with Client(target, call_timeout=0.2) as client, pytest.raises(DeadlineExceededError):
        client.models()


def test_a_wrong_field_is_named(service: Any, client: Client) -> None:
    wrong = error_details_pb2.BadRequest()
    wrong.field_violations.add(field="spec.max_tokens", description="must be at least 1")
    refusal = service.Refuse(grpc.StatusCode.INVALID_ARGUMENT, "max_tokens is 0", wrong)
    service.script("Generate", refusal)
    with pytest.raises(InvalidRequestError, match="max_tokens is 0") as caught:
        client.generate("hello", max_tokens=0).result()
    assert caught.value.violations == (FieldViolation("spec.max_tokens", "must be at least 1"),)
    assert caught.value.result is not None
    assert caught.value.result.generation_id is None


def test_a_busy_service_is_raised_at_once(service: Any, client: Client) -> None:
    service.script("Generate", busy(service))
    with pytest.raises(BusyError) as caught:
        _ = client.generate("hello").generation_id
    assert caught.value.retry_after == 0.1
    assert caught.value.limits[0].subject == "model:m"


def test_a_busy_service_is_waited_for_where_asked(service: Any, target: str) -> None:
    service.script("Generate", busy(service), busy(service), service.answer("a"))
    service.script("CreateGeneration", busy(service), {"generation": service.generation()})
    with Client(target, wait_when_busy=5) as client:
        assert client.generate("hello").text == "a"
        assert client.create("hello").generation_id == "gen-1"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.NOT_FOUND, ModelNotFoundError),
        (grpc.StatusCode.ALREADY_EXISTS, AlreadyExistsError),
    ],
)
def test_a_refused_generation_says_why(
    service: Any, client: Client, code: grpc.StatusCode, kind: type[Exception]
) -> None:
    service.script("Generate", service.Refuse(code, "because"))
    service.script("CreateGeneration", service.Refuse(code, "because"))
    with pytest.raises(kind, match="because"):
        client.generate("hello").result()
    with pytest.raises(kind, match="because"):
        client.create("hello")


def test_an_unknown_generation_is_not_found(service: Any, client: Client) -> None:
    unknown = service.Refuse(grpc.StatusCode.NOT_FOUND, "no such generation")
    for method in ("GetGeneration", "CancelGeneration", "FollowGeneration"):
        service.script(method, unknown)
    for call in (client.get, client.cancel, lambda name: client.follow(name).result()):
        with pytest.raises(GenerationNotFoundError):
            call("gen-2")


def test_an_older_service_does_not_know_a_call(client: Client) -> None:
    with pytest.raises(UnsupportedError):
        client.models()
