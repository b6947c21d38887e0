import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from miao.v1 import generation_pb2 as _generation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ScoreRequest(_message.Message):
    __slots__ = ("request_id", "spec")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    spec: ScoreSpec
    def __init__(self, request_id: _Optional[str] = ..., spec: _Optional[_Union[ScoreSpec, _Mapping]] = ...) -> None: ...

class ScoreSpec(_message.Message):
    __slots__ = ("model", "text", "token_ids", "prompt", "chat", "prompt_token_ids", "top_logprobs", "priority", "timeout", "queue_timeout", "truncation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOP_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATION_FIELD_NUMBER: _ClassVar[int]
    model: str
    text: str
    token_ids: _generation_pb2.TokenIds
    prompt: str
    chat: _generation_pb2.Chat
    prompt_token_ids: _generation_pb2.TokenIds
    top_logprobs: int
    priority: _generation_pb2.Priority
    timeout: _duration_pb2.Duration
    queue_timeout: _duration_pb2.Duration
    truncation: _generation_pb2.Truncation
    def __init__(self, model: _Optional[str] = ..., text: _Optional[str] = ..., token_ids: _Optional[_Union[_generation_pb2.TokenIds, _Mapping]] = ..., prompt: _Optional[str] = ..., chat: _Optional[_Union[_generation_pb2.Chat, _Mapping]] = ..., prompt_token_ids: _Optional[_Union[_generation_pb2.TokenIds, _Mapping]] = ..., top_logprobs: _Optional[int] = ..., priority: _Optional[_Union[_generation_pb2.Priority, str]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., truncation: _Optional[_Union[_generation_pb2.Truncation, str]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("generation_id", "model", "tokens", "log_likelihood", "num_scored_tokens", "perplexity", "usage", "timings", "num_dropped_prompt_tokens")
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    LOG_LIKELIHOOD_FIELD_NUMBER: _ClassVar[int]
    NUM_SCORED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    NUM_DROPPED_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    generation_id: str
    model: str
    tokens: _containers.RepeatedCompositeFieldContainer[ScoredToken]
    log_likelihood: float
    num_scored_tokens: int
    perplexity: float
    usage: _generation_pb2.Usage
    timings: _generation_pb2.Timings
    num_dropped_prompt_tokens: int
    def __init__(self, generation_id: _Optional[str] = ..., model: _Optional[str] = ..., tokens: _Optional[_Iterable[_Union[ScoredToken, _Mapping]]] = ..., log_likelihood: _Optional[float] = ..., num_scored_tokens: _Optional[int] = ..., perplexity: _Optional[float] = ..., usage: _Optional[_Union[_generation_pb2.Usage, _Mapping]] = ..., timings: _Optional[_Union[_generation_pb2.Timings, _Mapping]] = ..., num_dropped_prompt_tokens: _Optional[int] = ...) -> None: ...

class ScoredToken(_message.Message):
    __slots__ = ("token_id", "text", "logprob", "top")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    text: str
    logprob: float
    top: _containers.RepeatedCompositeFieldContainer[_generation_pb2.TopLogprob]
    def __init__(self, token_id: _Optional[int] = ..., text: _Optional[str] = ..., logprob: _Optional[float] = ..., top: _Optional[_Iterable[_Union[_generation_pb2.TopLogprob, _Mapping]]] = ...) -> None: ...
