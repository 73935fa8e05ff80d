"""Following all jobs of a filter: what appears, changes and goes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from interlock.stream import Call, Stream, Watch
from interlock.v1 import job_pb2, job_service_pb2
from interlock.watch import apply, copied


@dataclass(frozen=True)
class JobAppeared:
    """A job that matches: from the beginning, or from now on."""

    job: job_pb2.Job
    """The job without its stages, payload and result."""


@dataclass(frozen=True)
class JobChanged:
    """A job that was told of is further."""

    job: job_pb2.Job
    """The job as it is now, without its stages, payload and result."""
    change: job_service_pb2.JobChange | None
    """What led to it, with the stages that changed. None: the stream was begun again, and more is not known."""


@dataclass(frozen=True)
class JobRemoved:
    """A job that was told of is gone, or matches no more."""

    job: job_pb2.Job
    """The job as it was told last."""
    deleted: bool | None
    """Whether it was deleted. None: not known, it went while the stream was broken."""


@dataclass(frozen=True)
class CaughtUp:
    """All jobs that matched at the beginning have been told of. Comes once."""

    jobs: int


JobsEvent = JobAppeared | JobChanged | JobRemoved | CaughtUp
JobsNews = job_service_pb2.WatchJobsResponse


class JobsWatch(Watch[JobsEvent]):
    """What `Client.watch_jobs` returns."""

    def __init__(
        self,
        begin: Callable[[], Call[JobsNews]],
        stream: Callable[[Callable[[], Call[JobsNews]]], Stream[JobsNews]],
    ) -> None:
        """Follows the jobs that `begin` asks for."""
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
                self._stream.broke("a change was never told")
        return self._board.events.popleft()

    async def aclose(self) -> None:
        """Ends the stream; whoever waits for news sees the end."""
        self._board.events.clear()
        self._stream.close()


class _Board:
    """The jobs that were told of."""

    def __init__(self) -> None:
        self.events: deque[JobsEvent] = deque()
        self._jobs: dict[str, job_pb2.Job] = {}
        self._unseen: set[str] = set()
        """Jobs that were told of by the streams before, and not yet by this one."""
        self._has_caught_up = False

    def begin_again(self) -> None:
        self._unseen = set(self._jobs)

    def take(self, response: JobsNews) -> bool:
        """Notes what is new by a message. False: it does not follow from what was told before."""
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
            # Another one of the same id.
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
