"""The clock."""

from datetime import UTC, datetime, timedelta

from inspect_pop.core.system import utc_now


def test_now_is_iso_text_in_utc() -> None:
    before = datetime.now(UTC)
    text = utc_now("microseconds")
    time = datetime.fromisoformat(text)
    assert before <= time <= datetime.now(UTC)
    assert time.utcoffset() == timedelta(0)
    assert len(utc_now()) == len("2026-03-02T14:05:09.120+00:00")
