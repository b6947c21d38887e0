"""A short campaign with a seed."""

from __future__ import annotations

from tests.fuzz import campaign


async def test_a_front_answers_nonsense_with_reasons_and_keeps_its_shape(redis_url: str) -> None:
    report = await campaign.run(redis_url, seconds=8, seed=20_260_101)
    assert not report.faults, report
    assert report.outcomes.total() > 500
    codes = {code for _, code in report.outcomes}
    assert {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "UNIMPLEMENTED", "RESOURCE_EXHAUSTED"} <= codes
    answered = {name for name, code in report.outcomes if code == "OK"}
    assert {"Generate", "Score", "Embed", "Classify", "Rerank", "Explain"} <= answered
