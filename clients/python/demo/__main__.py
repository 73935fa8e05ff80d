"""Two demos: a narrated film, made by a job of fifteen stages and three workers; and a meeting with live captions.

Exit codes: 0 it is done, 1 it failed, 2 it could not begin, 130 it was interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path

from demo import meeting, programs
from demo.pipeline import KIND, scenes, stages
from demo.screen import Screen
from interlock import Client, InterlockError, Unavailable, from_struct
from interlock.address import parse_address
from interlock.v1 import job_pb2

_ENDED = (job_pb2.JOB_STATE_SUCCEEDED, job_pb2.JOB_STATE_FAILED, job_pb2.JOB_STATE_CANCELLED)
# Between two looks at the clock and at the workers, if there is no news.
_TICK_SECONDS = 0.2
# How long a worker gets to give back what it has, and an interrupted job to end.
_GRACE_SECONDS = 5.0


class Fleet:
    """The worker processes."""

    def __init__(self, address: str, directory: Path, screen: Screen) -> None:
        self._address = address
        self._directory = directory
        self._screen = screen
        self._workers: dict[str, asyncio.subprocess.Process] = {}

    async def start(self, count: int) -> None:
        """Starts them; what they log goes into files beside the film."""
        for number in range(1, count + 1):
            name = f"worker-{number}"
            with (self._directory / f"{name}.log").open("wb") as log:
                self._workers[name] = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "demo.worker", "--address", self._address, "--worker-id", name),
                    cwd=Path(__file__).parents[1],
                    # They end when this pipe does, so that none outlives the demo; Ctrl-C is only for us.
                    stdin=asyncio.subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        pids = ", ".join(f"{name} {process.pid}" for name, process in self._workers.items())
        self._screen.say(f"workers (kill one and see its stage move): {pids}")

    def are_any_left(self) -> bool:
        """Whether one still works; says so of each that does not."""
        for name, process in list(self._workers.items()):
            if process.returncode is not None:
                self._screen.say(f"{name} has ended; what it had leased goes to another one")
                del self._workers[name]
        return bool(self._workers)

    async def stop(self) -> None:
        """Ends them all."""
        for process in self._workers.values():
            with suppress(ProcessLookupError):
                process.terminate()
        for process in self._workers.values():
            try:
                await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
            except asyncio.TimeoutError:
                process.kill()
                await process.wait()


async def make(client: Client, output: Path, workers: int) -> int:
    """Submits the job, follows it to its end, and says what came of it."""
    script = scenes()
    # The server's answer to whether it is there comes first: then there is nothing to clean up.
    directory = output.resolve() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    directory.mkdir(parents=True)
    payload = {"directory": str(directory)}
    try:
        job = await client.submit_job(KIND, stages=stages(script), payload=payload, labels={"demo": "yes"})
    except Unavailable as error:
        print(f"{error.message}; start one with `make run`", file=sys.stderr)
        directory.rmdir()
        return 2
    screen = Screen()
    screen.say(f"job {job.job_id}: {len(script)} scenes, {len(job.stages)} stages")
    fleet = Fleet(client.address, directory, screen)
    try:
        await fleet.start(workers)
        async with client.watch(job, patience=client.timeout) as watch:
            while job.state not in _ENDED:
                with suppress(asyncio.TimeoutError):
                    job = (await asyncio.wait_for(anext(watch), _TICK_SECONDS)).job
                screen.show(job)
                if not fleet.are_any_left() and job.state not in _ENDED:
                    screen.say("no worker is left")
                    break
        # With the result and the artifacts, which no change carries.
        job = await client.get_job(job.job_id)
    finally:
        if job.state not in _ENDED:
            with suppress(InterlockError):
                await client.cancel_job(job.job_id, reason="the demo was ended", grace_period=_GRACE_SECONDS)
        await fleet.stop()
    return _conclude(job, screen, directory, workers)


def _conclude(job: job_pb2.Job, screen: Screen, directory: Path, workers: int) -> int:
    if job.state == job_pb2.JOB_STATE_SUCCEEDED:
        film = from_struct(job.result)
        minutes, seconds = divmod(film["duration_seconds"], 60)
        print(f"\nFilm: {film['file']}")
        print(f"      {int(minutes)} min {seconds:.2f} s, {film['bytes'] / 1e6:.1f} MB,", end=" ")
        print(f"made in {screen.elapsed:.1f} s by {workers} workers")
        return 0
    state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
    print(f"\nThere is no film: the job is {state}.", file=sys.stderr)
    if job.HasField("failure"):
        failure = job.failure
        print(f"{failure.stage_name or 'the job'}, attempt {failure.attempt}: {failure.message}", file=sys.stderr)
    print(f"The workers' logs: {directory}/worker-*.log", file=sys.stderr)
    return 1


async def run(options: argparse.Namespace) -> int:
    """Makes the film, or holds the meeting, unless a signal comes first."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        async with Client(options.address, timeout=options.patience) as client:
            if options.demo == "meeting":
                return await meeting.hold(client, options.output, options.speed)
            return await make(client, options.output, options.workers)
    except InterlockError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except asyncio.CancelledError:
        left = "the session stays open" if options.demo == "meeting" else "the job is cancelled"
        print(f"\ninterrupted; {left}", file=sys.stderr)
        return 130


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__.splitlines()[0] if __doc__ else None)
    demos = "film: seven scenes that workers make; meeting: two languages with captions [default: %(default)s]"
    parser.add_argument("demo", nargs="?", choices=["film", "meeting"], default="film", help=demos)
    address = os.environ.get("INTERLOCK_SERVER") or "127.0.0.1:50051"
    parser.add_argument("--address", default=address, help="the server (INTERLOCK_SERVER) [default: %(default)s]")
    parser.add_argument("--output", type=Path, default=Path("demo-output"), help="a directory [default: %(default)s]")
    parser.add_argument("--workers", type=int, default=3, help="how many worker processes [default: %(default)s]")
    parser.add_argument("--speed", type=float, default=1.0, help="how fast the meeting runs [default: %(default)s]")
    patience = "how many seconds to go on without the server [default: %(default)s]"
    parser.add_argument("--patience", type=float, default=15.0, help=patience)
    options = parser.parse_args()
    try:
        parse_address(options.address)
    except ValueError as error:
        parser.error(str(error))
    if options.speed <= 0:
        parser.error("--speed is greater than 0")
    lacking = programs.missing(["espeak-ng"]) if options.demo == "meeting" else programs.missing()
    if lacking is not None:
        print(lacking, file=sys.stderr)
        return 2
    return asyncio.run(run(options))


if __name__ == "__main__":
    raise SystemExit(main())
