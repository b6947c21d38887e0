from miao.v1 import understanding_pb2 as _understanding_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EmbedRequest(_message.Message):
    __slots__ = ("request_id", "model", "inputs", "overlong", "prompt_name", "dimensions", "normalize", "handling")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OVERLONG_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    HANDLING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    inputs: _containers.RepeatedScalarFieldContainer[str]
    overlong: _understanding_pb2.Overlong
    prompt_name: str
    dimensions: int
    normalize: bool
    handling: _understanding_pb2.Handling
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., inputs: _Optional[_Iterable[str]] = ..., overlong: _Optional[_Union[_understanding_pb2.Overlong, str]] = ..., prompt_name: _Optional[str] = ..., dimensions: _Optional[int] = ..., normalize: bool = ..., handling: _Optional[_Union[_understanding_pb2.Handling, _Mapping]] = ...) -> None: ...

class EmbedResponse(_message.Message):
    __slots__ = ("request_id", "model", "embeddings", "dimensions", "usage", "timings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    embeddings: _containers.RepeatedCompositeFieldContainer[_understanding_pb2.Embedding]
    dimensions: int
    usage: _understanding_pb2.UnderstandingUsage
    timings: _understanding_pb2.UnderstandingTimings
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., embeddings: _Optional[_Iterable[_Union[_understanding_pb2.Embedding, _Mapping]]] = ..., dimensions: _Optional[int] = ..., usage: _Optional[_Union[_understanding_pb2.UnderstandingUsage, _Mapping]] = ..., timings: _Optional[_Union[_understanding_pb2.UnderstandingTimings, _Mapping]] = ...) -> None: ...

class ClassifyRequest(_message.Message):
    __slots__ = ("request_id", "model", "inputs", "overlong", "top_k", "raw_scores", "handling")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OVERLONG_FIELD_NUMBER: _ClassVar[int]
    TOP_K_FIELD_NUMBER: _ClassVar[int]
    RAW_SCORES_FIELD_NUMBER: _ClassVar[int]
    HANDLING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    inputs: _containers.RepeatedCompositeFieldContainer[_understanding_pb2.ClassifyInput]
    overlong: _understanding_pb2.Overlong
    top_k: int
    raw_scores: bool
    handling: _understanding_pb2.Handling
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., inputs: _Optional[_Iterable[_Union[_understanding_pb2.ClassifyInput, _Mapping]]] = ..., overlong: _Optional[_Union[_understanding_pb2.Overlong, str]] = ..., top_k: _Optional[int] = ..., raw_scores: bool = ..., handling: _Optional[_Union[_understanding_pb2.Handling, _Mapping]] = ...) -> None: ...

class ClassifyResponse(_message.Message):
    __slots__ = ("request_id", "model", "classifications", "usage", "timings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CLASSIFICATIONS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    classifications: _containers.RepeatedCompositeFieldContainer[_understanding_pb2.Classification]
    usage: _understanding_pb2.UnderstandingUsage
    timings: _understanding_pb2.UnderstandingTimings
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., classifications: _Optional[_Iterable[_Union[_understanding_pb2.Classification, _Mapping]]] = ..., usage: _Optional[_Union[_understanding_pb2.UnderstandingUsage, _Mapping]] = ..., timings: _Optional[_Union[_understanding_pb2.UnderstandingTimings, _Mapping]] = ...) -> None: ...

class RerankRequest(_message.Message):
    __slots__ = ("request_id", "model", "query", "documents", "overlong", "top_n", "raw_scores", "handling")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    QUERY_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    OVERLONG_FIELD_NUMBER: _ClassVar[int]
    TOP_N_FIELD_NUMBER: _ClassVar[int]
    RAW_SCORES_FIELD_NUMBER: _ClassVar[int]
    HANDLING_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    query: str
    documents: _containers.RepeatedScalarFieldContainer[str]
    overlong: _understanding_pb2.Overlong
    top_n: int
    raw_scores: bool
    handling: _understanding_pb2.Handling
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., query: _Optional[str] = ..., documents: _Optional[_Iterable[str]] = ..., overlong: _Optional[_Union[_understanding_pb2.Overlong, str]] = ..., top_n: _Optional[int] = ..., raw_scores: bool = ..., handling: _Optional[_Union[_understanding_pb2.Handling, _Mapping]] = ...) -> None: ...

class RerankResponse(_message.Message):
    __slots__ = ("request_id", "model", "results", "usage", "timings")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    model: str
    results: _containers.RepeatedCompositeFieldContainer[_understanding_pb2.RankedDocument]
    usage: _understanding_pb2.UnderstandingUsage
    timings: _understanding_pb2.UnderstandingTimings
    def __init__(self, request_id: _Optional[str] = ..., model: _Optional[str] = ..., results: _Optional[_Iterable[_Union[_understanding_pb2.RankedDocument, _Mapping]]] = ..., usage: _Optional[_Union[_understanding_pb2.UnderstandingUsage, _Mapping]] = ..., timings: _Optional[_Union[_understanding_pb2.UnderstandingTimings, _Mapping]] = ...) -> None: ...
