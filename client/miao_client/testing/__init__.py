"""For the tests of programs that call Miao: a service in this process that says what it is told.

Example:
    >>> from miao_client.testing import Cut, FakeService
    >>> with FakeService() as service, service.client() as client:
    ...     service.will_say("Hello", Cut(), " world")
    ...     client.generate("Hi").text
    'Hello world'
"""

from miao_client.testing.fake import FakeService
from miao_client.testing.generation import FakeGeneration
from miao_client.testing.refusals import (
    Refuse,
    broken,
    busy,
    invalid,
    not_found,
    unauthenticated,
    unavailable,
)
from miao_client.testing.server import Call, ScriptedServer
from miao_client.testing.steps import Cut, End, Fail, Pause, Say, Step, Wait

__all__ = [
    "Call",
    "Cut",
    "End",
    "Fail",
    "FakeGeneration",
    "FakeService",
    "Pause",
    "Refuse",
    "Say",
    "ScriptedServer",
    "Step",
    "Wait",
    "broken",
    "busy",
    "invalid",
    "not_found",
    "unauthenticated",
    "unavailable",
]
