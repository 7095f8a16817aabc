"""The clock. Only the edges of the product read it; steps take a time as an argument."""

from datetime import UTC, datetime

__all__ = ["utc_now"]


def utc_now(timespec: str = "milliseconds") -> str:
    """Return the time now as ISO 8601 text in UTC, such as `2026-03-02T14:05:09.120+00:00`."""
    return datetime.now(UTC).isoformat(timespec=timespec)
