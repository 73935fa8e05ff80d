"""What the client and the worker say in the log."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from interlock import Attempt, Client, Worker
from interlock.v1 import worker_service_pb2
from tests.fake_server import FakeServer
from tests.real_server import Database, beside


async def until(holds: Callable[[], bool]) -> None:
    async def look() -> None:
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), 10)


async def ran(server: FakeServer, handler: Callable[[Attempt], Any], **options: Any) -> None:
    """A worker that works on one stage."""
    async with Client(server.address) as client:
        worker = Worker(client, ["voice", "image"], "w-1", concurrency=2, **options)
        running = asyncio.create_task(worker.run(handler, handle_signals=False))
        server.offer("a")
        await server.until(lambda: any(server.of(it) for it in ("CompleteStage", "FailStage", "ReleaseStage")))
        worker.stop()
        await asyncio.wait_for(running, 10)


async def test_start_failure_and_stop_are_told(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "interlock")

    def handler(attempt: Attempt) -> None:
        raise KeyError("voice")

    await ran(server, handler)
    lines = [record.getMessage() for record in caplog.records]
    assert f"worker w-1 takes stages of voice, image at {server.address}, 2 at once" in lines
    assert "worker w-1 takes no more stages; 0 are running" in lines
    assert lines[-1] == "worker w-1 has stopped"
    failed = next(record for record in caplog.records if "failed" in record.getMessage())
    assert failed.getMessage() == "stage-a of job failed: KeyError: 'voice'"
    assert failed.exc_info is not None
    assert failed.exc_info[0] is KeyError


async def test_a_blocked_event_loop_is_told_while_it_is_blocked(
    server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    told = threading.Event()

    class Told(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "blocked the event loop" in record.getMessage():
                told.set()

    async def handler(attempt: Attempt) -> dict[str, bool]:
        started = time.monotonic()
        # Ends as soon as the warning has come: blocking all the while.
        was_told = told.wait(10)
        return {"told": was_told, "soon": time.monotonic() - started < 2}

    log = logging.getLogger("interlock.worker")
    listener = Told()
    log.addHandler(listener)
    try:
        await ran(server, handler)
    finally:
        log.removeHandler(listener)
    artifacts = server.of("CompleteStage")[0].artifacts
    assert artifacts["told"]
    assert artifacts["soon"]
    line = next(it.getMessage() for it in caplog.records if "blocked the event loop" in it.getMessage())
    assert "was_told = told.wait(10)" in line


async def test_a_handler_that_does_not_stop_is_told(server: FakeServer, caplog: pytest.LogCaptureFixture) -> None:
    server.directive = lambda token: worker_service_pb2.LEASE_DIRECTIVE_CANCEL
    go_on = threading.Event()

    def handler(attempt: Attempt) -> None:
        go_on.wait(10)

    running = asyncio.create_task(ran(server, handler))
    await until(lambda: any("still runs" in it.getMessage() for it in caplog.records))
    go_on.set()
    await running
    line = next(it.getMessage() for it in caplog.records if "still runs" in it.getMessage())
    assert "(the job is being cancelled or has failed): a plain function calls attempt.check()" in line


async def test_the_loss_of_the_server_and_its_return_are_told_at_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def said(text: str) -> bool:
        return any(text in record.getMessage() for record in caplog.records)

    with beside(database) as server:
        async with Client(server.address) as client:
            worker = Worker(client, ["none"], "w")
            running = asyncio.create_task(worker.run(lambda attempt: None, handle_signals=False))
            await anext(client.watch_resource("any"))
            server.kill()
            await until(lambda: said(f"no server answers at {server.address}, trying again"))
            server.start()
            # The worker waits for work: no call has an answer.
            await until(lambda: said(f"a server answers at {server.address} again, after"))
            worker.stop()
            await asyncio.wait_for(running, 10)


async def test_a_wait_for_a_job_that_does_not_start_is_explained(
    server_address: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "interlock")
    async with Client(server_address) as client:
        queue = f"misspelled-{uuid.uuid4().hex}"
        job = await client.submit_job("film", stages=[{"name": "a", "queue": queue}])
        await client.wait_job(job.job_id, timeout=2)
    lines = [it.getMessage() for it in caplog.records if it.name == "interlock.client"]
    assert len(lines) == 1
    assert lines[0].startswith(f"the job {job.job_id} waits: ")
    assert f'queue "{queue}"' in lines[0]


async def test_a_server_without_tls_is_one_line_with_advice(server: FakeServer) -> None:
    program = (
        "import asyncio, interlock, sys\n"
        "async def main():\n"
        "    async with interlock.Client(sys.argv[1], timeout=1) as client:\n"
        "        await client.get_job('a')\n"
        "try:\n"
        "    asyncio.run(main())\n"
        "except interlock.Unavailable as error:\n"
        "    print(error)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    command = [sys.executable, "-c", program, f"https://{server.address}"]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    told, said = await asyncio.wait_for(process.communicate(), 30)
    assert b"use an address that begins with http://" in told
    # The line of `interlock.client`, and none of gRPC for each try.
    lines = said.decode().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"no server answers at https://{server.address}, trying again: ")
