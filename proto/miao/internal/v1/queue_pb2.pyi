from miao.v1 import explanation_pb2 as _explanation_pb2
from miao.v1 import generation_pb2 as _generation_pb2
from miao.v1 import understanding_pb2 as _understanding_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Job(_message.Message):
    __slots__ = ("prompt_token_ids", "max_tokens", "sampling", "stop", "stop_token_ids", "logprobs", "min_tokens", "num_answers", "num_best", "ranking", "echo_from", "prompt_logprobs", "bad_token_ids", "guide", "answer_form", "understanding", "traceparent", "cache_scope", "explanation")
    PROMPT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    MIN_TOKENS_FIELD_NUMBER: _ClassVar[int]
    NUM_ANSWERS_FIELD_NUMBER: _ClassVar[int]
    NUM_BEST_FIELD_NUMBER: _ClassVar[int]
    RANKING_FIELD_NUMBER: _ClassVar[int]
    ECHO_FROM_FIELD_NUMBER: _ClassVar[int]
    PROMPT_LOGPROBS_FIELD_NUMBER: _ClassVar[int]
    BAD_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    GUIDE_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FORM_FIELD_NUMBER: _ClassVar[int]
    UNDERSTANDING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    CACHE_SCOPE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    prompt_token_ids: _containers.RepeatedScalarFieldContainer[int]
    max_tokens: int
    sampling: _generation_pb2.Sampling
    stop: _containers.RepeatedScalarFieldContainer[str]
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    logprobs: int
    min_tokens: int
    num_answers: int
    num_best: int
    ranking: _generation_pb2.Ranking
    echo_from: int
    prompt_logprobs: int
    bad_token_ids: _containers.RepeatedCompositeFieldContainer[_generation_pb2.TokenIds]
    guide: str
    answer_form: AnswerForm
    understanding: Understanding
    traceparent: str
    cache_scope: bytes
    explanation: Explanation
    def __init__(self, prompt_token_ids: _Optional[_Iterable[int]] = ..., max_tokens: _Optional[int] = ..., sampling: _Optional[_Union[_generation_pb2.Sampling, _Mapping]] = ..., stop: _Optional[_Iterable[str]] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., logprobs: _Optional[int] = ..., min_tokens: _Optional[int] = ..., num_answers: _Optional[int] = ..., num_best: _Optional[int] = ..., ranking: _Optional[_Union[_generation_pb2.Ranking, str]] = ..., echo_from: _Optional[int] = ..., prompt_logprobs: _Optional[int] = ..., bad_token_ids: _Optional[_Iterable[_Union[_generation_pb2.TokenIds, _Mapping]]] = ..., guide: _Optional[str] = ..., answer_form: _Optional[_Union[AnswerForm, _Mapping]] = ..., understanding: _Optional[_Union[Understanding, _Mapping]] = ..., traceparent: _Optional[str] = ..., cache_scope: _Optional[bytes] = ..., explanation: _Optional[_Union[Explanation, _Mapping]] = ...) -> None: ...

class AnswerForm(_message.Message):
    __slots__ = ("reasoning", "starts_in_reasoning", "tools", "tool_names")
    REASONING_FIELD_NUMBER: _ClassVar[int]
    STARTS_IN_REASONING_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    TOOL_NAMES_FIELD_NUMBER: _ClassVar[int]
    reasoning: ReasoningFormat
    starts_in_reasoning: bool
    tools: ToolFormat
    tool_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, reasoning: _Optional[_Union[ReasoningFormat, _Mapping]] = ..., starts_in_reasoning: bool = ..., tools: _Optional[_Union[ToolFormat, _Mapping]] = ..., tool_names: _Optional[_Iterable[str]] = ...) -> None: ...

