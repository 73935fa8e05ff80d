"""A holder that is stopped by SIGSTOP past the time of its permits and continued writes nothing under them."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from pathlib import Path

from interlock import Client

LOCKS = 250


async def test_a_holder_that_was_stopped_writes_nothing_under_its_permits(server_address: str) -> None:
    prefix = f"stopped-{uuid.uuid4().hex}"
    holder = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.stopped_holder",
        server_address,
        prefix,
        str(LOCKS),
        cwd=Path(__file__).parent.parent,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert holder.stdin is not None and holder.stdout is not None
    try:
        assert await asyncio.wait_for(holder.stdout.readline(), 60) == b"holding\n"
        os.kill(holder.pid, signal.SIGSTOP)
        async with Client(server_address) as client:
            others = await asyncio.gather(
                *(client.acquire_permit(f"{prefix}-{i}", holder="next", wait=60.0, ttl=600.0) for i in range(LOCKS))
            )
            os.kill(holder.pid, signal.SIGCONT)
            holder.stdin.write(b"go on\n")
            line = await asyncio.wait_for(holder.stdout.readline(), 120)
            assert line == f"0 of {4 * LOCKS}\n".encode()
            for permit in others:
                assert await client.release_permit(permit.token), "it stays with its holder"
    finally:
        if holder.returncode is None:
            os.kill(holder.pid, signal.SIGCONT)
            holder.kill()
        await holder.wait()
