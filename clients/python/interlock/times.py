"""Conversion between timestamps and datetimes."""

from __future__ import annotations

from datetime import datetime, timezone

from google.protobuf import timestamp_pb2

from interlock.documents import described


def from_timestamp(timestamp: timestamp_pb2.Timestamp) -> datetime:
    """The time in UTC, to the microsecond."""
    return timestamp.ToDatetime(tzinfo=timezone.utc)


def to_timestamp(time: datetime, parameter: str) -> timestamp_pb2.Timestamp:
    """A time as a message.

    Raises:
        TypeError: it is no datetime.
        ValueError: it has no time zone: it would be read as UTC by some, and as local time by others.
    """
    if not isinstance(time, datetime):
        raise TypeError(f"{parameter} is a datetime with a time zone, not {described(time)}")
    if time.tzinfo is None:
        raise ValueError(f"{parameter} has no time zone: write datetime.now(timezone.utc) + timedelta(hours=1)")
    message = timestamp_pb2.Timestamp()
    message.FromDatetime(time.astimezone(timezone.utc))
    return message
