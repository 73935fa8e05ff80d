"""The driver of the Python client: does what the runner asks. README.md has the commands and events."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from interlock import (
    Attempt,
    Client,
    ExportFormat,
    FailureClass,
    Field,
    InterlockError,
    InvalidArgument,
    JobState,
    Segment,
    SegmentChanged,
    SegmentDeleted,
    SegmentKind,
    SegmentResult,
    SegmentStatus,
    SessionChanged,
    SessionRemoved,
    SessionReplaced,
    StageError,
    StageStopped,
    StopReason,
    Untimed,
    Worker,
)

Command = dict[str, Any]


def emit(event: str, **values: Any) -> None:
    """Writes an event for the runner."""
    print(json.dumps({"event": event, **values}), flush=True)


def error_of(error: BaseException) -> str:
    """The name of an error in all languages: its reason, else its status."""
    if isinstance(error, InterlockError):
        return error.reason or error.code.name
    return type(error).__name__


def field_of(error: BaseException | None) -> str:
    """The path of the first field at fault. Empty: none."""
    return error.violations[0].field if isinstance(error, InvalidArgument) and error.violations else ""


def segment_of(given: Command) -> Segment:
    """The segment of a command, which has times in seconds."""
    fields = {"parent" if name == "parent_key" else name: value for name, value in given.items()}
    fields["kind"] = SegmentKind[fields.get("kind", "TRANSCRIPT")]
    fields["status"] = SegmentStatus[fields.get("status", "FINAL")]
    return Segment(**fields)


def appended(results: list[SegmentResult]) -> Command:
    """The results of an append."""
    skips = ["" if it.skip is None else it.skip.name for it in results]
    return {"applied": [it.applied for it in results], "skip": skips}


def imported(it: Command) -> list[Command]:
    """The notes of an import: `count` of them, of which the one at `wrong` ends before it starts."""
    end = {it["wrong"]: 0} if "wrong" in it else {}
    return [
        {"key": f"n{place:05}", "kind": "NOTE", "text": "x", "start": 1, "end": end.get(place, 2)}
        for place in range(it["count"])
    ]


class _Log(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        emit("log", text=record.getMessage())


class Driver:
    """State of one driver."""

    def __init__(self) -> None:
        self.client: Client
        self.gates: dict[str, asyncio.Event] = {}
        self.workers: dict[str, Worker] = {}
        self.tasks: set[asyncio.Task[None]] = set()

    def gate(self, name: str) -> asyncio.Event:
        """A gate; handlers and bodies wait until the runner opens it."""
        return self.gates.setdefault(name, asyncio.Event())

    def begin(self, work: Awaitable[None]) -> None:
        """Runs a command beside the others."""
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, it: Command) -> None:
        options = {"timeout": it.get("timeout_ms", 20_000) / 1e3, "api_key": it.get("api_key")}
        self.client = Client(it["address"], namespace=it.get("namespace"), **options)

    async def open(self, it: Command) -> None:
        self.gate(it["gate"]).set()

    async def worker(self, it: Command) -> None:
        worker = Worker(
            self.client,
            it["queues"],
            it.get("name", "driver"),
            concurrency=it.get("concurrency", 1),
            lease_duration=None if "lease_ms" not in it else it["lease_ms"] / 1e3,
            grace=it.get("grace_ms", 10_000) / 1e3,
        )
        self.workers[it.get("name", "driver")] = worker

        async def run() -> None:
            try:
                await worker.run(self.handle, handle_signals=it.get("signals", False))
                emit("worker", ended="")
            except InterlockError as error:
                emit("worker", ended=error_of(error), message=str(error))

        self.begin(run())

    async def stop_worker(self, it: Command) -> None:
        self.workers[it.get("name", "driver")].stop()

    async def handle(self, attempt: Attempt) -> Any:
        names = {"stage": attempt.stage_name, "attempt": attempt.number}
        emit("begin", **names)
        steps = attempt.input.get("steps", [])
        if isinstance(steps, dict):
            steps = steps.get(str(attempt.number), steps.get("*", []))
        try:
            return await self.steps(steps, attempt)
        except (asyncio.CancelledError, StageStopped):
            reason = attempt.stop_reason
            emit("stop", reason="" if reason is None else reason.name.lower(), **names)
            raise

    async def steps(self, steps: list[list[Any]], attempt: Attempt) -> Any:
        for name, *values in steps:
            match name:
                case "report":
                    attempt.report(values[0])
                case "gate":
                    await self.gate(values[0]).wait()
                case "ignore_stop":
                    with contextlib.suppress(asyncio.CancelledError):
                        await self.gate(values[0]).wait()
                    emit("ignored", reason="" if attempt.stop_reason is None else attempt.stop_reason.name.lower())
                case "fail":
                    wait = None if len(values) < 3 else values[2] / 1e3
                    raise StageError(FailureClass[values[0]], values[1], wait)
                case "block":
                    time.sleep(values[0] / 1e3)  # noqa: ASYNC251
                case "throw":
                    raise RuntimeError(values[0])
                case "exit":
                    os._exit(9)
                case "return":
                    return values[0]
                case "return_bad":
                    return {"number": float("nan")}
                case "dependency":
                    return attempt.dependencies[values[0]].artifacts
        return None

    async def submit(self, it: Command) -> Any:
        job = await self.client.submit_job(
            it["kind"],
            stages=it.get("stages", ()),
            payload={"text": "x" * it.get("payload_bytes", 0)},
            job_id=it.get("job_id"),
            request_id=it.get("request_id"),
        )
        return {"job_id": job.job_id, "version": job.version}

    async def wait_job(self, it: Command) -> Any:
        job = await self.client.wait_job(it["job_id"], it["wait_ms"] / 1e3)
        return {"state": JobState(job.state).name}

    async def watch(self, it: Command) -> None:
        async def follow() -> None:
            async for update in self.client.watch(it["job_id"], silence=it.get("silence_ms", 60_000) / 1e3):
                state = JobState(update.job.state).name
                emit("update", watch=it["id"], version=update.version, state=state, gap=update.gap)

        self.begin(self.following(it, follow()))

    async def watch_records(self, it: Command) -> None:
        async def follow() -> None:
            async for update in self.client.watch_records([tuple(name) for name in it["records"]]):
                fields = None if update.record is None else update.record.fields
                emit("record", watch=it["id"], record=update.record_id, fields=fields, changed=sorted(update.changed))

        self.begin(self.following(it, follow()))

    async def watch_resource(self, it: Command) -> None:
        async def follow() -> None:
            async for resource in self.client.watch_resource(it["resource"]):
                holders = None if resource is None else len(resource.holders)
                emit("resource", watch=it["id"], holders=holders)

        self.begin(self.following(it, follow()))

    async def watch_jobs(self, it: Command) -> None:
        async def follow() -> None:
            async for event in self.client.watch_jobs(it["filter"]):
                kind = type(event).__name__.removeprefix("Job").lower()
                job = getattr(event, "job", None)
                job_id = job.job_id if job is not None else getattr(event, "job_id", "")
                emit("jobs", watch=it["id"], kind=kind, job_id=job_id)

        self.begin(self.following(it, follow()))

    async def open_session(self, it: Command) -> None:
        async with self.client.session(it["session_id"], title=it.get("title", "")):
            pass

    async def append(self, it: Command) -> Command:
        segments = [segment_of(given) for given in it["segments"]]
        return appended(await self.client.session(it["session_id"]).append(*segments))

    async def interim(self, it: Command) -> Command:
        return appended([await self.client.session(it["session_id"]).interim(it["key"], it["text"])])

    async def final(self, it: Command) -> Command:
        return appended([await self.client.session(it["session_id"]).final(it["key"], it["text"])])

    async def write(self, it: Command) -> Command:
        segments = [segment_of(given) for given in it["segments"]]
        results = await self.client.session(it["session_id"]).write(*segments)
        return {
            "applied": [one.result is not None and one.result.applied for one in results],
            "errors": ["" if one.error is None else error_of(one.error) for one in results],
            "fields": [field_of(one.error) for one in results],
        }

    async def import_segments(self, it: Command) -> Command:
        segments = (segment_of(given) for given in imported(it))
        result = await self.client.import_segments(it["session_id"], segments, allow_missing=True)
        counts = {"applied": result.applied, "unchanged": result.unchanged, "failed": result.failed}
        return {**counts, "faults": [[one.index, one.key, field_of(one.error)] for one in result.faults]}

    async def correct(self, it: Command) -> None:
        session = self.client.session(it["session_id"])
        await session.update(await session.get(it["key"]), text=it["text"])

    async def delete_segment(self, it: Command) -> None:
        await self.client.session(it["session_id"]).delete(it["key"])

    async def end_session(self, it: Command) -> None:
        await self.client.session(it["session_id"]).end()

    async def timeline(self, it: Command) -> Command:
        start, end = it.get("start_ms"), it.get("end_ms")
        segments = self.client.session(it["session_id"]).timeline(
            None if start is None else start / 1e3,
            None if end is None else end / 1e3,
            untimed=Untimed[it.get("untimed", "INCLUDE")],
        )
        return {"segments": [[one.key, one.text, one.status.name] async for one in segments]}

    async def search(self, it: Command) -> Command:
        only = f"session_id = {json.dumps(it['session_id'])}"
        matches = self.client.search(it["query"], filter=only)
        return {"matches": [[one.segment.key, one.highlighted("[", "]")] async for one in matches]}

    async def export(self, it: Command) -> Command:
        export = self.client.session(it["session_id"]).export(ExportFormat[it["format"]], it.get("language", ""))
        return {"text": (await export.read()).decode()}

    async def statistics(self, it: Command) -> Command:
        found = await self.client.session(it["session_id"]).statistics()
        return {"spoken": {one.speaker: one.spoken for one in found.speakers}}

    async def watch_session(self, it: Command) -> None:
        watch = it["id"]

        async def follow() -> None:
            async for event in self.client.watch_session(it["session_id"]):
                match event:
                    case SessionChanged(session):
                        emit("session", watch=watch, state=session.state.name)
                    case SessionRemoved():
                        emit("session", watch=watch, state=None)
                    case SessionReplaced():
                        emit("session_replaced", watch=watch)
                    case SegmentChanged(segment):
                        emit("segment", watch=watch, key=segment.key, text=segment.text, status=segment.status.name)
                    case SegmentDeleted(key):
                        emit("segment_deleted", watch=watch, key=key)

        self.begin(self.following(it, follow()))

    async def following(self, it: Command, work: Awaitable[None]) -> None:
        try:
            await work
            emit("watch_end", watch=it["id"], error="")
        except InterlockError as error:
            emit("watch_end", watch=it["id"], error=error_of(error))

    async def permit(self, it: Command) -> None:
        async def hold() -> None:
            try:
                ttl, wait = it.get("ttl_ms", 60_000) / 1e3, it.get("wait_ms", 0) / 1e3
                async with self.client.permit(it["resource"], ttl=ttl, wait=wait) as permit:
                    emit("held", token=permit.fencing_tokens[it["resource"]])
                    await self.gate(it["gate"]).wait()
                emit("left", error="")
            except InterlockError as error:
                emit("left", error=error_of(error))

        self.begin(hold())

    async def update_record(self, it: Command) -> Any:
        fields = [Field(name).set(value) for name, value in it["fields"].items()]
        record = await self.client.update_record(it["collection"], it["record_id"], *fields, allow_missing=True)
        return {"version": record.version}

    async def do(self, it: Command) -> None:
        """Does a command and emits its result."""
        method: Callable[[Command], Awaitable[Any]] = getattr(self, it["do"])
        try:
            emit("result", id=it["id"], ok=await method(it))
        except Exception as error:
            emit("result", id=it["id"], error=error_of(error), message=str(error), field=field_of(error))


async def commands() -> AsyncIterator[Command]:
    """The commands, until the runner closes the pipe."""
    reader = asyncio.StreamReader(limit=1 << 20)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)


async def main() -> None:
    """Does the commands beside each other."""
    log = logging.getLogger("interlock")
    log.setLevel(logging.INFO)
    log.addHandler(_Log())
    log.propagate = False
    driver = Driver()
    emit("ready", reasons=[reason.name.lower() for reason in StopReason])
    async for command in commands():
        if command["do"] in ("connect", "worker"):
            await driver.do(command)
        else:
            driver.begin(driver.do(command))
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
