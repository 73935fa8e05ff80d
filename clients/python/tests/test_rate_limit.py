"""Rate limits of a real server: calls are repeated when the server says so, and not where they would never pass."""

from __future__ import annotations

import asyncio
import time

import pytest

from interlock import Backoff, Client, Field, record_update
from interlock.errors import ResourceExhausted
from tests.real_server import Database, beside


async def test_refused_writes_wait_as_long_as_the_server_asks_and_then_pass(database: Database) -> None:
    with beside(database, "--rate-limit-write", "10/s") as server:
        async with Client(server.address, backoff=Backoff(first=0.01, longest=0.05)) as client:
            began = time.monotonic()
            jobs = await asyncio.gather(*(client.submit_job("limited") for _ in range(40)))
            took = time.monotonic() - began
    assert len({job.job_id for job in jobs}) == 40
    # Twenty at once, and the others at ten a second.
    assert took >= 1.9


async def test_a_batch_beyond_the_burst_fails_at_once(database: Database, collection: str) -> None:
    with beside(database, "--rate-limit-write", "5/h") as server:
        async with Client(server.address) as client:
            updates = [record_update(collection, f"r-{i}", Field("n").set(i)) for i in range(11)]
            with pytest.raises(ResourceExhausted) as refused:
                await asyncio.wait_for(client.write_records(updates), 5)
    assert refused.value.reason == "RATE_LIMITED"
    assert refused.value.retry_forbidden
    assert refused.value.metadata["class"] == "write"
    assert refused.value.metadata["burst"] == "10"
