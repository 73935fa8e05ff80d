"""A server with scripted answers, for what a real server does too rarely: refusals and lost changes."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from google.protobuf.json_format import ParseDict
from google.protobuf.message import Message
from interlock.v1 import job_service_pb2
from tests.fake_server import FakeServer, Refusal, fake_server


class Scripted:
    """The server and the times of its calls."""

    def __init__(self, fake: FakeServer) -> None:
        self.address = fake.address
        self._fake = fake
        self._times: list[float] = []

    def note(self) -> None:
        """Notes the time of a call."""
        self._times.append(time.monotonic())

    def check(self, rpc: str, count: int, least_wait_ms: int = 0, from_versions: list[int] | None = None) -> None:
        """Compares the calls of one rpc with what is expected: how many, their least distance, one request id."""
        calls = [
            (at, request) for at, (name, request) in zip(self._times, self._fake.calls, strict=True) if name == rpc
        ]
        assert len(calls) == count, f"{rpc} was called {len(calls)} times"
        if from_versions is not None:
            assert [request.from_version for _, request in calls] == from_versions
        if count and "request_id" in calls[0][1].DESCRIPTOR.fields_by_name:
            ids = {request.request_id for _, request in calls}
            assert len(ids) == 1 and all(ids), f"the request ids are {ids}"
        waits = [(after - before) * 1e3 for (before, _), (after, _) in itertools.pairwise(calls)]
        assert all(wait >= least_wait_ms for wait in waits), f"the waits were {waits} ms"


@asynccontextmanager
async def scripted(script: dict[str, Any] | None) -> AsyncIterator[Scripted | None]:
    """A server that follows the script of a scenario. None: the scenario has none."""
    if script is None:
        yield None
        return
    async with fake_server() as fake:
        server = Scripted(fake)
        note = fake._note

        async def noted(name: str, request: Message, context: Any) -> None:
            server.note()
            await note(name, request, context)

        fake._note = noted  # type: ignore[method-assign]
        fake.refusals = [
            Refusal(grpc.StatusCode[it["code"]], it["reason"], pushback_ms=it.get("pushback_ms"))
            for it in script.get("refusals", [])
        ]
        fake.streams = [
            [ParseDict(message, job_service_pb2.WatchJobResponse()) for message in stream]
            for stream in script.get("streams", [])
        ]
        yield server
