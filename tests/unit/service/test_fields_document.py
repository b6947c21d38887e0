"""docs/fields.md names every field that a caller may set, and a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from miao.v1 import generation_pb2 as pb
from miao.v1.explain_service_pb2 import ExplainSpec
from miao.v1.score_service_pb2 import ScoreSpec

ROOT = Path(__file__).parents[3]
SECTIONS = re.split(r"^## ", (ROOT / "docs/fields.md").read_text(), flags=re.MULTILINE)[1:]
MESSAGES = [
    pb.GenerationSpec.DESCRIPTOR,
    pb.Sampling.DESCRIPTOR,
    ScoreSpec.DESCRIPTOR,
    ExplainSpec.DESCRIPTOR,
]
ROW = re.compile(r"^\| `(\w+)` \|.*\| `([^`]+)` \|$", re.MULTILINE)


def rows(name: str) -> dict[str, str]:
    """Field and test of each line in a section."""
    (section,) = [text for text in SECTIONS if text.startswith(f"{name}\n")]
    return dict(ROW.findall(section))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.name)
def test_every_field_has_a_test(message: Descriptor) -> None:
    assert set(rows(message.name)) == {field.name for field in message.fields}


def test_every_test_that_is_named_exists() -> None:
    for section in SECTIONS:
        for field, test in ROW.findall(section):
            path, _, function = test.partition("::")
            assert (ROOT / path).exists(), field
            assert not function or f"def {function}(" in (ROOT / path).read_text(), field
