"""The programs that drivers call: servers that can be killed, and programs that are no servers of Interlock."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from interlock import Client
from interlock.testing import binary, free_port
from interlock.v1 import worker_service_pb2

WITHIN = 20.0
_LISTENING = b"listening on "


class Server:
    """A server over the database of the session, at one address, which can be killed and started again."""

    def __init__(self, database_url: str, arguments: list[str], failpoints: str) -> None:
        self.address = f"127.0.0.1:{free_port()}"
        self._environment = {**os.environ, "INTERLOCK_DATABASE_URL": database_url}
        self._arguments = arguments
        # Only the first start crashes somewhere.
        self._failpoints = failpoints
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        environment = {**self._environment, "FAILPOINTS": self._failpoints}
        self._failpoints = ""
        self._process = await asyncio.create_subprocess_exec(
            binary(),
            *("serve", "--listen", self.address, "--log", "off", "--metrics-listen", "off", *self._arguments),
            env=environment,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        line = b""
        while not line.startswith(_LISTENING):
            line = await asyncio.wait_for(self._process.stdout.readline(), WITHIN)
            assert line, "the server has ended"

    async def crashed(self) -> None:
        """Waits until it has ended by itself."""
        assert self._process is not None
        await asyncio.wait_for(self._process.wait(), WITHIN)

    async def end(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(number)
            await asyncio.wait_for(self._process.wait(), WITHIN)


@asynccontextmanager
async def other_worker(address: str, worker_id: str) -> AsyncIterator[None]:
    """A worker of another program at a server, which takes no stages."""
    begin = worker_service_pb2.WorkBegin(worker_id=worker_id, instance_id=str(uuid.uuid4()))
    async with Client(address) as client:
        stream = client.workers.Work()
        await stream.write(worker_service_pb2.WorkRequest(begin=begin, capacity=0))
        # The server has it now.
        await asyncio.wait_for(stream.read(), WITHIN)
        yield
        stream.cancel()


@asynccontextmanager
async def other_programs() -> AsyncIterator[Mapping[str, str]]:
    """Addresses of programs that are no servers of Interlock: one speaks HTTP/1.1, the other says nothing."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1 << 16):
            pass
        writer.close()

    http = await asyncio.start_server(refuse, "127.0.0.1", 0)
    silent = await asyncio.start_server(listen, "127.0.0.1", 0)
    try:
        ports = {name: it.sockets[0].getsockname()[1] for name, it in (("http", http), ("silent", silent))}
        yield {f"{name}-address": f"127.0.0.1:{port}" for name, port in ports.items()}
    finally:
        http.close()
        silent.close()
