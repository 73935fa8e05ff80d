"""The demo as a person runs it, against the real server, to the last frame."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from demo import pipeline, programs
from demo.screen import Screen
from interlock import Client, from_struct
from interlock.v1 import job_pb2, job_service_pb2
from tests.real_server import real_server

_CLIENT = Path(__file__).resolve().parents[1]
_FILM_SECONDS = 240.0


async def demo(address: str, output: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "demo", "--address", address, "--output", str(output), *arguments),
        cwd=_CLIENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


def length(media: str) -> float:
    command = ["ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "json", media]
    answer = subprocess.run(command, check=True, capture_output=True, timeout=60).stdout
    return float(json.loads(answer)["format"]["duration"])


async def events(client: Client, job_id: str) -> list[job_service_pb2.JobEvent]:
    request = job_service_pb2.ListJobEventsRequest(job_id=job_id, page_size=1000)
    return list((await client.call(client.jobs.ListJobEvents, request)).events)


async def test_the_demo_makes_its_film_and_loses_nothing(tmp_path: Path) -> None:
    assert programs.missing() is None, programs.missing()
    # A server of its own: the workers of other tests must not take its stages, nor its workers theirs.
    with real_server() as address:
        process = await demo(address, tmp_path)
        output, _ = await asyncio.wait_for(process.communicate(), _FILM_SECONDS)
        text = output.decode()
        assert process.returncode == 0, text
        async with Client(address) as client:
            listed = await client.call(client.jobs.ListJobs, job_service_pb2.ListJobsRequest())
            assert len(listed.jobs) == 1
            job = await client.get_job(listed.jobs[0].job_id)
            history = await events(client, job.job_id)

    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert (job.kind, job.run, job.progress) == ("narrated-video", 1, 1)
    numbers = range(1, 8)
    names = [f"{queue}-{number}" for number in numbers for queue in ("voice", "image")] + ["render"]
    assert [stage.name for stage in job.stages] == names
    artifacts = {stage.name: from_struct(stage.artifacts) for stage in job.stages}

    # Every artifact is in the job, and is what it says.
    for stage in job.stages:
        assert stage.state == job_pb2.STAGE_STATE_SUCCEEDED
        assert stage.attempt == 1
        assert Path(artifacts[stage.name]["file"]).stat().st_size == artifacts[stage.name]["bytes"] > 0
    voices = [artifacts[f"voice-{number}"] for number in numbers]
    for voice in voices:
        assert abs(length(voice["file"]) - voice["duration_seconds"]) < 0.01
    film = artifacts["render"]
    total = sum(voice["duration_seconds"] for voice in voices)
    assert abs(length(film["file"]) - total) < 0.5
    assert from_struct(job.result) == film
    assert total > 30

    # No write is lost. Each change of a stage is one of the job too, but for render, which became ready by the
    # completion of the last stage that it waited for.
    for stage in job.stages:
        assert stage.version >= (4 if stage.name == "render" else 3)
    changes = sum(stage.version - 1 for stage in job.stages)
    assert changes == job.version - 1 + 1
    reached = Counter((change.stage_name, change.state) for event in history for change in event.stage_changes)
    assert all(reached[name, job_pb2.STAGE_STATE_RUNNING] == 1 for name in names)
    assert all(reached[name, job_pb2.STAGE_STATE_SUCCEEDED] == 1 for name in names)
    versions = [event.version for event in history]
    assert versions == sorted(set(versions))
    assert versions[-1] == job.version
    # All three worked on it.
    workers = {change.worker_id for event in history for change in event.stage_changes if change.worker_id}
    assert workers == {"worker-1", "worker-2", "worker-3"}

    # The output has a line for each finished stage with its result.
    for name in names:
        assert re.search(rf" s  {name} .*100 % done +worker-\d .*\d MB$", text, re.MULTILINE), text
    # The output has the path, the length, and a progress that only grows.
    assert film["file"] in text
    assert f"{int(film['duration_seconds'] // 60)} min {film['duration_seconds'] % 60:.2f} s" in text
    percents = [int(found) for found in re.findall(r"narrated-video .* (\d+) %", text)]
    assert len(percents) >= 3
    assert percents == sorted(percents)
    assert percents[-1] == 100


async def interrupt(process: asyncio.subprocess.Process, address: str) -> tuple[list[int], job_pb2.Job]:
    """Ctrl-C as soon as there are workers; their process ids, and the job in the end."""
    assert process.stdout is not None
    workers: list[int] = []
    while not workers:
        line = (await process.stdout.readline()).decode()
        assert line
        workers = [int(pid) for pid in re.findall(r"worker-\d (\d+)", line)]
    process.send_signal(signal.SIGINT)
    await process.stdout.read()
    assert await process.wait() == 130
    async with Client(address) as client:
        listed = await client.call(client.jobs.ListJobs, job_service_pb2.ListJobsRequest())
        assert len(listed.jobs) == 1
        return workers, await client.wait_job(listed.jobs[0].job_id, timeout=30)


async def test_an_interrupted_demo_cancels_its_job_and_leaves_no_worker(tmp_path: Path) -> None:
    with real_server() as address:
        process = await demo(address, tmp_path)
        workers, job = await asyncio.wait_for(interrupt(process, address), 60)
        assert job.state == job_pb2.JOB_STATE_CANCELLED
    assert len(workers) == 3
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_without_a_server_it_says_how_to_start_one(tmp_path: Path) -> None:
    process = await demo("127.0.0.1:1", tmp_path, "--patience", "0.5")
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert "make run" in output.decode()
    assert list(tmp_path.iterdir()) == []


def test_a_missing_program_is_reported_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    message = programs.missing()
    assert message is not None
    assert "apt-get install -y espeak-ng ffmpeg\n" in message


def test_the_pipeline_is_fifteen_stages() -> None:
    stages = list(pipeline.stages(pipeline.scenes()))
    assert Counter(stage.queue for stage in stages) == {"voice": 7, "image": 7, "render": 1}
    assert sorted(stages[-1].depends_on) == sorted(stage.name for stage in stages[:-1])


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_the_terminal_is_drawn_in_place() -> None:
    lease = job_pb2.StageLease(worker_id="worker-2")
    running = job_pb2.Stage(
        name="voice-1", state=job_pb2.STAGE_STATE_RUNNING, progress=0.5, message="half", lease=lease, attempt=1
    )
    job = job_pb2.Job(job_id="j", kind="k", state=job_pb2.JOB_STATE_RUNNING, progress=0.25, stages=[running])
    out = Terminal()
    screen = Screen(out)
    screen.show(job)
    assert "voice-1   ██████████░░░░░░░░░░  50 % running   worker-2  half" in out.getvalue()
    before = len(out.getvalue())
    running.state, running.progress = job_pb2.STAGE_STATE_SUCCEEDED, 1.0
    running.ClearField("lease")
    running.message = "2.00 s, 0.50 MB"
    screen.show(job_pb2.Job(job_id="j", kind="k", state=job_pb2.JOB_STATE_SUCCEEDED, progress=1, stages=[running]))
    second = out.getvalue()[before:]
    assert second.startswith("\x1b[2A")
    assert "100 % done      worker-2  2.00 s, 0.50 MB" in second
