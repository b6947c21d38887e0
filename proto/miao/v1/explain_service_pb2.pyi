from miao.v1 import explanation_pb2 as _explanation_pb2
from miao.v1 import generation_pb2 as _generation_pb2
from miao.v1 import understanding_pb2 as _understanding_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainRequest(_message.Message):
    __slots__ = ("request_id", "spec")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    spec: ExplainSpec
    def __init__(self, request_id: _Optional[str] = ..., spec: _Optional[_Union[ExplainSpec, _Mapping]] = ...) -> None: ...

class ExplainSpec(_message.Message):
    __slots__ = ("model", "prompt", "chat", "token_ids", "classify", "output_text", "output_token_ids", "max_tokens", "label", "method", "steps", "positions", "whole_output", "candidates", "handling")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    CLASSIFY_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TEXT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    HANDLING_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    chat: _generation_pb2.Chat
    token_ids: _generation_pb2.TokenIds
    classify: _understanding_pb2.ClassifyInput
    output_text: str
    output_token_ids: _generation_pb2.TokenIds
    max_tokens: int
    label: str
    method: _explanation_pb2.ExplainMethod
    steps: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    whole_output: bool
    candidates: int
    handling: _understanding_pb2.Handling
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., chat: _Optional[_Union[_generation_pb2.Chat, _Mapping]] = ..., token_ids: _Optional[_Union[_generation_pb2.TokenIds, _Mapping]] = ..., classify: _Optional[_Union[_understanding_pb2.ClassifyInput, _Mapping]] = ..., output_text: _Optional[str] = ..., output_token_ids: _Optional[_Union[_generation_pb2.TokenIds, _Mapping]] = ..., max_tokens: _Optional[int] = ..., label: _Optional[str] = ..., method: _Optional[_Union[_explanation_pb2.ExplainMethod, str]] = ..., steps: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ..., whole_output: bool = ..., candidates: _Optional[int] = ..., handling: _Optional[_Union[_understanding_pb2.Handling, _Mapping]] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("request_id", "model", "method", "texts", "input", "output", "attributions", "labels", "timings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    method: _explanation_pb2.ExplainMethod
    texts: _containers.RepeatedScalarFieldContainer[str]
    input: _containers.RepeatedCompositeFieldContainer[_explanation_pb2.InputToken]
    output: _containers.RepeatedCompositeFieldContainer[_explanation_pb2.OutputToken]
    attributions: _containers.RepeatedCompositeFieldContainer[_explanation_pb2.Attribution]
    labels: _containers.RepeatedCompositeFieldContainer[_understanding_pb2.LabelScore]
    timings: _understanding_pb2.UnderstandingTimings
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., method: _Optional[_Union[_explanation_pb2.ExplainMethod, str]] = ..., texts: _Optional[_Iterable[str]] = ..., input: _Optional[_Iterable[_Union[_explanation_pb2.InputToken, _Mapping]]] = ..., output: _Optional[_Iterable[_Union[_explanation_pb2.OutputToken, _Mapping]]] = ..., attributions: _Optional[_Iterable[_Union[_explanation_pb2.Attribution, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[_understanding_pb2.LabelScore, _Mapping]]] = ..., timings: _Optional[_Union[_understanding_pb2.UnderstandingTimings, _Mapping]] = ...) -> None: ...
