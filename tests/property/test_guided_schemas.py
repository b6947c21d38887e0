"""Random schemas on a model that babbles: what comes out is valid, however few tokens there are."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.engine.guidance.conftest import EOS, TOKENIZER, BabblingRunner

from miao.v1 import generation_pb2 as pb
from miao_service.formats.grammars import FormatError, grammar_of
from miao_worker.engine.config import EngineConfig
from miao_worker.engine.engine import Engine
from miao_worker.engine.types import FinishReason, SamplingParams, SequenceRequest

_NAMES = st.text('abcé好"\\ /', min_size=1, max_size=4)
_LEAVES = st.one_of(
    st.just({"type": "boolean"}),
    st.just({"type": "null"}),
    st.builds(lambda n: {"type": "integer", "minimum": -n, "maximum": n}, st.integers(0, 999)),
    st.builds(lambda n: {"type": "string", "maxLength": n}, st.integers(0, 6)),
    st.builds(
        lambda p: {"type": "string", "pattern": p}, st.sampled_from(["^[a-c]{2}$", "^x+y?$"])
    ),
    st.builds(lambda v: {"enum": v}, st.lists(_NAMES | st.integers(), min_size=1, max_size=3)),
    st.builds(lambda v: {"const": v}, _NAMES | st.integers() | st.none()),
    st.just({"type": "string", "format": "date"}),
)


def _objects(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def build(properties: dict[str, Any], required: bool) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties) if required else [],
            "additionalProperties": False,
        }

    return st.builds(build, st.dictionaries(_NAMES, children, max_size=3), st.booleans())


def _nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    arrays = st.builds(
        lambda items, n: {"type": "array", "items": items, "maxItems": n},
        children,
        st.integers(0, 3),
    )
    unions = st.builds(lambda each: {"anyOf": each}, st.lists(children, min_size=1, max_size=3))
    return _objects(children) | arrays | unions


_SCHEMAS = st.recursive(_LEAVES, _nested, max_leaves=6)


@pytest.fixture(scope="module")
def engine() -> Engine:
    engine = Engine(EngineConfig(model="babbler"), BabblingRunner())
    engine.follow_grammars(TOKENIZER.to_str(), [EOS])
    return engine


@settings(max_examples=120, deadline=None)
@given(schema=_SCHEMAS, seed=st.integers(0, 99), max_tokens=st.integers(1, 60) | st.just(300))
def test_output_is_valid_against_its_schema(
    engine: Engine, schema: Any, seed: int, max_tokens: int
) -> None:
    try:
        grammar = grammar_of(pb.ResponseFormat(json_schema=json.dumps(schema)))
    except FormatError:
        return
    params = SamplingParams(max_tokens=max_tokens, seed=seed, stop_token_ids=frozenset({EOS}))
    engine.add(SequenceRequest("a", (5, 6, 7), params, grammar=grammar))
    token_ids: list[int] = []
    ends = []
    while engine.has_unfinished:
        for output in engine.step().outputs:
            token_ids += output.token_ids
            ends.append(output)
    if ends[-1].finish_reason is FinishReason.ERROR:
        assert ends[-1].error is not None
        assert f"max_tokens is {max_tokens}; the shortest output" in ends[-1].error
        assert not token_ids
    else:
        assert len(token_ids) <= max_tokens
        text = TOKENIZER.decode(token_ids, skip_special_tokens=True)
        jsonschema.validate(json.loads(text), schema)
