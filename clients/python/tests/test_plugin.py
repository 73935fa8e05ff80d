"""The fixtures for the tests of users, in a project of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from interlock.testing import binary, dev_server

_TEST = """
import asyncio
import interlock
from interlock import Attempt, JobState


def test_a_worker(interlock_client):
    worker = interlock.sync.Worker(interlock_client, ["voice"])

    @worker.handler("main")
    def speak(attempt: Attempt):
        worker.stop()
        return {"n": attempt.number}

    job = interlock_client.submit_job("film", stages=[{"name": "main", "queue": "voice"}])
    worker.run()
    assert JobState(interlock_client.get_job(job.job_id).state) is JobState.SUCCEEDED


def test_another_namespace(interlock_server, interlock_namespace):
    async def jobs():
        async with interlock.Client(interlock_server.address, namespace=interlock_namespace) as client:
            async with client.watch_jobs() as events:
                return await anext(events)

    assert isinstance(asyncio.run(jobs()), interlock.CaughtUp)
"""


def test_the_fixtures_start_a_server(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(_TEST)
    package = str(Path(__file__).resolve().parents[1])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "interlock.testing.plugin", "-p", "no:cacheprovider", "."]
    environment = {**os.environ, "PYTHONPATH": package, "INTERLOCK_BIN": str(binary())}
    ran = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "2 passed" in ran.stdout


_STARTS = """
import os, time
from interlock.testing import dev_server

with dev_server() as server:
    print(server.data_dir, flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_ends_with_a_process_that_is_ended_by_a_signal(number: signal.Signals) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "INTERLOCK_BIN": str(binary()),
    }
    with subprocess.Popen([sys.executable, "-c", _STARTS], env=environment, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        # Removed as the last thing that the server does.
        data_dir = Path(process.stdout.readline().decode().rstrip("\n"))
        assert data_dir.is_dir()
        process.send_signal(number)
        process.wait(30)
    deadline = time.monotonic() + 30
    while data_dir.exists():
        assert time.monotonic() < deadline, "the server still runs"
        time.sleep(0.02)


def test_a_missing_program_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTERLOCK_BIN", "/nowhere/interlock")
    with pytest.raises(FileNotFoundError, match="INTERLOCK_BIN is '/nowhere/interlock', which is no file: set"):
        binary()
    monkeypatch.delenv("INTERLOCK_BIN")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(FileNotFoundError, match="`interlock` is not on PATH"):
        binary()


def test_a_server_that_does_not_start_shows_its_log() -> None:
    with pytest.raises(RuntimeError, match="--no-such-flag"), dev_server("--no-such-flag"):
        pass
