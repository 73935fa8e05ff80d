"""Starts the real server for a test, with a database of its own, and ends it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[3]
_LINE = "listening on "
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


def binary() -> Path:
    """The program: INTERLOCK_BIN, or what `cargo build` makes."""
    return Path(os.environ.get("INTERLOCK_BIN") or _ROOT / "target/debug/interlock")


@contextmanager
def real_server() -> Iterator[str]:
    """Its address. Fails the test if the server does not start, or does not end in good order."""
    program = binary()
    assert program.is_file(), f"{program} is missing: cargo build, or set INTERLOCK_BIN"
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [program, "dev", "--ephemeral", "--listen", "127.0.0.1:0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            yield _address(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(_STOP_SECONDS) == 0
        except BaseException:
            errors.seek(0)
            print(errors.read().decode("utf-8", "replace"))
            raise
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def _address(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    text = b""
    while b"\n" not in text:
        left = deadline - time.monotonic()
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, left))
        assert ready, "the server did not start in time"
        chunk = os.read(process.stdout.fileno(), 65_536)
        assert chunk, f"the server ended: {process.wait()}"
        text += chunk
    line = text.decode().splitlines()[0]
    assert line.startswith(_LINE), line
    return line.removeprefix(_LINE)
