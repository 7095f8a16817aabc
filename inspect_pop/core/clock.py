"""The clock. Only the edges of the product read it; steps take a time as an argument."""

from datetime import UTC, datetime

__all__ = ["LARGEST_AHEAD_S", "utc_now"]

# A wrong time zone moves a clock by 14 hours at most, a wrong time of day by 24; what is further ahead is a wrong date.
LARGEST_AHEAD_S = 86_400.0


def utc_now(timespec: str = "milliseconds") -> str:
    """Return the time now as ISO 8601 text in UTC, such as `2026-03-02T14:05:09.120+00:00`."""
    return datetime.now(UTC).isoformat(timespec=timespec)
