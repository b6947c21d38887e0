"""docs/fields.md names every field that a caller may set, and a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from miao.v1 import (
    explain_service_pb2,
    fleet_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    score_service_pb2,
    understanding_service_pb2,
    usage_service_pb2,
)

ROOT = Path(__file__).parents[3]
SECTIONS = re.split(r"^## ", (ROOT / "docs/fields.md").read_text(), flags=re.MULTILINE)[1:]
CONTRACT = [
    explain_service_pb2,
    fleet_service_pb2,
    generation_service_pb2,
    model_service_pb2,
    score_service_pb2,
    understanding_service_pb2,
    usage_service_pb2,
]


def messages_of_requests() -> list[Descriptor]:
    """All that a caller may send, and what is in it."""
    found: dict[str, Descriptor] = {}

    def add(message: Descriptor) -> None:
        is_ours = message.full_name.startswith("miao.v1.")
        if not is_ours or message.GetOptions().map_entry or message.full_name in found:
            return
        found[message.full_name] = message
        for field in message.fields:
            if field.message_type is not None:
                add(field.message_type)

    for file in CONTRACT:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                add(method.input_type)
    return [message for message in found.values() if message.fields]


ROW = re.compile(r"^\| `(\w+)` \|.*\| `([^`]+)` \|$", re.MULTILINE)


def rows(name: str) -> dict[str, str]:
    """Field and test of each line in a section."""
    (section,) = [text for text in SECTIONS if text.startswith(f"{name}\n")]
    return dict(ROW.findall(section))


@pytest.mark.parametrize("message", messages_of_requests(), ids=lambda message: message.name)
def test_every_field_has_a_test(message: Descriptor) -> None:
    assert set(rows(message.name)) == {field.name for field in message.fields}


def test_every_test_that_is_named_exists() -> None:
    for section in SECTIONS:
        for field, test in ROW.findall(section):
            path, _, function = test.partition("::")
            assert (ROOT / path).exists(), field
            assert not function or f"def {function}(" in (ROOT / path).read_text(), field
