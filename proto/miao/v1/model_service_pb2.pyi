from miao.v1 import explanation_pb2 as _explanation_pb2
from miao.v1 import generation_pb2 as _generation_pb2
from miao.v1 import understanding_pb2 as _understanding_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListModelsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class GetModelResponse(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: Model
    def __init__(self, model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "architecture", "num_parameters", "dtype", "max_model_length", "vocab_size", "has_chat_template", "default_sampling", "num_workers", "num_queued", "base", "tool_format", "separates_reasoning", "tasks", "embedding_dimensions", "labels", "prompt_names", "explain_methods")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    NUM_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    HAS_CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SAMPLING_FIELD_NUMBER: _ClassVar[int]
    NUM_WORKERS_FIELD_NUMBER: _ClassVar[int]
    NUM_QUEUED_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    TOOL_FORMAT_FIELD_NUMBER: _ClassVar[int]
    SEPARATES_REASONING_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_NAMES_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_METHODS_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    num_parameters: int
    dtype: str
    max_model_length: int
    vocab_size: int
    has_chat_template: bool
    default_sampling: _generation_pb2.Sampling
    num_workers: int
    num_queued: int
    base: str
    tool_format: str
    separates_reasoning: bool
    tasks: _containers.RepeatedScalarFieldContainer[_understanding_pb2.Task]
    embedding_dimensions: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    prompt_names: _containers.RepeatedScalarFieldContainer[str]
    explain_methods: _containers.RepeatedScalarFieldContainer[_explanation_pb2.ExplainMethod]
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., num_parameters: _Optional[int] = ..., dtype: _Optional[str] = ..., max_model_length: _Optional[int] = ..., vocab_size: _Optional[int] = ..., has_chat_template: bool = ..., default_sampling: _Optional[_Union[_generation_pb2.Sampling, _Mapping]] = ..., num_workers: _Optional[int] = ..., num_queued: _Optional[int] = ..., base: _Optional[str] = ..., tool_format: _Optional[str] = ..., separates_reasoning: bool = ..., tasks: _Optional[_Iterable[_Union[_understanding_pb2.Task, str]]] = ..., embedding_dimensions: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., prompt_names: _Optional[_Iterable[str]] = ..., explain_methods: _Optional[_Iterable[_Union[_explanation_pb2.ExplainMethod, str]]] = ...) -> None: ...

class TokenizeRequest(_message.Message):
    __slots__ = ("model", "prompt", "chat", "tools")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    model: str
    prompt: str
    chat: _generation_pb2.Chat
    tools: _containers.RepeatedCompositeFieldContainer[_generation_pb2.Tool]
    def __init__(self, model: _Optional[str] = ..., prompt: _Optional[str] = ..., chat: _Optional[_Union[_generation_pb2.Chat, _Mapping]] = ..., tools: _Optional[_Iterable[_Union[_generation_pb2.Tool, _Mapping]]] = ...) -> None: ...

class TokenizeResponse(_message.Message):
    __slots__ = ("token_ids", "tokens", "max_model_length")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    tokens: _containers.RepeatedScalarFieldContainer[str]
    max_model_length: int
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., tokens: _Optional[_Iterable[str]] = ..., max_model_length: _Optional[int] = ...) -> None: ...
