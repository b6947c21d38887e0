import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetFleetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFleetResponse(_message.Message):
    __slots__ = ("time", "models", "workers", "queues")
    TIME_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    QUEUES_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    models: _containers.RepeatedCompositeFieldContainer[FleetModel]
    workers: _containers.RepeatedCompositeFieldContainer[FleetWorker]
    queues: _containers.RepeatedCompositeFieldContainer[TenantQueue]
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., models: _Optional[_Iterable[_Union[FleetModel, _Mapping]]] = ..., workers: _Optional[_Iterable[_Union[FleetWorker, _Mapping]]] = ..., queues: _Optional[_Iterable[_Union[TenantQueue, _Mapping]]] = ...) -> None: ...

class FleetModel(_message.Message):
    __slots__ = ("name", "num_workers", "num_queued")
    NAME_FIELD_NUMBER: _ClassVar[int]
    NUM_WORKERS_FIELD_NUMBER: _ClassVar[int]
    NUM_QUEUED_FIELD_NUMBER: _ClassVar[int]
    name: str
    num_workers: int
    num_queued: int
    def __init__(self, name: _Optional[str] = ..., num_workers: _Optional[int] = ..., num_queued: _Optional[int] = ...) -> None: ...

class FleetWorker(_message.Message):
    __slots__ = ("name", "model", "start_time", "is_draining", "num_generations", "num_running", "max_running", "num_waiting", "cache_usage", "prompt_tokens", "output_tokens", "num_ended", "num_takeovers", "num_engine_restarts", "first_token_ms_p50", "first_token_ms_p95", "output_tokens_per_second", "cached_prompt_tokens")
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    IS_DRAINING_FIELD_NUMBER: _ClassVar[int]
    NUM_GENERATIONS_FIELD_NUMBER: _ClassVar[int]
    NUM_RUNNING_FIELD_NUMBER: _ClassVar[int]
    MAX_RUNNING_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_FIELD_NUMBER: _ClassVar[int]
    CACHE_USAGE_FIELD_NUMBER: _ClassVar[int]
    PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ENDED_FIELD_NUMBER: _ClassVar[int]
    NUM_TAKEOVERS_FIELD_NUMBER: _ClassVar[int]
    NUM_ENGINE_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MS_P50_FIELD_NUMBER: _ClassVar[int]
    FIRST_TOKEN_MS_P95_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    CACHED_PROMPT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    start_time: _timestamp_pb2.Timestamp
    is_draining: bool
    num_generations: int
    num_running: int
    max_running: int
    num_waiting: int
    cache_usage: float
    prompt_tokens: int
    output_tokens: int
    num_ended: int
    num_takeovers: int
    num_engine_restarts: int
    first_token_ms_p50: int
    first_token_ms_p95: int
    output_tokens_per_second: float
    cached_prompt_tokens: int
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., is_draining: bool = ..., num_generations: _Optional[int] = ..., num_running: _Optional[int] = ..., max_running: _Optional[int] = ..., num_waiting: _Optional[int] = ..., cache_usage: _Optional[float] = ..., prompt_tokens: _Optional[int] = ..., output_tokens: _Optional[int] = ..., num_ended: _Optional[int] = ..., num_takeovers: _Optional[int] = ..., num_engine_restarts: _Optional[int] = ..., first_token_ms_p50: _Optional[int] = ..., first_token_ms_p95: _Optional[int] = ..., output_tokens_per_second: _Optional[float] = ..., cached_prompt_tokens: _Optional[int] = ...) -> None: ...

class TenantQueue(_message.Message):
    __slots__ = ("tenant", "model", "num_waiting", "longest_wait_ms")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    NUM_WAITING_FIELD_NUMBER: _ClassVar[int]
    LONGEST_WAIT_MS_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    model: str
    num_waiting: int
    longest_wait_ms: int
    def __init__(self, tenant: _Optional[str] = ..., model: _Optional[str] = ..., num_waiting: _Optional[int] = ..., longest_wait_ms: _Optional[int] = ...) -> None: ...

class ListAuditRecordsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAuditRecordsResponse(_message.Message):
    __slots__ = ("records", "next_page_token")
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[AuditRecord]
    next_page_token: str
    def __init__(self, records: _Optional[_Iterable[_Union[AuditRecord, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AuditRecord(_message.Message):
    __slots__ = ("time", "tenant", "credential", "action", "outcome", "generation_id")
    TIME_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_ID_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    tenant: str
    credential: str
    action: str
    outcome: str
    generation_id: str
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tenant: _Optional[str] = ..., credential: _Optional[str] = ..., action: _Optional[str] = ..., outcome: _Optional[str] = ..., generation_id: _Optional[str] = ...) -> None: ...
