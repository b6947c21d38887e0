"""The Python SDK of Miao: typed clients, streams that survive broken connections.

Example:
    >>> from miao_client import Client
    >>> with Client() as client:
    ...     for chunk in client.generate("Once upon a time", max_tokens=64):
    ...         print(chunk.text, end="", flush=True)
"""

from importlib.metadata import version

from miao_client import verbosity as _verbosity  # noqa: F401  # before gRPC is loaded
from miao_client.aio.client import AsyncClient
from miao_client.aio.stream import AsyncGenerationStream
from miao_client.errors import (
    AlreadyExistsError,
    AuthenticationError,
    BusyError,
    ClientClosedError,
    DataLossError,
    DeadlineExceededError,
    FieldViolation,
    GenerationCancelledError,
    GenerationFailedError,
    GenerationNotFoundError,
    InternalError,
    InvalidRequestError,
    LimitViolation,
    MiaoError,
    ModelNotFoundError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
    UnsupportedError,
)
from miao_client.explaining import ExplainLabelOptions, ExplainOptions, ExplainOutputOptions
from miao_client.explanation_results import (
    Attribution,
    Explanation,
    InputToken,
    OutputToken,
)
from miao_client.fleet import (
    AuditPage,
    AuditRecord,
    Fleet,
    FleetModel,
    FleetWorker,
    TenantQueue,
    UsagePage,
    UsageRecord,
    UsageSum,
)
from miao_client.formats import Choices, Grammar, JsonSchema, Regex, ResponseFormat
from miao_client.interceptors import AsyncInterceptor, Interceptor
from miao_client.options import GenerateOptions, OnDisconnect, Priority, Ranking, Truncation
from miao_client.prompts import Message, Prompt, TokenIds
from miao_client.results import (
    Answer,
    AnswerEnding,
    Chunk,
    DefaultSampling,
    Ending,
    ExplainMethod,
    FinishReason,
    Generation,
    GenerationResult,
    GenerationState,
    Model,
    Output,
    Said,
    Score,
    ScoredToken,
    Task,
    Timings,
    Tokenization,
    TokenLogprobs,
    TopLogprob,
    Usage,
)
from miao_client.sync.client import Client
from miao_client.sync.stream import GenerationStream
from miao_client.tls import Tls
from miao_client.tokens import AccessToken, AsyncTokenProvider, TokenProvider
from miao_client.tools import Tool, ToolCall, ToolCallDelta, ToolChoice, tool
from miao_client.understanding import ClassifyOptions, EmbedOptions, Overlong, RerankOptions
from miao_client.understanding_results import (
    Classification,
    Classifications,
    Embedding,
    Embeddings,
    LabelScore,
    RankedDocument,
    RankedDocuments,
    TokenLabel,
)

__version__ = version("miao")

__all__ = [
    "AccessToken",
    "AlreadyExistsError",
    "Answer",
    "AnswerEnding",
    "AsyncClient",
    "AsyncGenerationStream",
    "AsyncInterceptor",
    "AsyncTokenProvider",
    "Attribution",
    "AuditPage",
    "AuditRecord",
    "AuthenticationError",
    "BusyError",
    "Choices",
    "Chunk",
    "Classification",
    "Classifications",
    "ClassifyOptions",
    "Client",
    "ClientClosedError",
    "DataLossError",
    "DeadlineExceededError",
    "DefaultSampling",
    "EmbedOptions",
    "Embedding",
    "Embeddings",
    "Ending",
    "ExplainLabelOptions",
    "ExplainMethod",
    "ExplainOptions",
    "ExplainOutputOptions",
    "Explanation",
    "FieldViolation",
    "FinishReason",
    "Fleet",
    "FleetModel",
    "FleetWorker",
    "GenerateOptions",
    "Generation",
    "GenerationCancelledError",
    "GenerationFailedError",
    "GenerationNotFoundError",
    "GenerationResult",
    "GenerationState",
    "GenerationStream",
    "Grammar",
    "InputToken",
    "Interceptor",
    "InternalError",
    "InvalidRequestError",
    "JsonSchema",
    "LabelScore",
    "LimitViolation",
    "Message",
    "MiaoError",
    "Model",
    "ModelNotFoundError",
    "NotFoundError",
    "OnDisconnect",
    "Output",
    "OutputToken",
    "Overlong",
    "PermissionDeniedError",
    "Priority",
    "Prompt",
    "RankedDocument",
    "RankedDocuments",
    "Ranking",
    "Regex",
    "RerankOptions",
    "ResponseFormat",
    "Said",
    "Score",
    "ScoredToken",
    "Task",
    "TenantQueue",
    "Timings",
    "Tls",
    "TokenIds",
    "TokenLabel",
    "TokenLogprobs",
    "TokenProvider",
    "Tokenization",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "TopLogprob",
    "Truncation",
    "UnavailableError",
    "UnsupportedError",
    "Usage",
    "UsagePage",
    "UsageRecord",
    "UsageSum",
    "__version__",
    "tool",
]
