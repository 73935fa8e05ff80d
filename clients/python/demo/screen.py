"""What the demo shows: bars that move on a terminal, else a line for whatever happens."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection
from typing import TextIO

from interlock.v1 import job_pb2

_WORDS = {
    job_pb2.STAGE_STATE_BLOCKED: "waits",
    job_pb2.STAGE_STATE_READY: "ready",
    job_pb2.STAGE_STATE_RUNNING: "running",
    job_pb2.STAGE_STATE_BACKOFF: "retries",
    job_pb2.STAGE_STATE_SUCCEEDED: "done",
    job_pb2.STAGE_STATE_FAILED: "failed",
    job_pb2.STAGE_STATE_CANCELLED: "cancelled",
    job_pb2.STAGE_STATE_SKIPPED: "skipped",
}
_BAR = 20


class Panel:
    """Lines that stay, and on a terminal a block below them that is drawn again and again."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._start = time.monotonic()
        self._lines = 0

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        if self._lines:
            self._out.write(f"\x1b[{self._lines}A\x1b[J")
            self._lines = 0
        self._out.write(f"{text}\n")
        self._out.flush()

    def _redraw(self, lines: list[str], dimmed: Collection[int] = ()) -> None:
        """Draws the block in place of the one before. `dimmed`: indexes of lines that are dimmed."""
        size = shutil.get_terminal_size()
        # A line that wraps, or one more than fit, could not be found again. The last line is the cursor's.
        shown = [line[: size.columns - 1] for line in lines[: max(1, size.lines - 1)]]
        styled = [f"\x1b[2m{line}\x1b[0m" if index in dimmed else line for index, line in enumerate(shown)]
        up = f"\x1b[{self._lines}A" if self._lines else ""
        rest = "\x1b[J" if len(shown) < self._lines else ""
        self._out.write(up + "".join(f"\x1b[2K{line}\n" for line in styled) + rest)
        self._out.flush()
        self._lines = len(shown)


class Screen(Panel):
    """Shows one job, again and again."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        super().__init__(out)
        encoding = (out.encoding or "ascii").lower().replace("-", "")
        self._signs = ("█", "░") if encoding == "utf8" else ("#", ".")
        self._seen: dict[str, tuple[int, str]] = {}
        self._workers: dict[str, str] = {}
        self._tenth = -1

    def show(self, job: job_pb2.Job) -> None:
        """Shows the job as it is now."""
        for stage in job.stages:
            if stage.HasField("lease"):
                self._workers[stage.name] = stage.lease.worker_id
        if self._is_terminal:
            self._redraw(self.picture(job))
        else:
            self._tell(job)

    def picture(self, job: job_pb2.Job) -> list[str]:
        """The lines of the terminal."""
        state = job_pb2.JobState.Name(job.state).removeprefix("JOB_STATE_").lower()
        head = f"{job.kind} {job.job_id}  {self._bar(job.progress)} {state}  {self.elapsed:.1f} s"
        return [head, *(self._line(stage) for stage in job.stages)]

    def _line(self, stage: job_pb2.Stage) -> str:
        worker = self._workers.get(stage.name, "")
        line = f"  {stage.name:9} {self._bar(stage.progress)} {_WORDS[stage.state]:9} {worker:9} {_remark(stage)}"
        return line.rstrip()

    def _bar(self, progress: float) -> str:
        full = int(progress * _BAR)
        return f"{self._signs[0] * full}{self._signs[1] * (_BAR - full)} {int(progress * 100):3} %"

    def _tell(self, job: job_pb2.Job) -> None:
        for stage in job.stages:
            now = (stage.attempt, _WORDS[stage.state])
            before = self._seen.get(stage.name)
            self._seen[stage.name] = now
            if before != now and stage.state not in (job_pb2.STAGE_STATE_BLOCKED, job_pb2.STAGE_STATE_READY):
                self.say(f"{self.elapsed:6.1f} s  {self._line(stage).strip()}")
        if int(job.progress * 10) > self._tenth:
            self._tenth = int(job.progress * 10)
            self.say(f"{self.elapsed:6.1f} s  {self.picture(job)[0]}")


def _remark(stage: job_pb2.Stage) -> str:
    """The most useful thing to say about a stage."""
    if stage.HasField("failure") and stage.state != job_pb2.STAGE_STATE_RUNNING:
        return f"attempt {stage.failure.attempt}: {stage.failure.message}"
    again = f"attempt {stage.attempt}, " if stage.attempt > 1 else ""
    says = stage.state in (job_pb2.STAGE_STATE_RUNNING, job_pb2.STAGE_STATE_SUCCEEDED)
    return f"{again}{stage.message}" if says else ""
