"""States of jobs and stages, as enums that print their names."""

from __future__ import annotations

import enum

from interlock.v1 import job_pb2


class _State(enum.IntEnum):
    def __str__(self) -> str:
        return self.name

    @property
    def is_terminal(self) -> bool:
        """Whether it never changes again within a run."""
        return self.name in ("SUCCEEDED", "FAILED", "CANCELLED", "SKIPPED")


class JobState(_State):
    """State of a job, as in `JobState(job.state)`; equal to the number of the protos."""

    UNKNOWN = job_pb2.JOB_STATE_UNSPECIFIED
    """A state that this version of the package does not know."""
    PENDING = job_pb2.JOB_STATE_PENDING
    RUNNING = job_pb2.JOB_STATE_RUNNING
    PAUSED = job_pb2.JOB_STATE_PAUSED
    CANCELLING = job_pb2.JOB_STATE_CANCELLING
    SUCCEEDED = job_pb2.JOB_STATE_SUCCEEDED
    FAILED = job_pb2.JOB_STATE_FAILED
    CANCELLED = job_pb2.JOB_STATE_CANCELLED

    @classmethod
    def _missing_(cls, value: object) -> JobState:
        return cls.UNKNOWN


class StageState(_State):
    """State of a stage, as in `StageState(stage.state)`; equal to the number of the protos."""

    UNKNOWN = job_pb2.STAGE_STATE_UNSPECIFIED
    """A state that this version of the package does not know."""
    BLOCKED = job_pb2.STAGE_STATE_BLOCKED
    READY = job_pb2.STAGE_STATE_READY
    RUNNING = job_pb2.STAGE_STATE_RUNNING
    BACKOFF = job_pb2.STAGE_STATE_BACKOFF
    SUCCEEDED = job_pb2.STAGE_STATE_SUCCEEDED
    FAILED = job_pb2.STAGE_STATE_FAILED
    CANCELLED = job_pb2.STAGE_STATE_CANCELLED
    SKIPPED = job_pb2.STAGE_STATE_SKIPPED

    @classmethod
    def _missing_(cls, value: object) -> StageState:
        return cls.UNKNOWN
