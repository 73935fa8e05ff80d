"""The programs of others that the demo runs."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from interlock import FailureClass, StageError

# Each with the Debian package that has it.
_PACKAGES = {"espeak-ng": "espeak-ng", "ffmpeg": "ffmpeg", "ffprobe": "ffmpeg"}


def missing(programs: Iterable[str] = _PACKAGES) -> str | None:
    """Message about missing programs. None: all are installed."""
    lacking = [program for program in programs if shutil.which(program) is None]
    if not lacking:
        return None
    packages = " ".join(sorted({_PACKAGES[program] for program in lacking}))
    verb = "is" if len(lacking) == 1 else "are"
    return f"{' and '.join(lacking)} {verb} missing; install with\n\n  apt-get install -y {packages}\n"


async def run(program: str, *arguments: str | Path, on_line: Callable[[str], None] | None = None) -> str:
    """Runs one to its end and returns what it wrote; it is killed if we are cancelled.

    Raises:
        StageError: it failed, or is not installed.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            program,
            *map(str, arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError:
        raise StageError(FailureClass.CLIENT_ERROR, missing([program]) or program, code="program_missing") from None
    assert process.stdout is not None and process.stderr is not None
    # Read beside the output, since a full pipe would stop the program.
    errors = asyncio.create_task(process.stderr.read())
    lines = []
    try:
        async for line in process.stdout:
            lines.append(line.decode("utf-8", "replace"))
            if on_line is not None:
                on_line(lines[-1].strip())
        status = await process.wait()
        complaint = (await errors).decode("utf-8", "replace").strip()
    finally:
        errors.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if status != 0:
        raise StageError(FailureClass.INTERNAL, f"{program}: {complaint or 'failed'}", code=f"exit_{status}")
    return "".join(lines)


async def duration_seconds(media: Path) -> float:
    """How long a film or a sound is."""
    answer = await run("ffprobe", "-v", "error", "-show_entries", "format=duration", "-of", "csv=p=0", media)
    return float(answer)
