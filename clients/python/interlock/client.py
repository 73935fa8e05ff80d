"""The client: calls for jobs, records and commits, and those of its base classes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any

from google.protobuf.message import Message

from interlock.arguments import messages, pairs, wait_seconds
from interlock.board import JobsNews, JobsWatch
from interlock.connection import LONGEST_WAIT, PATIENCE, SILENCE, WAIT_MARGIN, with_request_id
from interlock.documents import staleness, to_duration
from interlock.hints import SOON, explain_wait
from interlock.job_calls import JobCalls
from interlock.permit_calls import PermitCalls
from interlock.record_watch import RecordsNews, RecordsWatch
from interlock.records import Record, commit_operations, record_update
from interlock.stages import AnyRetryPolicy, AnyStage, Seconds, job_submission
from interlock.stream import Call, Stream
from interlock.timeline_calls import TimelineCalls
from interlock.tracing import with_trace
from interlock.v1 import (
    job_pb2,
    job_service_pb2,
    permit_service_pb2,
    record_pb2,
    record_service_pb2,
    transaction_service_pb2,
)
from interlock.watch import JobNews, JobWatch, ProgressWatch, copied


class Client(JobCalls, PermitCalls, TimelineCalls):
    """A connection to one server, or to several behind one name.

    Use it with `async with`, within one event loop. All calls add a request id where the request has room for one,
    retry retryable errors until `timeout` is over, and then raise `InterlockError`.
    """

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def submit_job(
        self,
        kind: str,
        *,
        stages: Iterable[AnyStage] = (),
        payload: Mapping[str, Any] | None = None,
        labels: Mapping[str, str] | None = None,
        job_id: str | None = None,
        priority: int = 0,
        start_time: datetime | None = None,
        retry_policy: AnyRetryPolicy | None = None,
        timeout: float | timedelta | None = None,
        retention: float | timedelta | None = None,
        request_id: str | None = None,
    ) -> job_pb2.Job:
        """Creates a job, as in `client.submit_job("film", stages=[{"name": "voice", "input": {"text": "Hello"}}])`.

        Args:
            kind: kind of the job; matches `[A-Za-z0-9._:/-]{1,128}`.
            stages: dicts with the keys of `Stage`, or messages. Empty: one stage `main` in the queue `default`.
            payload: document that all stages see, at most 256 KiB as JSON. None: none.
            labels: at most 64. None: none. Within a span of OpenTelemetry `traceparent` is added, see the README.
            job_id: id that matches `[A-Za-z0-9._:-]{1,128}`. None: the server chooses one.
            priority: -1,000 to 1,000; higher is leased first.
            start_time: time before which no stage starts, with a time zone. None: now.
            retry_policy: policy of stages without their own, a dict with the keys of `RetryPolicy`. None: the defaults.
            timeout: longest duration of a run, up to 365 days; then the job fails with TIMEOUT. None: no limit.
            retention: time that the job is kept after its end, 0 to 365 days. None: 7 days.
            request_id: a UUID that makes the call safe to repeat, also by another process. None: a new one.

        Raises:
            AlreadyExists: the `job_id` is taken.
            TypeError: a stage has an unknown key, or a value of another type.
        """
        request = job_submission(
            kind,
            stages=stages,
            payload=payload,
            labels=labels,
            job_id=job_id,
            priority=priority,
            start_time=start_time,
            retry_policy=retry_policy,
            timeout=timeout,
            retention=retention,
            request_id=request_id,
        )
        return (await self.call(self.jobs.SubmitJob, request)).job

    async def wait_job(self, job_id: str, timeout: float | None = None) -> job_pb2.Job:
        """Waits until a job has ended, at most `timeout` seconds, and returns it. None: no limit.

        The state of the job says whether it has ended. A wait of more than 50 s is made of several calls. If the job
        has not started after 1.5 s, `interlock.client` logs why.
        """
        deadline = None if timeout is None else time.monotonic() + wait_seconds(timeout, "timeout")
        longest = SOON
        while True:
            left = longest if deadline is None else max(0.0, deadline - time.monotonic())
            wait = min(left, longest)
            request = job_service_pb2.WaitJobRequest(job_id=job_id, wait=to_duration(wait))
            response = await self.call(self.jobs.WaitJob, request, timeout=wait + max(WAIT_MARGIN, self.timeout))
            if response.terminal or (deadline is not None and time.monotonic() >= deadline):
                return response.job
            if longest == SOON and response.job.state == job_pb2.JOB_STATE_PENDING:
                await explain_wait(self, job_id)
            longest = LONGEST_WAIT

    def watch(
        self,
        job: str | job_pb2.Job,
        from_version: int = 0,
        *,
        silence: float = SILENCE,
        patience: float | None = PATIENCE,
    ) -> JobWatch:
        """Follows a job to its end, as in `async for update in client.watch(job_id)`.

        The first update is the job as it is, and each further one is the job after the next change. Every change of
        state is delivered; steps of progress may be merged. The iterator ends after the terminal update, or at once if
        the job had ended by the version that the watch starts after. A broken stream is resumed from the last version,
        on any server; no version is delivered twice.

        Changes do not carry `labels`, `priority`, `result`, the times of the job, and artifacts: these are as of the
        last full read. `get_job` has them.

        Args:
            job: id of the job, or the job itself as `submit_job` and `get_job` return it; then only later changes
                are delivered.
            from_version: version that the caller already knows. Only later changes are delivered, and the job is not
                read: `update.job` has only the fields of the changes, and `stages_truncated` is set.
            silence: seconds without a message after which a stream is closed and resumed. A good value is three
                times the `--watch-keepalive` of the server.
            patience: seconds of failed resumes in a row before the error is raised. None: no limit.

        Raises:
            NotFound: the job does not exist or was deleted. Raised by the iterator, as all errors.
            VersionInFuture: the job has not reached `from_version`.
            InterlockError: resuming failed for `patience` seconds, or the error is permanent.
        """
        if isinstance(job, str):
            start = job_pb2.Job(job_id=job, version=from_version, stages_truncated=from_version > 0)
        elif from_version:
            raise ValueError("a job begins after its own version")
        else:
            start = copied(job)

        def begin(request: job_service_pb2.WatchJobRequest) -> Call[JobNews]:
            return self.jobs.WatchJob(request, metadata=with_trace(self._metadata))

        def stream(again: Callable[[], Call[JobNews]]) -> Stream[JobNews]:
            return self._stream(again, silence=silence, patience=patience)

        return JobWatch(begin, stream, start)

    def progress(
        self,
        job: str | job_pb2.Job,
        *,
        silence: float = SILENCE,
        patience: float | None = PATIENCE,
    ) -> ProgressWatch:
        """Follows the progress, state and running stages of a job, for front ends: an update for each change of these.

        Arguments and errors are those of `watch`.
        """
        return ProgressWatch(self.watch(job, silence=silence, patience=patience))

    def watch_jobs(
        self,
        filter: str = "",
        *,
        silence: float = SILENCE,
        patience: float | None = PATIENCE,
    ) -> JobsWatch:
        """Follows all jobs of a filter, without their stages: `async for event in client.watch_jobs("kind = film")`.

        The first events are a `JobAppeared` for each job that matches, then one `CaughtUp`. After it `JobAppeared`,
        `JobChanged` and `JobRemoved` come as they happen. The watch does not end by itself. A broken stream is
        restarted and compared: only differences are delivered, and changes of state in between can be missing.

        Args:
            filter: as in `ListJobsRequest`. Empty: all jobs.
            silence: as in `watch`.
            patience: as in `watch`.

        Raises:
            InvalidArgument: the filter is malformed. Raised by the iterator, as all errors.
            ResourceExhausted: more than 10,000 jobs match.
            InterlockError: resuming failed for `patience` seconds, or the error is permanent.
        """

        def begin() -> Call[JobsNews]:
            request = job_service_pb2.WatchJobsRequest(filter=filter)
            return self.jobs.WatchJobs(request, metadata=with_trace(self._metadata))

        def stream(again: Callable[[], Call[JobsNews]]) -> Stream[JobsNews]:
            return self._stream(again, silence=silence, patience=patience)

        return JobsWatch(begin, stream)

    async def get_record(self, collection: str, record_id: str, *, max_staleness: Seconds | None = None) -> Record:
        """Reads one record with its fields. `max_staleness`: as in `get_job`."""
        request = record_service_pb2.GetRecordRequest(
            collection=collection, record_id=record_id, max_staleness=staleness(max_staleness)
        )
        return Record.of((await self.call(self.records.GetRecord, request)).record)

    async def list_records(
        self, collection: str, filter: str = "", *, order_by: str = "", max_staleness: Seconds | None = None
    ) -> AsyncIterator[Record]:
        """Iterates over the records of a collection that match a filter, page by page.

        If few records match, the iteration reads many pages. `max_staleness`: as in `get_job`.
        """
        request = record_service_pb2.ListRecordsRequest(
            collection=collection,
            filter=filter,
            order_by=order_by,
            page_size=1_000,
            max_staleness=staleness(max_staleness),
        )
        async for page in self._pages(self.records.ListRecords, request):
            for record in page.records:
                yield Record.of(record)

    async def list_collections(
        self, *, max_staleness: Seconds | None = None
    ) -> AsyncIterator[record_service_pb2.Collection]:
        """Iterates over the collections that have records, in order of name, page by page.

        Records are counted up to 10,000 each. `max_staleness`: as in `get_job`.
        """
        request = record_service_pb2.ListCollectionsRequest(page_size=1_000, max_staleness=staleness(max_staleness))
        async for page in self._pages(self.records.ListCollections, request):
            for collection in page.collections:
                yield collection

    async def update_record(
        self,
        collection: str,
        record_id: str,
        *operations: record_pb2.FieldOperation,
        expected_version: int | None = None,
        allow_missing: bool = False,
        return_current: bool = False,
    ) -> Record:
        """Changes fields of a record in one call, all or none, as in
        `client.update_record("films", "f1", Field("views").increment(), Field("url").set("s3://x"))`.
        With `return_current` a `VersionMismatch` has the record as `current`, so that a retry needs no read.
        """
        request = record_update(
            collection,
            record_id,
            *operations,
            expected_version=expected_version,
            allow_missing=allow_missing,
            return_current=return_current,
        )
        return Record.of((await self.call(self.records.UpdateRecord, request)).record)

    async def update_records(self, updates: Iterable[record_service_pb2.UpdateRecordRequest]) -> list[Record]:
        """Applies up to 500 updates made by `record_update` in order, all or none."""
        request = record_service_pb2.BatchUpdateRecordsRequest(updates=messages(updates, "updates"))
        response = await self.call(self.records.BatchUpdateRecords, request)
        return [Record.of(result.record) for result in response.results]

    async def write_records(
        self, updates: Iterable[record_service_pb2.UpdateRecordRequest]
    ) -> list[record_service_pb2.RecordWriteResult]:
        """Applies up to 500 updates independently; each result has a status. Each update gets a request id."""
        with_ids = [with_request_id(update) for update in messages(updates, "updates")]
        request = record_service_pb2.BatchWriteRecordsRequest(updates=with_ids)
        return list((await self.call(self.records.BatchWriteRecords, request)).results)

    async def delete_record(
        self,
        collection: str,
        record_id: str,
        *,
        expected_version: int | None = None,
        return_current: bool = False,
    ) -> None:
        """Deletes a record. With `return_current` a `VersionMismatch` has the record as `current`."""
        request = record_service_pb2.DeleteRecordRequest(
            collection=collection,
            record_id=record_id,
            expected_version=expected_version,
            return_current=return_current,
        )
        await self.call(self.records.DeleteRecord, request)

    def watch_records(
        self,
        records: Iterable[tuple[str, str]],
        *,
        silence: float = SILENCE,
        patience: float | None = PATIENCE,
    ) -> RecordsWatch:
        """Follows records, as in `async for update in client.watch_records([("films", "f1"), ("films", "f2")])`.

        The first update of each record is its current state, or that it does not exist; further updates follow each
        change, deletion and creation. Changes may be merged into one update; the last state is always delivered.
        The watch does not end by itself. A broken stream is resumed from the last delivered states, on any server: no
        update is delivered twice, and changes of a record during the gap are one update.

        Args:
            records: 1 to 100 different pairs of collection and record id. The records need not exist yet.
            silence: as in `watch`.
            patience: as in `watch`.

        Raises:
            TypeError: an element of `records` is not a pair. Raised by this call.
            InvalidArgument: there are more than 100 records, a record is listed twice, or a name is malformed. Raised
                by the iterator, as all errors.
            InterlockError: resuming failed for `patience` seconds, or the error is permanent.
        """

        def begin(request: record_service_pb2.WatchRecordsRequest) -> Call[RecordsNews]:
            return self.records.WatchRecords(request, metadata=with_trace(self._metadata))

        def stream(again: Callable[[], Call[RecordsNews]]) -> Stream[RecordsNews]:
            return self._stream(again, silence=silence, patience=patience)

        return RecordsWatch(begin, stream, _record_names(records))

    async def commit(
        self, requests: Iterable[Message], *, lease_fence: str | None = None, permit_fence: str | None = None
    ) -> list[transaction_service_pb2.CommitResult]:
        """Applies several requests in one commit, all or none.

        Args:
            requests: such as `UpdateRecordRequest`, `SubmitJobRequest` or `AppendSegmentsRequest`.
            lease_fence: a lease token, such as `attempt.lease.lease_token`: applied only while that lease is held.
                Empty: InvalidArgument. None: no lease is required.
            permit_fence: a permit token: applied only while that permit is held. `permit_release` can end the permit
                in the same commit.
                Empty: InvalidArgument. None: no permit is required.

        Raises:
            LeaseLost: the lease is not held.
            PermitLost: the permit is not held.
            InterlockError: the error of one request; `metadata["index"]` is its position.
        """
        requests = messages(requests, "requests")
        request = transaction_service_pb2.CommitRequest(
            operations=commit_operations(requests), lease_fence=lease_fence, permit_fence=permit_fence
        )
        with self._keeper.ending(
            it.permit_token for it in requests if isinstance(it, permit_service_pb2.ReleasePermitRequest)
        ):
            return list((await self.call(self.transactions.Commit, request)).results)


def _record_names(records: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(where, which) for where, which in pairs(records, "records", '[("films", "f1"), ("films", "f2")]')]
