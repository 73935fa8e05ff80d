"""The client for programs without asyncio: the same methods, blocking.

Calls, renewals and watches of all clients run in one event loop, in a thread of its own.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterable
from typing import Any

import interlock
from interlock.blocking import Loop, Watch, blocking, pages, watching
from interlock.handlers import AnyFunction
from interlock.sync_permit import HeldPermit
from interlock.sync_session import SessionHandle, TimelineExport, pulled

__all__ = ["Client", "HeldPermit", "SessionHandle", "TimelineExport", "Watch", "Worker"]


class Client:
    """A connection to one server, or to several behind one name; for all threads of a program.

    Use it with `with`. Arguments are those of `interlock.Client`, which is its attribute `asyncio`.
    """

    def __init__(self, address: str | None = None, **options: Any) -> None:
        """Arguments are those of `interlock.Client`."""
        self._loop = Loop.shared()

        async def make() -> interlock.Client:
            return interlock.Client(address, **options)

        self.asyncio = self._loop.run(make())
        """The client in the loop of the other thread; its stubs are the first argument of `call`."""
        self.jobs = self.asyncio.jobs
        self.workers = self.asyncio.workers
        self.records = self.asyncio.records
        self.transactions = self.asyncio.transactions
        self.permits = self.asyncio.permits
        self.timelines = self.asyncio.timelines
        self.admin = self.asyncio.admin

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight are cancelled, and held permits expire."""
        self._loop.run(self.asyncio.close())

    @property
    def address(self) -> str:
        """The address of the server, as given."""
        return self.asyncio.address

    def permit(self, *claims: interlock.AnyClaim, **options: Any) -> HeldPermit:
        """Holds a permit while a body runs: `with client.permit("doc-7", wait=30) as permit:`.

        Arguments and errors are those of `interlock.Client.permit`.
        """
        return HeldPermit(self._loop, lambda: self.asyncio.permit(*claims, **options))

    def session(self, session_id: str | None = None, **options: Any) -> SessionHandle:
        """A session to write to, created if it does not exist: `with client.session("standup-7") as s:`.

        Arguments and errors are those of `interlock.Client.session`.
        """
        return SessionHandle(self._loop, self.asyncio.session(session_id, **options))

    def import_segments(
        self, session_id: str, segments: Iterable[interlock.Segment], **options: Any
    ) -> interlock.ImportResult:
        """Stores any number of segments. The iterable may block: it runs in a thread of its own.

        Arguments and errors are those of `interlock.Client.import_segments`.
        """
        return self._loop.run(self.asyncio.import_segments(session_id, pulled(segments), **options))

    call = blocking(interlock.Client.call)
    submit_job = blocking(interlock.Client.submit_job)
    get_job = blocking(interlock.Client.get_job)
    list_jobs = pages(interlock.Client.list_jobs)
    list_queues = pages(interlock.Client.list_queues)
    list_workers = pages(interlock.Client.list_workers)
    wait_job = blocking(interlock.Client.wait_job)
    cancel_job = blocking(interlock.Client.cancel_job)
    pause_job = blocking(interlock.Client.pause_job)
    resume_job = blocking(interlock.Client.resume_job)
    retry_job = blocking(interlock.Client.retry_job)
    delete_job = blocking(interlock.Client.delete_job)
    explain_job = blocking(interlock.Client.explain_job)
    watch = watching(interlock.Client.watch)
    progress = watching(interlock.Client.progress)
    watch_jobs = watching(interlock.Client.watch_jobs)
    get_record = blocking(interlock.Client.get_record)
    list_records = pages(interlock.Client.list_records)
    list_collections = pages(interlock.Client.list_collections)
    update_record = blocking(interlock.Client.update_record)
    update_records = blocking(interlock.Client.update_records)
    write_records = blocking(interlock.Client.write_records)
    delete_record = blocking(interlock.Client.delete_record)
    watch_records = watching(interlock.Client.watch_records)
    commit = blocking(interlock.Client.commit)
    acquire_permit = blocking(interlock.Client.acquire_permit)
    renew_permits = blocking(interlock.Client.renew_permits)
    release_permit = blocking(interlock.Client.release_permit)
    set_policy = blocking(interlock.Client.set_policy)
    get_resource = blocking(interlock.Client.get_resource)
    list_resources = pages(interlock.Client.list_resources)
    list_waiters = pages(interlock.Client.list_waiters)
    delete_resource = blocking(interlock.Client.delete_resource)
    watch_resource = watching(interlock.Client.watch_resource)
    reset_breaker = blocking(interlock.Client.reset_breaker)
    revoke_permit = blocking(interlock.Client.revoke_permit)
    create_session = blocking(interlock.Client.create_session)
    get_session = blocking(interlock.Client.get_session)
    list_sessions = pages(interlock.Client.list_sessions)
    update_session = blocking(interlock.Client.update_session)
    end_session = blocking(interlock.Client.end_session)
    delete_session = blocking(interlock.Client.delete_session)
    search = pages(interlock.Client.search)
    watch_session = watching(interlock.Client.watch_session)


class Worker:
    """As `interlock.Worker`, with a blocking `run`. Plain functions run in threads and may use the client."""

    def __init__(self, client: Client, *args: Any, **options: Any) -> None:
        """Arguments are those of `interlock.Worker`."""

        async def make() -> interlock.Worker:
            return interlock.Worker(client.asyncio, *args, **options)

        self._loop = client._loop
        self._worker = self._loop.run(make())

    def handler(self, stage: str = "*", *, kind: str = "*") -> Callable[[AnyFunction], AnyFunction]:
        """Registers the function below for a stage; see `interlock.Worker.handler`."""
        return self._worker.handler(stage, kind=kind)

    def run(self, handler: Callable[..., Any] | None = None, *, handle_signals: bool = True) -> None:
        """Works until `stop`, or until SIGTERM or SIGINT. Arguments and errors are those of `interlock.Worker.run`.

        Signals are handled only in the main thread of a program.
        """
        is_main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGTERM, signal.SIGINT) if handle_signals and is_main else ()
        before = {number: signal.signal(number, lambda *_: self.stop()) for number in numbers}
        running = self._loop.start(self._worker.run(handler, handle_signals=False))
        try:
            running.result()
        finally:
            for number, action in before.items():
                signal.signal(number, action)

    def stop(self) -> None:
        """Starts the shutdown: no more work is leased. A second call stops waiting for the handlers."""
        self._loop.loop.call_soon_threadsafe(self._worker.stop)
