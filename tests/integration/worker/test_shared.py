"""A worker whose batch one tenant has filled takes another's in, and loses nothing for it."""

from __future__ import annotations

from typing import Any

from miao_queue.records import Status

PROMPT = [9, 8, 7]


def test_a_full_batch_takes_in_another_tenant_and_who_gave_way_goes_on(
    queue: Any, start_worker: Any
) -> None:
    flood = [queue.submit(PROMPT, max_tokens=400, tenant="flood") for _ in range(4)]
    start_worker("--max-sequences", "2").wait_ready()
    for generation_id in flood[:2]:
        queue.wait(generation_id, lambda record: record.tokens > 20)
    quiet = queue.submit(PROMPT, max_tokens=5, tenant="quiet")
    ended = queue.wait_finished(quiet)
    assert {queue.record(one).status for one in flood[:2]} == {Status.RUNNING}
    assert {queue.record(one).status for one in flood[2:]} == {Status.QUEUED}
    assert ended.attempt == 1
    records = [queue.wait_finished(one) for one in flood]
    assert [record.attempt for record in records] == [1] * 4
    outputs = [queue.token_ids(one) for one in flood]
    assert outputs == [outputs[0]] * 4
    assert outputs[0][:5] == queue.token_ids(quiet)
