"""The watch of all jobs that match a filter."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from interlock.stream import Call, Stream, Watch
from interlock.v1 import job_pb2, job_service_pb2
from interlock.watch import apply, copied


@dataclass(frozen=True)
class JobAppeared:
    """A job matches the filter: at the start of the watch, or from now on."""

    job: job_pb2.Job
    """The job without its stages, payload and result."""


@dataclass(frozen=True)
class JobChanged:
    """A job that has appeared has changed."""

    job: job_pb2.Job
    """The job as it is now, without its stages, payload and result."""
    change: job_service_pb2.JobChange | None
    """The change, with the stages that changed. None: the stream was restarted, and the change is not known."""


@dataclass(frozen=True)
class JobRemoved:
    """A job that has appeared was deleted, or does not match any more."""

    job: job_pb2.Job
    """The job as last received."""
    deleted: bool | None
    """Whether the job was deleted. None: not known, because it went while the stream was broken."""


@dataclass(frozen=True)
class CaughtUp:
    """All jobs that matched at the start have appeared. Sent once."""

    jobs: int


JobsEvent = JobAppeared | JobChanged | JobRemoved | CaughtUp
JobsNews = job_service_pb2.WatchJobsResponse


class JobsWatch(Watch[JobsEvent]):
    """The iterator that `Client.watch_jobs` returns."""

    def __init__(
        self,
        begin: Callable[[], Call[JobsNews]],
        stream: Callable[[Callable[[], Call[JobsNews]]], Stream[JobsNews]],
    ) -> None:
        """Follows the jobs of the stream that `begin` opens."""
        board = _Board()

        def again() -> Call[JobsNews]:
            board.begin_again()
            return begin()

        self._board = board
        self._stream = stream(again)

    def __aiter__(self) -> JobsWatch:
        return self

    async def __aenter__(self) -> JobsWatch:
        return self

    async def __anext__(self) -> JobsEvent:
        while not self._board.events:
            response = await self._stream.read_on()
            if response is None:
                raise StopAsyncIteration
            if self._board.take(response):
                self._stream.confirm()
            else:
                self._stream.broke("a change was never received")
        return self._board.events.popleft()

    async def aclose(self) -> None:
        """Ends the stream; a reader that waits for an update sees the end."""
        self._board.events.clear()
        self._stream.close()


class _Board:
    """The jobs that have appeared."""

    def __init__(self) -> None:
        self.events: deque[JobsEvent] = deque()
        self._jobs: dict[str, job_pb2.Job] = {}
        self._unseen: set[str] = set()
        """Jobs from earlier streams that this stream has not sent yet."""
        self._has_caught_up = False

    def begin_again(self) -> None:
        self._unseen = set(self._jobs)

    def take(self, response: JobsNews) -> bool:
        """Applies a message and queues its events. False: the message does not follow from the ones before."""
        match response.WhichOneof("update"):
            case "job":
                self._job(response.job)
            case "change":
                return self._changed(response.change)
            case "removal":
                self._remove(response.removal.job_id, response.removal.deleted)
            case "caught_up":
                for job_id in sorted(self._unseen):
                    self._remove(job_id, None)
                self._unseen = set()
                if not self._has_caught_up:
                    self._has_caught_up = True
                    self.events.append(CaughtUp(response.caught_up.jobs))
        return True

    def _job(self, job: job_pb2.Job) -> None:
        self._unseen.discard(job.job_id)
        known = self._jobs.get(job.job_id)
        if known is not None and known.create_time != job.create_time:
            # Another job with the same id.
            self._remove(job.job_id, True)
            known = None
        if known is None:
            self.events.append(JobAppeared(job))
        elif known.version < job.version:
            self.events.append(JobChanged(job, None))
        self._jobs[job.job_id] = job

    def _changed(self, change: job_service_pb2.JobChange) -> bool:
        known = self._jobs.get(change.job_id)
        if known is None or known.version != change.previous_version:
            return False
        job = copied(known)
        apply(job, change)
        self._jobs[change.job_id] = job
        self.events.append(JobChanged(job, change))
        return True

    def _remove(self, job_id: str, deleted: bool | None) -> None:
        job = self._jobs.pop(job_id, None)
        self._unseen.discard(job_id)
        if job is not None:
            self.events.append(JobRemoved(job, deleted))
