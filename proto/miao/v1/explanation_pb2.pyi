from miao.v1 import generation_pb2 as _generation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExplainMethod(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPLAIN_METHOD_UNSPECIFIED: _ClassVar[ExplainMethod]
    EXPLAIN_METHOD_LEAVE_ONE_OUT: _ClassVar[ExplainMethod]
    EXPLAIN_METHOD_GRADIENT_X_INPUT: _ClassVar[ExplainMethod]
    EXPLAIN_METHOD_INTEGRATED_GRADIENTS: _ClassVar[ExplainMethod]
EXPLAIN_METHOD_UNSPECIFIED: ExplainMethod
EXPLAIN_METHOD_LEAVE_ONE_OUT: ExplainMethod
EXPLAIN_METHOD_GRADIENT_X_INPUT: ExplainMethod
EXPLAIN_METHOD_INTEGRATED_GRADIENTS: ExplainMethod

class InputToken(_message.Message):
    __slots__ = ("token_id", "text", "text_index", "start_byte", "end_byte", "is_special")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TEXT_INDEX_FIELD_NUMBER: _ClassVar[int]
    START_BYTE_FIELD_NUMBER: _ClassVar[int]
    END_BYTE_FIELD_NUMBER: _ClassVar[int]
    IS_SPECIAL_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    text: str
    text_index: int
    start_byte: int
    end_byte: int
    is_special: bool
    def __init__(self, token_id: _Optional[int] = ..., text: _Optional[str] = ..., text_index: _Optional[int] = ..., start_byte: _Optional[int] = ..., end_byte: _Optional[int] = ..., is_special: bool = ...) -> None: ...

class OutputToken(_message.Message):
    __slots__ = ("token_id", "text", "logprob", "candidates")
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    LOGPROB_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    token_id: int
    text: str
    logprob: float
    candidates: _containers.RepeatedCompositeFieldContainer[_generation_pb2.TopLogprob]
    def __init__(self, token_id: _Optional[int] = ..., text: _Optional[str] = ..., logprob: _Optional[float] = ..., candidates: _Optional[_Iterable[_Union[_generation_pb2.TopLogprob, _Mapping]]] = ...) -> None: ...

class Attribution(_message.Message):
    __slots__ = ("output_index", "whole_output", "label", "scores", "value", "baseline_value", "delta")
    OUTPUT_INDEX_FIELD_NUMBER: _ClassVar[int]
    WHOLE_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    BASELINE_VALUE_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    output_index: int
    whole_output: bool
    label: str
    scores: _containers.RepeatedScalarFieldContainer[float]
    value: float
    baseline_value: float
    delta: float
    def __init__(self, output_index: _Optional[int] = ..., whole_output: bool = ..., label: _Optional[str] = ..., scores: _Optional[_Iterable[float]] = ..., value: _Optional[float] = ..., baseline_value: _Optional[float] = ..., delta: _Optional[float] = ...) -> None: ...
