"""Plays one scenario with the driver of one language: starts and breaks servers, and compares events."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import interlock
from google.protobuf.json_format import MessageToDict
from interlock import Client
from interlock.testing import free_port
from interlock.v1 import common_pb2, job_service_pb2, worker_service_pb2

import sessions
from programs import WITHIN, Server, other_programs, other_worker
from scripted import Scripted, scripted

Step = dict[str, Any]


class Mismatch(AssertionError):
    """What came is not what was expected."""


class Driver:
    """A program of one language that uses its client."""

    def __init__(self, command: list[str], directory: Path) -> None:
        self._command = command
        self._directory = directory
        self._process: asyncio.subprocess.Process
        self._reading: asyncio.Task[None]
        self._events: list[dict[str, Any]] = []
        self._taken: set[int] = set()
        self._came = asyncio.Condition()
        self._id = 0
        self.has_ended = False

    async def start(self) -> None:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("INTERLOCK_")}
        environment["PYTHONPATH"] = str(Path(interlock.__file__).parents[1])
        self.has_ended = False
        self._process = await asyncio.create_subprocess_exec(
            *self._command, cwd=self._directory, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reading = asyncio.create_task(self._read(self._process))
        await self.event({"event": "ready"})

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            await self._add(json.loads(line))
        await process.wait()
        self.has_ended = True
        await self._add({"event": "exited", "code": process.returncode})

    async def _add(self, event: dict[str, Any]) -> None:
        async with self._came:
            self._events.append(event)
            self._came.notify_all()

    async def send(self, command: Step) -> int:
        """Sends a command; returns its number."""
        self._id += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"id": self._id, **command}).encode() + b"\n")
        await self._process.stdin.drain()
        return self._id

    async def event(self, expected: Step, within: float = WITHIN) -> dict[str, Any]:
        """The first event that fits and was not taken before."""

        def find() -> dict[str, Any] | None:
            for place, event in enumerate(self._events):
                if place not in self._taken and fits(event, expected):
                    self._taken.add(place)
                    return event
            return None

        async def look() -> dict[str, Any]:
            async with self._came:
                while (found := find()) is None:
                    await self._came.wait()
                return found

        try:
            return await asyncio.wait_for(look(), within)
        except asyncio.TimeoutError:
            raise Mismatch(f"no event {expected} within {within:g} s; there were:\n{self.history()}") from None

    def all(self, expected: Step) -> list[dict[str, Any]]:
        """All events so far that fit."""
        return [event for event in self._events if fits(event, expected)]

    def history(self) -> str:
        return "\n".join(f"  {json.dumps(event)}" for event in self._events[-60:])

    def signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def close(self) -> None:
        self.signal(signal.SIGKILL)
        await self._process.wait()
        await self._reading


class Run:
    """One scenario with one driver."""

    def __init__(
        self, driver: Driver, server: Server | None, fake: Scripted | None, around: Client, others: Mapping[str, str]
    ) -> None:
        self.driver = driver
        self.server = server
        self.fake = fake
        self.around = around
        """A client of another server over the same database, for what other programs do."""
        unique = uuid.uuid4().hex[:12]
        self.names = {
            name: f"{name}-{unique}"
            for name in ("queue", "other-queue", "job", "resource", "collection", "kind", "session")
        }
        self.names["uuid"] = str(uuid.uuid4())
        served = fake.address if fake is not None else "" if server is None else server.address
        self.names |= {"address": served, "no-address": f"127.0.0.1:{free_port()}", **others}
        self._others = AsyncExitStack()

    async def play(self, steps: list[Step]) -> None:
        async with self._others:
            for number, step in enumerate(steps):
                try:
                    await self._step(self._named(step))
                except BaseException as failed:
                    raise Mismatch(f"step {number} {json.dumps(step)}: {failed}\n{self.driver.history()}") from failed

    def _named(self, value: Any) -> Any:
        """The value with `$queue` and others replaced by names that no other run has."""
        match value:
            case str():
                for name in sorted(self.names, key=len, reverse=True):
                    value = value.replace(f"${name}", self.names[name])
                return value
            case dict():
                return {self._named(key): self._named(item) for key, item in value.items()}
            case list():
                return [self._named(item) for item in value]
            case _:
                return value

    async def _step(self, step: Step) -> None:
        (kind,) = set(step) & set(_STEPS)
        await _STEPS[kind](self, step[kind], step)

    async def _driver(self, command: Step, step: Step) -> None:
        number = await self.driver.send(command)
        if step.get("wait", True):
            expected = {"event": "result", "id": number, **step.get("expect", {"ok": ...})}
            await self.driver.event(expected, step.get("within", WITHIN))

    async def _event(self, expected: Step, step: Step) -> None:
        await self.driver.event(expected, step.get("within", WITHIN))

    async def _never(self, expected: Step, step: Step) -> None:
        found = self.driver.all(expected)
        if len(found) > step.get("but", 0):
            raise Mismatch(f"there were {found}")

    async def _server(self, action: str, step: Step) -> None:
        assert self.server is not None
        match action:
            case "kill":
                await self.server.end(signal.SIGKILL)
            case "drain":
                await self.server.end(signal.SIGTERM)
            case "crashed":
                await self.server.crashed()
            case "start":
                await self.server.start()

    async def _process(self, action: str, step: Step) -> None:
        match action:
            case "pause":
                self.driver.signal(signal.SIGSTOP)
            case "resume":
                self.driver.signal(signal.SIGCONT)
            case "interrupt":
                self.driver.signal(signal.SIGINT)
            case "kill":
                self.driver.signal(signal.SIGKILL)
            case "restart":
                await self.driver.event({"event": "exited"})
                await self.driver.start()

    async def _submit(self, job: Step, step: Step) -> None:
        await self.around.submit_job(job.get("kind", "conformance"), job_id=job["job_id"], stages=job["stages"])

    async def _thief(self, queue: str, step: Step) -> None:
        """Another worker, which leases the stage as soon as it can and completes it."""
        stop = asyncio.Event()
        worker = interlock.Worker(self.around, [queue], "thief", grace=1.0)

        async def handler(attempt: interlock.Attempt) -> dict[str, str]:
            stop.set()
            return {"by": "thief"}

        running = asyncio.create_task(worker.run(handler, handle_signals=False))
        await asyncio.wait_for(stop.wait(), WITHIN)
        worker.stop()
        await asyncio.wait_for(running, WITHIN)

    async def _other_worker(self, worker_id: str, step: Step) -> None:
        """A worker of another program at the server of the driver, until the scenario ends."""
        await self._others.enter_async_context(other_worker(self.names["address"], worker_id))

    async def _around(self, action: Step, step: Step) -> None:
        match action:
            case {"cancel": job_id}:
                await self.around.cancel_job(job_id, grace_period=5)
            case {"revoke": resource}:
                for holder in (await self.around.get_resource(resource)).holders:
                    await self.around.revoke_permit(resource, holder.fencing_token, "conformance")
            case {"record": [collection, record_id, fields]}:
                changes = [interlock.Field(name).set(value) for name, value in fields.items()]
                await self.around.update_record(collection, record_id, *changes, allow_missing=True)
            case {"delete_record": [collection, record_id]}:
                await self.around.delete_record(collection, record_id)
            case {"progress": [job_id, stage, progress]}:
                await self._progress(job_id, stage, progress)
            case {"complete": [job_id, stage]}:
                request = worker_service_pb2.CompleteStageRequest(target=_target(job_id, stage))
                await self.around.call(self.around.workers.CompleteStage, request)
            case _:
                await sessions.act(self.around, action)

    async def _progress(self, job_id: str, stage: str, progress: float) -> None:
        target = _target(job_id, stage)
        if progress == 0:
            start = worker_service_pb2.StartStageRequest(stage_ref=target.stage_ref)
            await self.around.call(self.around.workers.StartStage, start)
            return
        update = worker_service_pb2.UpdateStageProgressRequest(target=target, progress=progress)
        await self.around.call(self.around.workers.UpdateStageProgress, update)

    async def _job(self, expected: Step, step: Step) -> None:
        """Waits until the job is as expected: the fields of its JSON, and its stages by name."""
        job_id = step.get("id", self.names["job"])
        deadline = asyncio.get_running_loop().time() + step.get("within", WITHIN)
        while True:
            request = job_service_pb2.GetJobRequest(job_id=job_id)
            message = (await self.around.call(self.around.jobs.GetJob, request)).job
            found = MessageToDict(message, preserving_proto_field_name=True)
            found["stages"] = {stage["name"]: stage for stage in found.get("stages", [])}
            if fits(found, expected):
                return
            if asyncio.get_running_loop().time() > deadline:
                raise Mismatch(f"the job is {json.dumps(found, indent=1)}")
            await self.around.wait_job(job_id, timeout=0.05)

    async def _session(self, expected: Step, step: Step) -> None:
        """What the session has now."""
        found = await sessions.read(self.around, step.get("id", self.names["session"]))
        if not fits(found, expected):
            raise Mismatch(f"the session is {json.dumps(found, indent=1)}")

    async def _finals(self, expected: list[str], step: Step) -> None:
        """The segments that a watch delivered as FINAL, in order. No state of a segment was delivered twice."""
        states = [(it["key"], it["text"], it["status"]) for it in self.driver.all({"event": "segment"})]
        finals = [key for key, _, status in states if status == "FINAL"]
        if finals != expected or len(states) != len(set(states)):
            raise Mismatch(f"the states were {[(key, text[:20], status) for key, text, status in states]}")

    async def _calls(self, expected: Step, step: Step) -> None:
        """What the scripted server has seen of one rpc."""
        assert self.fake is not None
        self.fake.check(**expected)

    async def _updates(self, expected: Step, step: Step) -> None:
        """What must hold of all updates of a watch: versions only grow, and the states are these, in order."""
        updates = self.driver.all({"event": "update"})
        versions = [update["version"] for update in updates]
        if versions != sorted(set(versions)):
            raise Mismatch(f"versions do not grow: {versions}")
        states = [update["state"] for update in updates]
        states = [state for place, state in enumerate(states) if place == 0 or states[place - 1] != state]
        if states != expected["states"] or any(update["gap"] for update in updates) != expected.get("gap", False):
            raise Mismatch(f"the updates were {updates}")


_STEPS: dict[str, Callable[[Run, Any, Step], Awaitable[None]]] = {
    "driver": Run._driver,
    "event": Run._event,
    "never": Run._never,
    "server": Run._server,
    "process": Run._process,
    "submit": Run._submit,
    "thief": Run._thief,
    "other_worker": Run._other_worker,
    "around": Run._around,
    "job": Run._job,
    "session": Run._session,
    "finals": Run._finals,
    "calls": Run._calls,
    "updates": Run._updates,
}


def _target(job_id: str, stage: str) -> worker_service_pb2.StageTarget:
    """Names a stage that is written without a lease."""
    return worker_service_pb2.StageTarget(stage_ref=common_pb2.StageRef(job_id=job_id, stage_name=stage))


def fits(found: Any, expected: Any) -> bool:
    """Whether a value has all that is expected: `...` is anything, and `~text` a part of a text."""
    match expected:
        case _ if expected is ...:
            return True
        case dict():
            return isinstance(found, Mapping) and all(k in found and fits(found[k], v) for k, v in expected.items())
        case list():
            return isinstance(found, list) and len(found) == len(expected) and all(map(fits, found, expected))
        case str() if expected.startswith("~"):
            return isinstance(found, str) and all(part in found for part in expected[1:].split("~"))
        case _:
            return bool(found == expected)


@asynccontextmanager
async def running(
    scenario: Step, command: list[str], directory: Path, database_url: str, address: str
) -> AsyncIterator[Run]:
    """A driver, and the server that the scenario needs, if any."""
    driver = Driver(command, directory)
    server = None
    async with Client(address) as around, scripted(scenario.get("script")) as fake, other_programs() as others:
        try:
            if fake is None:
                server = Server(database_url, scenario.get("arguments", []), scenario.get("failpoints", ""))
                await server.start()
            await driver.start()
            yield Run(driver, server, fake, around, others)
        finally:
            await driver.close()
            if server is not None:
                await server.end(signal.SIGKILL)
