"""A generation's way through the log of each side, by its id."""

from __future__ import annotations

import json

import pytest

from miao_client import Client, InvalidRequestError

from .conftest import Observed


def test_a_generation_is_found_by_its_id_on_each_side(observed: Observed, client: Client) -> None:
    result = client.generate("the quick brown fox", max_tokens=7, ignore_eos=True).result()
    assert result.usage is not None
    whose = {"generation": result.generation_id, "tenant": "default", "model": "tiny"}
    (accepted,) = observed.events("front", "accepted", **whose)
    assert accepted["prompt_tokens"] == result.usage.prompt_tokens
    (claimed,) = observed.events("worker", "claimed", **whose)
    assert claimed["attempt"] == 1
    (ended,) = observed.wait_for("worker", "ended", **whose)
    assert (ended["attempt"], ended["reason"], ended["output_tokens"]) == (1, "length", 7)
    assert isinstance(ended["total_ms"], int)
    assert ended["total_ms"] > 0


def test_a_refusal_is_logged_with_its_reason(observed: Observed, client: Client) -> None:
    before = len(observed.events("front", "refused"))
    with pytest.raises(InvalidRequestError):
        client.generate("x", max_tokens=100_000).result()
    (refused,) = observed.events("front", "refused")[before:]
    del refused["timestamp"]
    assert refused == {
        "event": "refused",
        "level": "info",
        "logger": "miao_service.call_watch",
        "method": "Generate",
        "code": "INVALID_ARGUMENT",
        "reason": "INVALID_REQUEST",
        "tenant": "default",
        "credential": "",
    }


def test_every_line_but_those_that_say_what_is_ready_is_json(
    observed: Observed, client: Client
) -> None:
    client.generate("x", max_tokens=1).result()
    for part, ready in (("front", "front listening on"), ("worker", "worker serving")):
        for line in observed.log(part).splitlines():
            if not line.startswith(ready):
                assert {"event", "level", "logger", "timestamp"} <= json.loads(line).keys()
