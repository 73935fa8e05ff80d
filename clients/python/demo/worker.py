"""One worker process of the demo; the demo starts three. Ends with SIGTERM, or when the demo ends."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from demo import film, slide, voice
from demo.pipeline import LEASE_SECONDS, QUEUES
from interlock import Attempt, Client, Completion, FailureClass, StageError, Worker
from interlock.lease import Outcome

log = logging.getLogger("demo")


async def work(attempt: Attempt) -> Completion:
    """Makes whatever the stage is to make."""
    log.info("%s of %s, attempt %d", attempt.stage_name, attempt.job_id, attempt.number)
    directory = Path(attempt.payload["directory"])
    outcome: Outcome
    match attempt.queue:
        case "voice":
            outcome = await voice.speak(attempt, directory)
        case "image":
            outcome = await asyncio.to_thread(slide.draw, attempt, directory)
        case "render":
            outcome = await film.render(attempt, directory)
        case other:
            raise StageError(FailureClass.CLIENT_ERROR, f"no worker here knows the queue {other}")
    completion = outcome if isinstance(outcome, Completion) else Completion(outcome)
    log.info("%s: %s", attempt.stage_name, completion.artifacts)
    return replace(completion, message=_summary(completion.artifacts or {}))


def _summary(artifacts: Mapping[str, Any]) -> str:
    """What the screen shows of a stage that is done; news of a job carry messages, but no artifacts."""
    size = f"{artifacts['bytes'] / 1e6:.2f} MB"
    return f"{artifacts['duration_seconds']:.2f} s, {size}" if "duration_seconds" in artifacts else size


async def run(address: str, worker_id: str) -> None:
    """Works until SIGTERM, or until the pipe to the demo closes."""
    async with Client(address) as client:
        worker = Worker(client, QUEUES, worker_id, lease_duration=LEASE_SECONDS, grace=1.0)
        loop, stdin = asyncio.get_running_loop(), sys.stdin.fileno()

        def on_input() -> None:
            # The demo never writes: this is the end of the pipe, and so of the demo.
            if not os.read(stdin, 1024):
                loop.remove_reader(stdin)
                worker.stop()

        loop.add_reader(stdin, on_input)
        await worker.run(work)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m demo.worker", description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--worker-id", required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(run(options.address, options.worker_id))


if __name__ == "__main__":
    main()
