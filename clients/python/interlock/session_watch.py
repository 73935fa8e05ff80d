"""The watch of one session."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from google.protobuf import timestamp_pb2

from interlock.segments import Segment
from interlock.sessions import Session
from interlock.stream import Call, Stream, Watch
from interlock.v1 import timeline_pb2, timeline_service_pb2


@dataclass(frozen=True)
class SessionChanged:
    """The session appeared, or its title, labels, retention or state changed. ENDED: this is the last event."""

    session: Session


@dataclass(frozen=True)
class SegmentChanged:
    """A segment was stored, replaced or corrected."""

    segment: Segment
    """The segment as it is now."""
    version: int
    """Version of the session of which all changes have been delivered: the `from_version` of a later watch."""


@dataclass(frozen=True)
class SegmentDeleted:
    """A segment was deleted."""

    key: str
    version: int
    """As in `SegmentChanged`."""


@dataclass(frozen=True)
class SessionRemoved:
    """The session does not exist: at the start of the watch, or because it was deleted. Discard its segments."""

    session_id: str


@dataclass(frozen=True)
class SessionReplaced:
    """The session was deleted, and another one created. Discard all segments: those of the new one follow."""

    session_id: str


SessionEvent = SessionChanged | SegmentChanged | SegmentDeleted | SessionRemoved | SessionReplaced
SessionNews = timeline_service_pb2.WatchSessionResponse


class SessionWatch(Watch[SessionEvent]):
    """The iterator that `Client.watch_session` returns."""

    def __init__(
        self,
        begin: Callable[[timeline_service_pb2.WatchSessionRequest], Call[SessionNews]],
        stream: Callable[[Callable[[], Call[SessionNews]]], Stream[SessionNews]],
        start: timeline_service_pb2.WatchSessionRequest,
    ) -> None:
        """Follows a session from the position in a request."""
        received = _Received(start)
        self._received = received
        # Without `self`: a reference to it would keep the stream open after the iterator is dropped.
        self._stream = stream(lambda: begin(received.request()))

    def __aiter__(self) -> SessionWatch:
        return self

    async def __aenter__(self) -> SessionWatch:
        return self

    async def __anext__(self) -> SessionEvent:
        received = self._received
        while not received.events:
            news = await self._stream.read()
            if news is not None:
                # What a new stream repeats does not show yet that the stream works.
                if received.take(news):
                    self._stream.confirm()
            elif received.has_ended or self._stream.is_closed:
                self._stream.close()
                raise StopAsyncIteration
            else:
                self._stream.broke("the stream ended before the session did")
        return received.events.popleft()

    async def aclose(self) -> None:
        """Ends the stream; a reader that waits for an event sees the end."""
        self._received.events.clear()
        self._stream.close()


class _Received:
    """The position in the changes of a session, and what was delivered beyond it."""

    def __init__(self, start: timeline_service_pb2.WatchSessionRequest) -> None:
        self.events: deque[SessionEvent] = deque()
        self.has_ended = False
        self._session_id = start.session_id
        self._version = start.from_version
        """All changes up to this version were received."""
        self._create_time: timestamp_pb2.Timestamp | None = None
        """That of the session that the position is of. None: not known."""
        if start.HasField("from_create_time"):
            self._create_time = start.from_create_time
        self._session: timeline_pb2.Session | None = None
        """The session as last delivered."""
        self._is_absent = False
        self._beyond: dict[str, int | None] = {}
        """Segments received beyond the position, with their versions; None: deleted. A new stream sends them again."""

    def request(self) -> timeline_service_pb2.WatchSessionRequest:
        """A request for what comes after the position."""
        return timeline_service_pb2.WatchSessionRequest(
            session_id=self._session_id,
            from_version=self._version,
            from_create_time=self._create_time,
        )

    def take(self, news: SessionNews) -> bool:
        """Queues the events of a message. False: it only repeats what was received before."""
        match news.WhichOneof("update"):
            case "session":
                return self._put_session(news.session)
            case "changes":
                return self._put_changes(news.changes)
            case "removal":
                if self._is_absent:
                    return False
                self._forget()
                self._is_absent = True
                self.events.append(SessionRemoved(self._session_id))
            case "reset":
                self._forget()
                self.events.append(SessionReplaced(self._session_id))
            case "keepalive":
                self._advance(news.keepalive.version)
        return True

    def _put_session(self, session: timeline_pb2.Session) -> bool:
        self.has_ended = session.state == timeline_pb2.SESSION_STATE_ENDED
        self._create_time = session.create_time
        self._is_absent = False
        if self._session is not None and _attributes(self._session) == _attributes(session):
            return False
        self._session = session
        self.events.append(SessionChanged(Session.of(session)))
        return True

    def _put_changes(self, changes: timeline_service_pb2.SegmentChanges) -> bool:
        self._is_absent = False
        before = self._version
        segments = [it for it in changes.segments if self._beyond.get(it.key, 0) != it.version]
        deleted = [key for key in changes.deleted_keys if self._beyond.get(key, 0) is not None]
        for segment in segments:
            self._beyond[segment.key] = segment.version
            self.events.append(SegmentChanged(Segment.of(segment), before))
        for key in deleted:
            self._beyond[key] = None
            self.events.append(SegmentDeleted(key, before))
        self._advance(changes.version)
        if segments or deleted:
            # Only after its last event all changes up to the version are delivered.
            last = self.events.pop()
            assert isinstance(last, SegmentChanged | SegmentDeleted)
            self.events.append(replace(last, version=self._version))
        return bool(segments or deleted or self._version > before)

    def _advance(self, version: int) -> None:
        if version > self._version:
            self._version = version
            # Deletions have no version; that a later stream repeats one is known only up to the position.
            self._beyond = {key: at for key, at in self._beyond.items() if at is not None and at > version}

    def _forget(self) -> None:
        self._version, self._create_time, self._session = 0, None, None
        self._beyond.clear()


def _attributes(session: timeline_pb2.Session) -> tuple[object, ...]:
    """What `SessionChanged` is about; segments change the other fields."""
    labels = tuple(sorted(session.labels.items()))
    return session.create_time.ToNanoseconds(), session.state, session.title, labels, session.retention.ToNanoseconds()
