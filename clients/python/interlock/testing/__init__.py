"""Real servers for tests: `interlock dev --ephemeral`, with a private Postgres that is removed at the end.

The program is INTERLOCK_BIN, else `interlock` on PATH. With pytest, the fixtures of `interlock.testing.plugin` are
there without an import.
"""

from __future__ import annotations

import os
import random
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LISTENING = "listening on "
_DATA = "  data   "
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


class DevServer:
    """A server that runs on this machine."""

    def __init__(self, address: str, data_dir: str) -> None:
        self.address = address
        """HOST:PORT, for `Client`."""
        self.data_dir = data_dir
        """Directory of its Postgres, removed at the end."""


def binary() -> Path:
    """The program: INTERLOCK_BIN, else `interlock` on PATH.

    Raises:
        FileNotFoundError: there is none; the message says what to do.
    """
    named = os.environ.get("INTERLOCK_BIN")
    found = named or shutil.which("interlock")
    if found is None or not Path(found).is_file():
        where = f"INTERLOCK_BIN is {named!r}, which is no file" if named else "`interlock` is not on PATH"
        raise FileNotFoundError(f"{where}: set INTERLOCK_BIN to the path of the server's program")
    return Path(found)


@contextmanager
def dev_server(*arguments: str) -> Iterator[DevServer]:
    """Runs `interlock dev --ephemeral` on a free port of 127.0.0.1, with further arguments.

    The server does not outlive this process, however that ends: it stops when its standard input closes.

    Raises:
        FileNotFoundError: the program is missing.
        RuntimeError: the server did not start within 60 s, or did not end within 30 s; the message has its log.
    """
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [binary(), "dev", "--ephemeral", "--until-stdin-closes", "--listen", "127.0.0.1:0", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            address = printed(process, _LISTENING)
            yield DevServer(address, printed(process, _DATA).removesuffix(" (removed at the end)"))
            process.send_signal(signal.SIGTERM)
            code = process.wait(_STOP_SECONDS)
            if code != 0:
                raise RuntimeError(f"the server ended with {code}")
        except (RuntimeError, subprocess.TimeoutExpired) as failed:
            errors.seek(0)
            raise RuntimeError(f"{failed}\n{errors.read().decode('utf-8', 'replace')}") from failed
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.close()
            process.stdout.close()


def printed(process: subprocess.Popen[bytes], start: str) -> str:
    """The rest of the next line of output that starts like this.

    Raises:
        RuntimeError: the process ended, or there is no such line within 60 s.
    """
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    while True:
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise RuntimeError(f"the server did not start within {_START_SECONDS:g} s")
            # One at a time, so that nothing is taken that another call looks for.
            character = os.read(process.stdout.fileno(), 1)
            if not character:
                raise RuntimeError(f"the server ended with {process.wait()} before it had started")
            line += character
        text = line.decode().rstrip("\n")
        if text.startswith(start):
            return text.removeprefix(start)


def free_port() -> int:
    """A free port of 127.0.0.1 for a server that stops and starts at the same address.

    It is below the ephemeral range, so that no process takes it by chance meanwhile.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