class ReasoningFormat(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: str
    end: str
    def __init__(self, start: _Optional[str] = ..., end: _Optional[str] = ...) -> None: ...

class ToolFormat(_message.Message):
    __slots__ = ("name", "start", "end", "is_bare")
    NAME_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    IS_BARE_FIELD_NUMBER: _ClassVar[int]
    name: str
    start: str
    end: str
    is_bare: bool
    def __init__(self, name: _Optional[str] = ..., start: _Optional[str] = ..., end: _Optional[str] = ..., is_bare: bool = ...) -> None: ...

class Understanding(_message.Message):
    __slots__ = ("task", "inputs", "normalize", "dimensions", "raw_scores")
    TASK_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    NORMALIZE_FIELD_NUMBER: _ClassVar[int]
    DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    RAW_SCORES_FIELD_NUMBER: _ClassVar[int]
    task: _understanding_pb2.Task
    inputs: _containers.RepeatedCompositeFieldContainer[EncoderInput]
    normalize: bool
    dimensions: int
    raw_scores: bool
    def __init__(self, task: _Optional[_Union[_understanding_pb2.Task, str]] = ..., inputs: _Optional[_Iterable[_Union[EncoderInput, _Mapping]]] = ..., normalize: bool = ..., dimensions: _Optional[int] = ..., raw_scores: bool = ...) -> None: ...

class EncoderInput(_message.Message):
    __slots__ = ("token_ids", "type_ids")
    TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    TYPE_IDS_FIELD_NUMBER: _ClassVar[int]
    token_ids: _containers.RepeatedScalarFieldContainer[int]
    type_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, token_ids: _Optional[_Iterable[int]] = ..., type_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class UnderstandingEntry(_message.Message):
    __slots__ = ("event", "result")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    event: _generation_pb2.GenerationEvent
    result: UnderstandingResult
    def __init__(self, event: _Optional[_Union[_generation_pb2.GenerationEvent, _Mapping]] = ..., result: _Optional[_Union[UnderstandingResult, _Mapping]] = ...) -> None: ...

class UnderstandingResult(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, rows: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Explanation(_message.Message):
    __slots__ = ("method", "steps", "output_token_ids", "max_tokens", "stop_token_ids", "num_candidates", "positions", "whole_output", "input", "places", "label")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    STOP_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    NUM_CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    WHOLE_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    PLACES_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    method: _explanation_pb2.ExplainMethod
    steps: int
    output_token_ids: _containers.RepeatedScalarFieldContainer[int]
    max_tokens: int
    stop_token_ids: _containers.RepeatedScalarFieldContainer[int]
    num_candidates: int
    positions: _containers.RepeatedScalarFieldContainer[int]
    whole_output: bool
    input: EncoderInput
    places: _containers.RepeatedScalarFieldContainer[int]
    label: int
    def __init__(self, method: _Optional[_Union[_explanation_pb2.ExplainMethod, str]] = ..., steps: _Optional[int] = ..., output_token_ids: _Optional[_Iterable[int]] = ..., max_tokens: _Optional[int] = ..., stop_token_ids: _Optional[_Iterable[int]] = ..., num_candidates: _Optional[int] = ..., positions: _Optional[_Iterable[int]] = ..., whole_output: bool = ..., input: _Optional[_Union[EncoderInput, _Mapping]] = ..., places: _Optional[_Iterable[int]] = ..., label: _Optional[int] = ...) -> None: ...

class ExplanationEntry(_message.Message):
    __slots__ = ("event", "result")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    event: _generation_pb2.GenerationEvent
    result: ExplanationResult
    def __init__(self, event: _Optional[_Union[_generation_pb2.GenerationEvent, _Mapping]] = ..., result: _Optional[_Union[ExplanationResult, _Mapping]] = ...) -> None: ...

class ExplanationResult(_message.Message):
    __slots__ = ("input_texts", "output", "attributions", "label_scores", "label")
    INPUT_TEXTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTIONS_FIELD_NUMBER: _ClassVar[int]
    LABEL_SCORES_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    input_texts: _containers.RepeatedScalarFieldContainer[str]
    output: _containers.RepeatedCompositeFieldContainer[_explanation_pb2.OutputToken]
    attributions: _containers.RepeatedCompositeFieldContainer[_explanation_pb2.Attribution]
    label_scores: _containers.RepeatedScalarFieldContainer[float]
    label: int
    def __init__(self, input_texts: _Optional[_Iterable[str]] = ..., output: _Optional[_Iterable[_Union[_explanation_pb2.OutputToken, _Mapping]]] = ..., attributions: _Optional[_Iterable[_Union[_explanation_pb2.Attribution, _Mapping]]] = ..., label_scores: _Optional[_Iterable[float]] = ..., label: _Optional[int] = ...) -> None: ...

class ModelCard(_message.Message):
    __slots__ = ("name", "architecture", "num_parameters", "dtype", "max_model_length", "vocab_size", "tokenizer_json", "chat_template", "special_tokens", "eos_token_ids", "default_sampling", "vocabulary_digest", "weights_digest", "guide_fault", "base", "tool_chat_template", "tool_format", "reasoning_format", "tasks", "encoder", "explain_methods")
    class SpecialTokensEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    NUM_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    MAX_MODEL_LENGTH_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_JSON_FIELD_NUMBER: _ClassVar[int]
    CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    SPECIAL_TOKENS_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_SAMPLING_FIELD_NUMBER: _ClassVar[int]
    VOCABULARY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    GUIDE_FAULT_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    TOOL_CHAT_TEMPLATE_FIELD_NUMBER: _ClassVar[int]
    TOOL_FORMAT_FIELD_NUMBER: _ClassVar[int]
    REASONING_FORMAT_FIELD_NUMBER: _ClassVar[int]
    TASKS_FIELD_NUMBER: _ClassVar[int]
    ENCODER_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_METHODS_FIELD_NUMBER: _ClassVar[int]
    name: str
    architecture: str
    num_parameters: int
    dtype: str
    max_model_length: int
    vocab_size: int
    tokenizer_json: str
    chat_template: str
    special_tokens: _containers.ScalarMap[str, str]
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    default_sampling: _generation_pb2.Sampling
    vocabulary_digest: str
    weights_digest: str
    guide_fault: str
    base: str
    tool_chat_template: str
    tool_format: ToolFormat
    reasoning_format: ReasoningFormat
    tasks: _containers.RepeatedScalarFieldContainer[_understanding_pb2.Task]
    encoder: EncoderCard
    explain_methods: _containers.RepeatedScalarFieldContainer[_explanation_pb2.ExplainMethod]
    def __init__(self, name: _Optional[str] = ..., architecture: _Optional[str] = ..., num_parameters: _Optional[int] = ..., dtype: _Optional[str] = ..., max_model_length: _Optional[int] = ..., vocab_size: _Optional[int] = ..., tokenizer_json: _Optional[str] = ..., chat_template: _Optional[str] = ..., special_tokens: _Optional[_Mapping[str, str]] = ..., eos_token_ids: _Optional[_Iterable[int]] = ..., default_sampling: _Optional[_Union[_generation_pb2.Sampling, _Mapping]] = ..., vocabulary_digest: _Optional[str] = ..., weights_digest: _Optional[str] = ..., guide_fault: _Optional[str] = ..., base: _Optional[str] = ..., tool_chat_template: _Optional[str] = ..., tool_format: _Optional[_Union[ToolFormat, _Mapping]] = ..., reasoning_format: _Optional[_Union[ReasoningFormat, _Mapping]] = ..., tasks: _Optional[_Iterable[_Union[_understanding_pb2.Task, str]]] = ..., encoder: _Optional[_Union[EncoderCard, _Mapping]] = ..., explain_methods: _Optional[_Iterable[_Union[_explanation_pb2.ExplainMethod, str]]] = ...) -> None: ...

class EncoderCard(_message.Message):
    __slots__ = ("embedding_dimensions", "labels", "prompts", "default_prompt_name", "takes_type_ids")
    class PromptsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    EMBEDDING_DIMENSIONS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_PROMPT_NAME_FIELD_NUMBER: _ClassVar[int]
    TAKES_TYPE_IDS_FIELD_NUMBER: _ClassVar[int]
    embedding_dimensions: int
    labels: _containers.RepeatedScalarFieldContainer[str]
    prompts: _containers.ScalarMap[str, str]
    default_prompt_name: str
    takes_type_ids: bool
    def __init__(self, embedding_dimensions: _Optional[int] = ..., labels: _Optional[_Iterable[str]] = ..., prompts: _Optional[_Mapping[str, str]] = ..., default_prompt_name: _Optional[str] = ..., takes_type_ids: bool = ...) -> None: ...
