import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from miao.v1 import generation_pb2 as _generation_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Task(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TASK_UNSPECIFIED: _ClassVar[Task]
    TASK_GENERATE: _ClassVar[Task]
    TASK_EMBED: _ClassVar[Task]
    TASK_CLASSIFY: _ClassVar[Task]
    TASK_CLASSIFY_TOKENS: _ClassVar[Task]
    TASK_RERANK: _ClassVar[Task]

class Overlong(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OVERLONG_UNSPECIFIED: _ClassVar[Overlong]
    OVERLONG_REFUSE: _ClassVar[Overlong]
    OVERLONG_CUT: _ClassVar[Overlong]
TASK_UNSPECIFIED: Task
TASK_GENERATE: Task
TASK_EMBED: Task
TASK_CLASSIFY: Task
TASK_CLASSIFY_TOKENS: Task
TASK_RERANK: Task
OVERLONG_UNSPECIFIED: Overlong
OVERLONG_REFUSE: Overlong
OVERLONG_CUT: Overlong

class Handling(_message.Message):
    __slots__ = ("priority", "timeout", "queue_timeout", "on_disconnect")
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    QUEUE_TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    ON_DISCONNECT_FIELD_NUMBER: _ClassVar[int]
    priority: _generation_pb2.Priority
    timeout: _duration_pb2.Duration
    queue_timeout: _duration_pb2.Duration
    on_disconnect: _generation_pb2.OnDisconnect
    def __init__(self, priority: _Optional[_Union[_generation_pb2.Priority, str]] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., queue_timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., on_disconnect: _Optional[_Union[_generation_pb2.OnDisconnect, str]] = ...) -> None: ...

class ClassifyInput(_message.Message):
    __slots__ = ("text", "text_pair")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    TEXT_PAIR_FIELD_NUMBER: _ClassVar[int]
    text: str
    text_pair: str
    def __init__(self, text: _Optional[str] = ..., text_pair: _Optional[str] = ...) -> None: ...

class Embedding(_message.Message):
    __slots__ = ("values", "num_tokens", "is_cut", "num_cut_tokens")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_FIELD_NUMBER: _ClassVar[int]
    NUM_CUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    values: bytes
    num_tokens: int
    is_cut: bool
    num_cut_tokens: int
    def __init__(self, values: _Optional[bytes] = ..., num_tokens: _Optional[int] = ..., is_cut: bool = ..., num_cut_tokens: _Optional[int] = ...) -> None: ...

class Classification(_message.Message):
    __slots__ = ("labels", "tokens", "num_tokens", "is_cut", "num_cut_tokens")
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_FIELD_NUMBER: _ClassVar[int]
    NUM_CUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    labels: _containers.RepeatedCompositeFieldContainer[LabelScore]
    tokens: _containers.RepeatedCompositeFieldContainer[TokenLabel]
    num_tokens: int
    is_cut: bool
    num_cut_tokens: int
    def __init__(self, labels: _Optional[_Iterable[_Union[LabelScore, _Mapping]]] = ..., tokens: _Optional[_Iterable[_Union[TokenLabel, _Mapping]]] = ..., num_tokens: _Optional[int] = ..., is_cut: bool = ..., num_cut_tokens: _Optional[int] = ...) -> None: ...

class LabelScore(_message.Message):
    __slots__ = ("label", "score")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ...) -> None: ...

class TokenLabel(_message.Message):
    __slots__ = ("label", "score", "start", "end")
    LABEL_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    label: str
    score: float
    start: int
    end: int
    def __init__(self, label: _Optional[str] = ..., score: _Optional[float] = ..., start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class RankedDocument(_message.Message):
    __slots__ = ("index", "score", "num_tokens", "is_cut", "num_cut_tokens")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    NUM_TOKENS_FIELD_NUMBER: _ClassVar[int]
    IS_CUT_FIELD_NUMBER: _ClassVar[int]
    NUM_CUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    index: int
    score: float
    num_tokens: int
    is_cut: bool
    num_cut_tokens: int
    def __init__(self, index: _Optional[int] = ..., score: _Optional[float] = ..., num_tokens: _Optional[int] = ..., is_cut: bool = ..., num_cut_tokens: _Optional[int] = ...) -> None: ...

class UnderstandingUsage(_message.Message):
    __slots__ = ("input_tokens",)
    INPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    input_tokens: int
    def __init__(self, input_tokens: _Optional[int] = ...) -> None: ...

class UnderstandingTimings(_message.Message):
    __slots__ = ("queued", "total")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    queued: _duration_pb2.Duration
    total: _duration_pb2.Duration
    def __init__(self, queued: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., total: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...
