"""The calls of the contract, and the ones that answer once as ready-made operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from miao.v1 import generation_pb2 as pb
from miao.v1 import generation_service_pb2 as generations
from miao.v1 import model_service_pb2 as models
from miao_client import responses, results
from miao_client.errors import GenerationNotFoundError, ModelNotFoundError, NotFoundError
from miao_client.prompts import Prompt, write_text
from miao_client.tools import Tool, write_tools

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Method:
    """One call: where it lives, what it answers, and what NOT_FOUND means there."""

    path: str
    response: type[Message]
    not_found: type[NotFoundError]


@dataclass(frozen=True, slots=True)
class Operation(Generic[_Answer]):
    """A call that answers once, with its request and how to read its answer."""

    method: Method
    request: Message
    read: Callable[[Any], _Answer]


def _generation_method(
    name: str, response: type[Message], not_found: type[NotFoundError] = GenerationNotFoundError
) -> Method:
    return Method(f"/miao.v1.GenerationService/{name}", response, not_found)


def _model_method(name: str, response: type[Message]) -> Method:
    return Method(f"/miao.v1.ModelService/{name}", response, ModelNotFoundError)


GENERATE = _generation_method("Generate", generations.GenerateResponse, ModelNotFoundError)
FOLLOW = _generation_method("FollowGeneration", generations.FollowGenerationResponse)
CREATE = _generation_method(
    "CreateGeneration", generations.CreateGenerationResponse, ModelNotFoundError
)
GET = _generation_method("GetGeneration", generations.GetGenerationResponse)
LIST = _generation_method("ListGenerations", generations.ListGenerationsResponse)
CANCEL = _generation_method("CancelGeneration", generations.CancelGenerationResponse)
LIST_MODELS = _model_method("ListModels", models.ListModelsResponse)
GET_MODEL = _model_method("GetModel", models.GetModelResponse)
TOKENIZE = _model_method("Tokenize", models.TokenizeResponse)

_STATES = {
    results.GenerationState.UNSPECIFIED: pb.GENERATION_STATE_UNSPECIFIED,
    results.GenerationState.QUEUED: pb.GENERATION_STATE_QUEUED,
    results.GenerationState.RUNNING: pb.GENERATION_STATE_RUNNING,
    results.GenerationState.FINISHED: pb.GENERATION_STATE_FINISHED,
}


@dataclass(frozen=True, slots=True)
class Page:
    """One page of generations; an empty token says it is the last."""

    generations: tuple[results.Generation, ...]
    next_page_token: str


def create(request: generations.GenerateRequest) -> Operation[results.Generation]:
    """Submit a generation without following it."""
    message = generations.CreateGenerationRequest(request_id=request.request_id, spec=request.spec)
    return Operation(CREATE, message, _read_generation)


def get(generation_id: str, include_output: bool) -> Operation[results.Generation]:
    """Say how far a generation is."""
    message = generations.GetGenerationRequest(
        generation_id=generation_id, include_output=include_output
    )
    return Operation(GET, message, _read_generation)


def cancel(generation_id: str) -> Operation[results.Generation]:
    """End a generation."""
    message = generations.CancelGenerationRequest(generation_id=generation_id)
    return Operation(CANCEL, message, _read_generation)


def list_page(
    model: str | None, state: results.GenerationState | str | None, page_size: int, page_token: str
) -> Operation[Page]:
    """One page of the caller's generations, newest first."""
    message = generations.ListGenerationsRequest(
        page_size=page_size, page_token=page_token, model=model or ""
    )
    if state is not None:
        message.state = _STATES[results.GenerationState(state)]
    return Operation(LIST, message, _read_page)


def list_models() -> Operation[tuple[results.Model, ...]]:
    """All models that workers have announced."""
    return Operation(
        LIST_MODELS,
        models.ListModelsRequest(),
        lambda answer: tuple(map(responses.model, answer.models)),
    )


def get_model(name: str | None) -> Operation[results.Model]:
    """One model by its name, or the only one."""
    return Operation(
        GET_MODEL,
        models.GetModelRequest(name=name or ""),
        lambda answer: responses.model(answer.model),
    )


def tokenize(
    prompt: Prompt, model: str | None, tools: Sequence[Tool | Callable[..., Any]] | None = None
) -> Operation[results.Tokenization]:
    """The tokens of a text or a conversation."""
    message = models.TokenizeRequest(model=model or "")
    write_text(message, prompt)
    write_tools(message, tools)
    return Operation(TOKENIZE, message, responses.tokenization)


def _read_generation(answer: Any) -> results.Generation:
    return responses.generation(answer.generation)


def _read_page(answer: generations.ListGenerationsResponse) -> Page:
    found = tuple(responses.generation(message) for message in answer.generations)
    return Page(found, answer.next_page_token)
