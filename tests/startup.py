"""Measures how soon a server answers and how much memory it takes, idle: `make bench`.

Five times each: from the start of the process to the first answered rpc that reads the database, with a new data
directory and with one that exists; and the resident memory of the server process, without its Postgres. Prints medians.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from interlock import Client
from interlock.v1 import job_service_pb2

# What is aimed for, on a machine with nothing else to do.
NEW_SECONDS, EXISTING_SECONDS, IDLE_MB = 2.0, 0.5, 60.0
# How long it is left alone before its memory is read.
IDLE_SECONDS = 2.0


async def measure(binary: Path, data: Path) -> tuple[float, float]:
    """Starts a server on a data directory; seconds to the first answer, and megabytes when idle."""
    start = time.monotonic()
    process = subprocess.Popen(
        [binary, "dev", "--listen", "127.0.0.1:0", "--data-dir", data], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline().strip()
        if not line.startswith("listening on "):
            raise SystemExit(f"the server did not start: {line}")
        async with Client(line.removeprefix("listening on ")) as client:
            await client.call(client.jobs.ListJobs, job_service_pb2.ListJobsRequest(page_size=1))
            answered = time.monotonic() - start
            await asyncio.sleep(IDLE_SECONDS)
            status = Path(f"/proc/{process.pid}/status").read_text()
        resident = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert resident is not None
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        return answered, int(resident[1]) * 1024 / 1e6
    finally:
        process.kill()
        process.wait()


async def run(binary: Path, rounds: int) -> None:
    """Prints the medians of some rounds."""
    new, existing, idle = [], [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            # Postgres runs as another user if we are root, and has to get there.
            Path(folder).chmod(0o755)
            seconds, megabytes = await measure(binary, Path(folder) / "data")
            new.append(seconds)
            idle.append(megabytes)
            seconds, megabytes = await measure(binary, Path(folder) / "data")
            existing.append(seconds)
            idle.append(megabytes)
    print(f"medians of {rounds} rounds, {binary}")
    tell("first answer, new data directory", new, NEW_SECONDS, "s")
    tell("first answer, existing data directory", existing, EXISTING_SECONDS, "s")
    tell("resident memory, idle", idle, IDLE_MB, "MB")


def tell(what: str, values: list[float], aim: float, unit: str) -> None:
    """One line: the median, its range, and whether it is below what is aimed for."""
    median = statistics.median(values)
    verdict = "met" if median < aim else "MISSED"
    print(
        f"  {what:38} {median:7.2f} {unit:2}  ({min(values):.2f} to {max(values):.2f}; aim < {aim:g} {unit}: {verdict})"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    asyncio.run(run(options.binary, options.rounds))
