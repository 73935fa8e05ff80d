"""The watch of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from interlock.records import Record
from interlock.stream import Call, ChainBroken, Stream, Watch
from interlock.v1 import record_pb2, record_service_pb2
from interlock.watch import copied


@dataclass(frozen=True)
class RecordUpdate:
    """State of a watched record after one update."""

    collection: str
    record_id: str
    record: Record | None
    """The current record with all fields, a copy per update. None: the record does not exist."""
    changed: frozenset[str]
    """Fields that changed since the previous update. All fields: that update had no record, or one deleted since."""
    removed: frozenset[str]
    """Fields of the previous update that the record does not have any more."""


RecordsNews = record_service_pb2.WatchRecordsResponse
WatchedRecord = record_service_pb2.WatchedRecord
# Marks a record that does not exist.
_ABSENT = record_pb2.Record()


class RecordsWatch(Watch[RecordUpdate]):
    """The iterator that `Client.watch_records` returns."""

    def __init__(
        self,
        begin: Callable[[record_service_pb2.WatchRecordsRequest], Call[RecordsNews]],
        stream: Callable[[Callable[[], Call[RecordsNews]]], Stream[RecordsNews]],
        records: Iterable[tuple[str, str]],
    ) -> None:
        """Follows records, each from its last delivered state."""
        received = _Received(records)
        self._received = received
        # Without `self`: a reference to it would keep the stream open after the iterator is dropped.
        self._stream = stream(lambda: begin(received.request()))

    def __aiter__(self) -> RecordsWatch:
        return self

    async def __aenter__(self) -> RecordsWatch:
        return self

    async def __anext__(self) -> RecordUpdate:
        while (news := await self._stream.read_on()) is not None:
            try:
                update = self._received.take(news)
            except ChainBroken as broken:
                self._stream.broke(str(broken))
                continue
            # States that a new stream repeats do not show yet that the stream works.
            if update is not None or news.HasField("keepalive"):
                self._stream.confirm()
            if update is not None:
                return update
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the stream; a reader that waits for an update sees the end."""
        self._stream.close()


class _Received:
    """The last delivered state of each record."""

    def __init__(self, records: Iterable[tuple[str, str]]) -> None:
        self._watched = [WatchedRecord(collection=where, record_id=which) for where, which in records]
        self._records: dict[tuple[str, str], record_pb2.Record] = {}

    def request(self) -> record_service_pb2.WatchRecordsRequest:
        """A request for all records, each from its last delivered state, so that the first change follows it."""
        request = record_service_pb2.WatchRecordsRequest(records=self._watched)
        for watched in request.records:
            held = self._records.get((watched.collection, watched.record_id), _ABSENT)
            if held.version:
                watched.from_version = held.version
                # The version alone cannot distinguish a record that was created again: versions start at 1.
                watched.from_create_time.CopyFrom(held.create_time)
        return request

    def take(self, news: RecordsNews) -> RecordUpdate | None:
        """The update that a message makes. None: nothing changed."""
        match news.WhichOneof("update"):
            case "record":
                return self._put(news.record.collection, news.record.record_id, news.record)
            case "removal":
                return self._put(news.removal.collection, news.removal.record_id, _ABSENT)
            case "change":
                change = news.change
                held = self._records.get((change.collection, change.record_id))
                if held is None or held.version != change.previous_version:
                    why = f"version {change.previous_version} of {change.record_id} was never received"
                    raise ChainBroken(f"{why}, and {change.version} follows it")
                return self._put(change.collection, change.record_id, _after(held, change))
        return None

    def _put(self, collection: str, record_id: str, now: record_pb2.Record) -> RecordUpdate | None:
        """Stores the state of a record. None: this state was delivered before."""
        received = self._records.get((collection, record_id))
        # Every stream sends missing records again, because a request cannot say that they are known to be missing.
        if received is not None and _state(received) == _state(now):
            return None
        self._records[collection, record_id] = now
        before = _ABSENT if received is None else received
        return RecordUpdate(
            collection,
            record_id,
            Record.of(now) if now.version else None,
            _changed(before, now),
            frozenset(before.fields).difference(now.fields),
        )


def _state(record: record_pb2.Record) -> tuple[int, int]:
    """A value that identifies one state of a record."""
    return record.create_time.ToNanoseconds(), record.version


def _after(record: record_pb2.Record, change: record_service_pb2.RecordChange) -> record_pb2.Record:
    """A copy of the record at the version of a change."""
    after = copied(record)
    for name in change.removed_fields:
        after.fields.pop(name, None)
        after.field_versions.pop(name, None)
    for name, value in change.fields.items():
        after.fields[name].CopyFrom(value)
        after.field_versions[name] = change.field_versions[name]
    after.version = change.version
    after.update_time.CopyFrom(change.change_time)
    return after


def _changed(before: record_pb2.Record, now: record_pb2.Record) -> frozenset[str]:
    """Fields that differ from those of an earlier state."""
    if before.create_time != now.create_time:
        return frozenset(now.fields)
    known = before.field_versions
    return frozenset(name for name, version in now.field_versions.items() if known.get(name) != version)
