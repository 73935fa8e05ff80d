"""The watch of one job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from interlock.errors import InterlockError, VersionInFuture
from interlock.states import JobState
from interlock.stream import Call, ChainBroken, Stream, Watch
from interlock.v1 import job_pb2, job_service_pb2

_TERMINAL = frozenset({job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED})
AnyMessage = TypeVar("AnyMessage", bound=Message)


@dataclass(frozen=True)
class JobUpdate:
    """State of a job after one update."""

    job: job_pb2.Job
    """The current job, a copy per update."""
    change: job_service_pb2.JobChange | None
    """The change that led to this state. None: the job was read as a whole."""
    gap: bool
    """Whether changes of state can be missing since the previous update, or since `from_version`."""

    @property
    def version(self) -> int:
        """Version of the job; increases with each update."""
        return self.job.version


@dataclass(frozen=True)
class RunningStage:
    """A stage that a worker has leased, or that is written by name."""

    name: str
    progress: float
    message: str
    worker_id: str
    """Id of the worker. Empty: the stage is written by name, or the worker is not known."""


@dataclass(frozen=True)
class JobProgress:
    """Progress of a job."""

    progress: float
    """0 to 1. Never decreases within a run."""
    state: JobState
    running: tuple[RunningStage, ...]

    @property
    def has_ended(self) -> bool:
        """Whether the job is in a terminal state."""
        return self.state.is_terminal


JobNews = job_service_pb2.WatchJobResponse


class JobWatch(Watch[JobUpdate]):
    """The iterator that `Client.watch` returns."""

    def __init__(
        self,
        begin: Callable[[job_service_pb2.WatchJobRequest], Call[JobNews]],
        stream: Callable[[Callable[[], Call[JobNews]]], Stream[JobNews]],
        job: job_pb2.Job,
    ) -> None:
        """Follows a job from a version on; version 0 starts with a snapshot."""
        position = _Position(job)

        def again() -> Call[JobNews]:
            from_version = 0 if position.reread else position.job.version
            return begin(job_service_pb2.WatchJobRequest(job_id=job.job_id, from_version=from_version))

        self._position = position
        self._stream = stream(again)

    def __aiter__(self) -> JobWatch:
        return self

    async def __aenter__(self) -> JobWatch:
        return self

    async def __anext__(self) -> JobUpdate:
        while not self._stream.is_closed:
            response = await self._stream.read()
            if response is None:
                if self._position.can_end or self._stream.is_closed:
                    break
                self._stream.broke("the stream ended before the job did")
                continue
            was_lost = self._position.reread
            try:
                update = self._position.take(response)
            except ChainBroken as broken:
                self._position.lose()
                self._stream.broke(str(broken))
                continue
            except InterlockError:
                self._stream.close()
                raise
            if not was_lost:
                self._stream.confirm()
            if update is not None:
                if update.job.state in _TERMINAL:
                    self._stream.close()
                return update
        self._stream.close()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the stream; a reader that waits for an update sees the end."""
        self._stream.close()


class ProgressWatch(Watch[JobProgress]):
    """The iterator that `Client.progress` returns."""

    def __init__(self, watch: JobWatch) -> None:
        self._watch = watch
        self._last: JobProgress | None = None

    def __aiter__(self) -> ProgressWatch:
        return self

    async def __aenter__(self) -> ProgressWatch:
        return self

    async def __anext__(self) -> JobProgress:
        while True:
            job = (await self._watch.__anext__()).job
            now = JobProgress(job.progress, JobState(job.state), running_stages(job))
            if now != self._last:
                self._last = now
                return now

    async def aclose(self) -> None:
        """Ends the stream; a reader that waits for an update sees the end."""
        await self._watch.aclose()


def running_stages(job: job_pb2.Job) -> tuple[RunningStage, ...]:
    """The stages of a job that are RUNNING."""
    return tuple(
        RunningStage(stage.name, stage.progress, stage.message, stage.lease.worker_id)
        for stage in job.stages
        if stage.state == job_pb2.STAGE_STATE_RUNNING
    )


