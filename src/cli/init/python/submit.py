"""Submits a job with the text of its arguments, follows it to its end, and prints the artifacts."""

import asyncio
import sys

from interlock import Client, JobState, StageState, from_struct
from worker import QUEUE


def stages(text: str, seconds_per_word: float = 0.3) -> list[dict]:
    """Returns the stages of a job: `average` starts when `count` has succeeded."""
    return [
        {"name": "count", "queue": QUEUE, "input": {"text": text, "seconds_per_word": seconds_per_word}},
        {"name": "average", "queue": QUEUE, "depends_on": ["count"]},
    ]


async def main(text: str) -> int:
    """Returns the exit code: 0 if the job has succeeded."""
    async with Client() as client:
        job = await client.submit_job("text", stages=stages(text))
        print(f"job {job.job_id}; if it does not start: interlock explain {job.job_id}")
        async for now in client.progress(job):
            running = ", ".join(f"{stage.name}: {stage.message or 'starts'}" for stage in now.running)
            print(f"{now.state}  {now.progress:.0%}  {running}".rstrip())
        job = await client.get_job(job.job_id)
    for stage in job.stages:
        print(stage.name, StageState(stage.state), from_struct(stage.artifacts), stage.failure.message)
    return 0 if job.state == JobState.SUCCEEDED else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(" ".join(sys.argv[1:]))))
