"""Starts the real server for a test, with a database of its own, and ends it."""

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
from urllib.parse import quote

_ROOT = Path(__file__).resolve().parents[3]
_LINE = "listening on "
_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


def binary() -> Path:
    """The program: INTERLOCK_BIN, or what `cargo build` makes."""
    return Path(os.environ.get("INTERLOCK_BIN") or _ROOT / "target/debug/interlock")


class Database:
    """The Postgres of a server that runs, for other servers beside it."""

    def __init__(self, address: str, data_dir: str) -> None:
        self.address = address
        """Address of the server that runs the Postgres."""
        self.socket = f"{data_dir}/socket"
        self.url = f"postgresql://interlock@{quote(self.socket, safe='')}:5432/interlock"

    def run(self, sql: str) -> None:
        """What no rpc can do."""
        found = shutil.which("psql") or max(map(str, Path("/usr/lib/postgresql").glob("*/bin/psql")), default=None)
        assert found is not None, "psql is missing, which comes with Debian's postgresql"
        command = [found, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", self.socket, "-U", "interlock", "-c", sql]
        subprocess.run(command, check=True, capture_output=True, timeout=_START_SECONDS)


class Beside:
    """One more server over a database, which can be killed and started again at the same address."""

    def __init__(self, database: Database, *arguments: str) -> None:
        self.address = f"127.0.0.1:{_free_port()}"
        self._database = database
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it; it answers then."""
        environment = {**os.environ, "INTERLOCK_DATABASE_URL": self._database.url}
        self._process = subprocess.Popen(
            [binary(), "serve", "--listen", self.address, "--log", "off", *self._arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            env=environment,
        )
        assert _printed(self._process, _LINE) == self.address

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._reap()

    def stop(self) -> None:
        """Ends it in good order."""
        assert self._process is not None
        self._process.terminate()
        assert self._process.wait(_STOP_SECONDS) == 0
        self._reap()

    def _reap(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.wait()
        self._process.stdout.close()
        self._process = None


@contextmanager
def beside(database: Database, *arguments: str) -> Iterator[Beside]:
    """One more server over a database."""
    server = Beside(database, *arguments)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@contextmanager
def real_server() -> Iterator[str]:
    """Its address. Fails the test if the server does not start, or does not end in good order."""
    with real_database() as database:
        yield database.address


@contextmanager
def real_database(*arguments: str) -> Iterator[Database]:
    """The same, for tests that start servers beside it, or give the server arguments."""
    program = binary()
    assert program.is_file(), f"{program} is missing: cargo build, or set INTERLOCK_BIN"
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [program, "dev", "--ephemeral", "--listen", "127.0.0.1:0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            address = _printed(process, _LINE)
            yield Database(address, _printed(process, "  data   ").removesuffix(" (removed at the end)"))
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


def _printed(process: subprocess.Popen[bytes], start: str) -> str:
    """The rest of the next line that starts like this."""
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    while True:
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the server did not start in time"
            # One at a time, so that nothing is taken that another call looks for.
            character = os.read(process.stdout.fileno(), 1)
            assert character, f"the server ended: {process.wait()}"
            line += character
        text = line.decode().rstrip("\n")
        if text.startswith(start):
            return text.removeprefix(start)


def _free_port() -> int:
    """A port below the ephemeral range, so that no process takes it by chance while its server is down."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
