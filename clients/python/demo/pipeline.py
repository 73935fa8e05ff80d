"""What the demo submits: a job of fifteen stages, and the names that both sides of it share."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

from interlock import to_struct
from interlock.v1 import common_pb2, job_pb2

KIND = "narrated-video"
QUEUES = ("voice", "image", "render")
# Short enough that one sees a stage move when its worker is killed.
LEASE_SECONDS = 6.0
# The film's frames per second. Voices are padded to whole frames, so that the film is exactly as long as they are.
FRAME_RATE = 10


class Scene(TypedDict):
    """One scene, as scenes.json has it."""

    title: str
    text: str


def scenes() -> list[Scene]:
    """The scenes of the film."""
    script = json.loads((Path(__file__).parent / "scenes.json").read_text(encoding="utf-8"))
    found: list[Scene] = script["scenes"]
    return found


def stages(script: list[Scene]) -> Iterator[job_pb2.StageSpec]:
    """A voice and an image for each scene, which do not wait for each other, and the film, which waits for all."""
    numbers = range(1, len(script) + 1)
    # What goes wrong here goes wrong again: one repetition shows that there are retries.
    retry = common_pb2.RetryPolicy(max_attempts=2)
    for number, scene in zip(numbers, script, strict=True):
        common = {"scene": number, "scenes": len(script), "title": scene["title"], "text": scene["text"]}
        for queue in ("voice", "image"):
            yield job_pb2.StageSpec(
                name=f"{queue}-{number}", queue=queue, input=to_struct(common), weight=1, retry_policy=retry
            )
    yield job_pb2.StageSpec(
        name="render",
        queue="render",
        input=to_struct({"scenes": len(script)}),
        depends_on=[f"{queue}-{number}" for number in numbers for queue in ("voice", "image")],
        weight=10,
        retry_policy=retry,
    )
