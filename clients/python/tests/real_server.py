"""Starts the real server for a test, with a database of its own, and ends it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from interlock.testing import binary, dev_server, free_port, printed

_START_SECONDS = 60.0
_STOP_SECONDS = 30.0


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
        self.address = f"127.0.0.1:{free_port()}"
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
        assert printed(self._process, "listening on ") == self.address

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
    with dev_server(*arguments) as server:
        yield Database(server.address, server.data_dir)
