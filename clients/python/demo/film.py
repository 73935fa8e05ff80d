"""Stage `render`: each slide for exactly as long as its voice speaks, one after the other, as one MP4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from demo import programs
from demo.pipeline import FRAME_RATE
from interlock import Attempt, Completion, FailureClass, StageError

# How much the film may differ from its voices: the sound's codec adds a little at both ends.
TOLERANCE_SECONDS = 0.5


async def render(attempt: Attempt, directory: Path) -> Completion:
    """Gives the voices' and images' artifacts, which came with the lease, to ffmpeg."""
    numbers = range(1, attempt.input["scenes"] + 1)
    done = attempt.dependencies
    voices = [done[f"voice-{number}"].artifacts for number in numbers]
    images = [done[f"image-{number}"].artifacts for number in numbers]
    total: float = sum(voice["duration_seconds"] for voice in voices)
    target = directory / "film.mp4"
    unfinished = directory / f"film.{attempt.fencing_token}.part.mp4"

    def on_line(line: str) -> None:
        key, _, value = line.partition("=")
        # Before the first frame it is N/A.
        if key == "out_time_us" and value.isdigit():
            ready = int(value) / 1e6
            attempt.report(min(0.99, ready / total), f"{ready:.0f} of {total:.0f} s")

    attempt.report(0.0, f"0 of {total:.0f} s")
    await programs.run("ffmpeg", *_arguments(voices, images, unfinished), on_line=on_line)
    length = await programs.duration_seconds(unfinished)
    if abs(length - total) > TOLERANCE_SECONDS:
        message = f"the film is {length:.2f} s long, its voices are {total:.2f} s"
        raise StageError(FailureClass.INTERNAL, message, code="wrong_length")
    unfinished.replace(target)
    artifacts = {"file": str(target), "duration_seconds": length, "bytes": target.stat().st_size}
    return Completion(artifacts=artifacts, job_result=artifacts)


def _arguments(voices: list[Any], images: list[Any], target: Path) -> list[str]:
    inputs, streams = [], ""
    for index, (voice, image) in enumerate(zip(voices, images, strict=True)):
        inputs += ["-loop", "1", "-framerate", str(FRAME_RATE), "-t", f"{voice['duration_seconds']:.6f}"]
        inputs += ["-i", image["file"], "-i", voice["file"]]
        streams += f"[{2 * index}:v][{2 * index + 1}:a]"
    graph = f"{streams}concat=n={len(voices)}:v=1:a=1[joined][sound];[joined]format=yuv420p[picture]"
    output = ["-map", "[picture]", "-map", "[sound]", "-c:v", "libx264", "-preset", "veryfast", "-tune", "stillimage"]
    output += ["-c:a", "aac", "-b:a", "96k", "-ar", "44100", "-movflags", "+faststart"]
    watching = ["-v", "error", "-nostats", "-progress", "pipe:1", "-stats_period", "0.2"]
    return ["-y", *watching, *inputs, "-filter_complex", graph, *output, str(target)]
