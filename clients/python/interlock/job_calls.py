"""Calls for jobs that exist."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

from interlock.connection import Connection
from interlock.documents import staleness, to_duration
from interlock.stages import Seconds
from interlock.v1 import job_pb2, job_service_pb2, worker_service_pb2


class JobCalls(Connection):
    """Methods of `Client` for jobs that exist."""

    async def get_job(self, job_id: str, *, max_staleness: Seconds | None = None) -> job_pb2.Job:
        """Reads a job with its stages.

        `max_staleness`: how old the answer may be, 0 to 60 s, so that a read replica can give it. None: current.
        """
        request = job_service_pb2.GetJobRequest(job_id=job_id, max_staleness=staleness(max_staleness))
        return (await self.call(self.jobs.GetJob, request)).job

    async def list_jobs(
        self, filter: str = "", *, order_by: str = "", max_staleness: Seconds | None = None
    ) -> AsyncIterator[job_pb2.Job]:
        """Iterates over the jobs that match a filter, without stages, page by page.

        If few jobs match, the iteration reads many pages.

        Args:
            filter: as in `ListJobsRequest`, such as `state = RUNNING AND labels.customer = "acme"`. Empty: all.
            order_by: `create_time`, `end_time` or `priority`, with ` desc` after it for the largest first. Empty: the
                newest first.
            max_staleness: as in `get_job`.
        """
        request = job_service_pb2.ListJobsRequest(
            filter=filter, order_by=order_by, page_size=1_000, max_staleness=staleness(max_staleness)
        )
        async for page in self._pages(self.jobs.ListJobs, request):
            for job in page.jobs:
                yield job

    async def list_queues(self, *, max_staleness: Seconds | None = None) -> AsyncIterator[job_service_pb2.Queue]:
        """Iterates over the queues that have ready, waiting, leased or delayed stages, in order of name, page by page.

        Counts end at a bound, which `ready_count_capped` and its siblings tell. `max_staleness`: as in `get_job`.
        """
        request = job_service_pb2.ListQueuesRequest(page_size=1_000, max_staleness=staleness(max_staleness))
        async for page in self._pages(self.jobs.ListQueues, request):
            for queue in page.queues:
                yield queue

    async def list_workers(
        self, *, max_staleness: Seconds | None = None
    ) -> AsyncIterator[worker_service_pb2.WorkerLeases]:
        """Iterates over the workers that hold leases, in order of `worker_id`, page by page.

        Each has the number of its leases, their queues and the stages that were leased first. The server looks at a
        bounded number of leases, which `lease_count_capped` tells. `max_staleness`: as in `get_job`.
        """
        request = worker_service_pb2.ListWorkersRequest(page_size=1_000, max_staleness=staleness(max_staleness))
        async for page in self._pages(self.workers.ListWorkers, request):
            for worker in page.workers:
                yield worker

    async def cancel_job(
        self,
        job_id: str,
        *,
        reason: str = "",
        grace_period: float | timedelta | None = None,
    ) -> job_pb2.Job:
        """Cancels a job. Its workers have `grace_period` to stop, at least half of it after they receive the request.

        `grace_period`: None is 30 s, and 0 ends leases at once.
        """
        request = job_service_pb2.CancelJobRequest(
            job_id=job_id,
            reason=reason,
            grace_period=None if grace_period is None else to_duration(grace_period),
        )
        return (await self.call(self.jobs.CancelJob, request)).job

    async def pause_job(self, job_id: str, *, expected_version: int | None = None) -> job_pb2.Job:
        """Pauses a job: its stages are not leased any more.

        Args:
            job_id: id of the job.
            expected_version: required version of the job. None: any version.

        Raises:
            InvalidTransition: the job is ending or has ended.
            VersionMismatch: the job has another version.
        """
        request = job_service_pb2.PauseJobRequest(job_id=job_id, expected_version=expected_version)
        return (await self.call(self.jobs.PauseJob, request)).job

    async def resume_job(self, job_id: str, *, expected_version: int | None = None) -> job_pb2.Job:
        """Ends a pause. Arguments and errors are those of `pause_job`."""
        request = job_service_pb2.ResumeJobRequest(job_id=job_id, expected_version=expected_version)
        return (await self.call(self.jobs.ResumeJob, request)).job

    async def retry_job(self, job_id: str, *, from_stage: str = "", expected_version: int | None = None) -> job_pb2.Job:
        """Starts another run of a job that has ended.

        Args:
            job_id: id of the job.
            from_stage: runs this stage and its dependants again, besides stages that have not succeeded. Empty: only
                stages that have not succeeded.
            expected_version: required version of the job. None: any version.

        Raises:
            InvalidTransition: the job has not ended.
            VersionMismatch: the job has another version.
        """
        request = job_service_pb2.RetryJobRequest(
            job_id=job_id, from_stage=from_stage, expected_version=expected_version
        )
        return (await self.call(self.jobs.RetryJob, request)).job

    async def delete_job(self, job_id: str, *, expected_version: int | None = None) -> None:
        """Deletes a job that has ended, with its history.

        Args:
            job_id: id of the job.
            expected_version: required version of the job. None: any version.

        Raises:
            InvalidTransition: the job has not ended.
            VersionMismatch: the job has another version.
        """
        request = job_service_pb2.DeleteJobRequest(job_id=job_id, expected_version=expected_version)
        await self.call(self.jobs.DeleteJob, request)

    async def explain_job(self, job_id: str) -> job_service_pb2.ExplainJobResponse:
        """Says why a job is not moving, or what it is doing: in one sentence, and by stage."""
        return await self.call(self.jobs.ExplainJob, job_service_pb2.ExplainJobRequest(job_id=job_id))