class _Position:
    """Position of a watch in the changes of a job."""

    def __init__(self, job: job_pb2.Job) -> None:
        self.job = job
        self.reread = False
        """Whether the job must be read as a whole."""
        self._stages = {stage.name: index for index, stage in enumerate(job.stages)}
        self._gap = False

    @property
    def can_end(self) -> bool:
        """Whether the server may end the stream here: the job has ended, or only its version is known."""
        is_unknown = self.job.version > 0 and self.job.state == job_pb2.JOB_STATE_UNSPECIFIED
        return self.job.state in _TERMINAL or is_unknown

    def lose(self) -> None:
        """Marks the state as incomplete, so that the job is read again as a whole."""
        self.reread = self._gap = True

    def take(self, response: JobNews) -> JobUpdate | None:
        """The update that a message makes. None: no update."""
        match response.WhichOneof("update"):
            case "snapshot":
                return self._whole(response.snapshot)
            case "change":
                return self._changed(response.change)
            case "gap":
                self._gap = True
            case "keepalive" if response.keepalive.version > self.job.version:
                raise ChainBroken(f"version {response.keepalive.version} was never received")
        return None

    def _whole(self, job: job_pb2.Job) -> JobUpdate | None:
        before = self.job.version
        if job.version < before:
            message = f"the job is at version {job.version}, and {before} was received: it is another of the same id"
            raise VersionInFuture(
                grpc.StatusCode.OUT_OF_RANGE, message, metadata={"actual": str(job.version), "outcome": "NOT_APPLIED"}
            )
        self.job = job
        self.reread = False
        self._stages = {stage.name: index for index, stage in enumerate(job.stages)}
        return self._update(None) if job.version > before else None

    def _changed(self, change: job_service_pb2.JobChange) -> JobUpdate | None:
        if change.version <= self.job.version:
            return None
        if change.previous_version != self.job.version:
            raise ChainBroken(f"version {change.previous_version} was never received, and {change.version} follows it")
        job = copied(self.job)
        apply(job, change)
        for stage in change.stages:
            self._put(job, stage)
        job.stages_truncated |= change.stages_truncated
        if not change.HasField("stage_counts") and not job.stages_truncated:
            _count(job)
        self.job = job
        return self._update(change)

    def _put(self, job: job_pb2.Job, stage: job_pb2.Stage) -> None:
        index = self._stages.setdefault(stage.name, len(job.stages))
        if index == len(job.stages):
            job.stages.append(stage)
            return
        held = job.stages[index]
        artifacts = held.artifacts if held.HasField("artifacts") and held.version == stage.version else None
        stored = copied(stage)
        if artifacts is not None:
            # Changes do not carry artifacts.
            stored.artifacts.CopyFrom(artifacts)
        held.CopyFrom(stored)

    def _update(self, change: job_service_pb2.JobChange | None) -> JobUpdate:
        update = JobUpdate(self.job, change, self._gap)
        self._gap = False
        return update


def copied(message: AnyMessage) -> AnyMessage:
    """A copy of a message."""
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _count(job: job_pb2.Job) -> None:
    """Recounts the stages of a job with a complete list of stages."""
    counts = Counter(job_pb2.StageState.Name(stage.state).removeprefix("STAGE_STATE_").lower() for stage in job.stages)
    job.stage_counts.CopyFrom(job_pb2.StageCounts(total=len(job.stages), **counts))


def apply(job: job_pb2.Job, change: job_service_pb2.JobChange) -> None:
    """Applies a change to a job, except for its stages."""
    if change.run != job.run:
        # Changes do not carry these, and the values of the previous run do not apply to this one.
        for name in ("result", "start_time", "end_time", "expire_time", "cancel_deadline_time", "cancel_reason"):
            job.ClearField(name)
        job.progress = change.progress
    # History written by older servers has no progress.
    job.progress = max(job.progress, change.progress)
    job.run = change.run
    job.version = change.version
    job.state = change.state
    job.ClearField("failure")
    if change.HasField("failure"):
        job.failure.CopyFrom(change.failure)
    if change.HasField("stage_counts"):
        job.stage_counts.CopyFrom(change.stage_counts)
