"""Calls for sessions, without their segments."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

from interlock.connection import Connection
from interlock.documents import staleness, to_duration
from interlock.errors import AlreadyExists, NotFound
from interlock.sessions import Session
from interlock.stages import Seconds
from interlock.v1 import timeline_service_pb2


class SessionCalls(Connection):
    """Methods of `Client` for sessions."""

    async def create_session(
        self,
        session_id: str | None = None,
        *,
        title: str = "",
        labels: Mapping[str, str] | None = None,
        retention: Seconds | None = None,
        request_id: str | None = None,
    ) -> Session:
        """Creates a session. Arguments are those of `session`.

        Args:
            request_id: a UUID that makes the call safe to repeat, also by another process. None: a new one.

        Raises:
            AlreadyExists: the id is taken, also by a session that is being deleted.
        """
        request = timeline_service_pb2.CreateSessionRequest(
            request_id=request_id,
            session_id=session_id,
            title=title,
            labels=labels or {},
            retention=None if retention is None else to_duration(retention),
        )
        return Session.of((await self.call(self.timelines.CreateSession, request)).session)

    async def get_session(self, session_id: str, *, max_staleness: Seconds | None = None) -> Session:
        """Reads one session, without its segments. `max_staleness`: as in `get_job`."""
        request = timeline_service_pb2.GetSessionRequest(session_id=session_id, max_staleness=staleness(max_staleness))
        return Session.of((await self.call(self.timelines.GetSession, request)).session)

    async def list_sessions(
        self, filter: str = "", *, order_by: str = "", max_staleness: Seconds | None = None
    ) -> AsyncIterator[Session]:
        """Iterates over sessions, the newest first, page by page.

        If few sessions match, the iteration reads many pages.

        Args:
            filter: as in `ListSessionsRequest`, such as `state = OPEN AND labels.team = "acme"`. Empty: all.
            order_by: `create_time` or `end_time`, with ` desc` after it for the largest first. Empty: the newest first.
            max_staleness: as in `get_job`.
        """
        request = timeline_service_pb2.ListSessionsRequest(
            filter=filter, order_by=order_by, page_size=1_000, max_staleness=staleness(max_staleness)
        )
        async for page in self._pages(self.timelines.ListSessions, request):
            for session in page.sessions:
                yield Session.of(session)

    async def update_session(
        self,
        session_id: str,
        *,
        title: str | None = None,
        labels: Mapping[str, str] | None = None,
        retention: Seconds | None = None,
        expected_version: int | None = None,
    ) -> Session:
        """Changes title, labels or retention of a session, in any state.

        Args:
            session_id: id of the session.
            title: the new title; empty: none. None: it stays.
            labels: the new labels, in place of all it has. None: they stay.
            retention: the new time from the end of the session to its deletion. None: it stays.
            expected_version: required version of the session. None: any version.

        Raises:
            VersionMismatch: the session has another version.
        """
        request = timeline_service_pb2.UpdateSessionRequest(
            session_id=session_id,
            title=title or "",
            labels=labels or {},
            retention=None if retention is None else to_duration(retention),
            expected_version=expected_version,
        )
        given = {"title": title, "labels": labels, "retention": retention}
        request.update_mask.paths.extend(name for name, value in given.items() if value is not None)
        return Session.of((await self.call(self.timelines.UpdateSession, request)).session)

    async def end_session(self, session_id: str, *, expected_version: int | None = None) -> Session:
        """Ends a session: appends are refused from now on. A session that has ended is not changed.

        `expected_version`: required version of the session. None: any version.
        """
        request = timeline_service_pb2.EndSessionRequest(session_id=session_id, expected_version=expected_version)
        return Session.of((await self.call(self.timelines.EndSession, request)).session)

    async def delete_session(self, session_id: str, *, expected_version: int | None = None) -> None:
        """Deletes a session with its segments.

        `expected_version`: required version of the session. None: any version.
        """
        request = timeline_service_pb2.DeleteSessionRequest(session_id=session_id, expected_version=expected_version)
        await self.call(self.timelines.DeleteSession, request)

    async def _open_or_create(
        self, session_id: str | None, title: str, labels: Mapping[str, str] | None, retention: Seconds | None
    ) -> Session:
        deadline = time.monotonic() + self.timeout
        retry = 0
        while True:
            try:
                return await self.create_session(session_id, title=title, labels=labels, retention=retention)
            except AlreadyExists as taken:
                assert session_id is not None
                try:
                    return await self.get_session(session_id)
                except NotFound:
                    # It is being deleted, and its id is free afterwards.
                    wait = self._backoff.wait(retry, None)
                    if time.monotonic() + wait >= deadline:
                        raise taken from None
            retry += 1
            await asyncio.sleep(wait)
