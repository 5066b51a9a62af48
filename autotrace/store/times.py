"""Convert times: integer nanoseconds inside, aware UTC at the edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MAX_NS = 2**63 - 1


def utc(time_ns: int) -> datetime:
    """Return the UTC time of nanoseconds since the epoch, to the microsecond.

    A time before the year 1678 or after 2261 is the first or last one that fits 64 bits.
    """
    time_ns = min(max(int(time_ns), -_MAX_NS), _MAX_NS)
    return _EPOCH + timedelta(microseconds=time_ns // 1000)


def ns_of(moment: datetime) -> int:
    """Return the nanoseconds since the epoch, exact to the microsecond."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000
