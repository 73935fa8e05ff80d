"""What several test files use."""

from __future__ import annotations

import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from interlock import Client
from tests.fake_server import FakeServer, fake_server
from tests.real_server import Database, real_database

# What `cargo build` makes, unless the environment names another.
os.environ.setdefault("INTERLOCK_BIN", str(Path(__file__).resolve().parents[3] / "target/debug/interlock"))


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """One real server with its Postgres, for all tests that ask for it; they use queues of their own."""
    with real_database() as database:
        yield database


@pytest.fixture(scope="session")
def server_address(database: Database) -> str:
    """The address of that server."""
    return database.address


@pytest.fixture
async def client(server_address: str) -> AsyncIterator[Client]:
    """A client of that server."""
    async with Client(server_address) as client:
        yield client


@pytest.fixture
async def other(server_address: str) -> AsyncIterator[Client]:
    """Another client of that server."""
    async with Client(server_address) as client:
        yield client


@pytest.fixture
def doc() -> str:
    """The name of a resource that no other test knows."""
    return f"doc-{uuid.uuid4().hex}"


@pytest.fixture
def collection() -> str:
    """A collection of records that no other test knows."""
    return f"c-{uuid.uuid4().hex}"


@pytest.fixture
async def server() -> AsyncIterator[FakeServer]:
    """A server that tells what the test says."""
    async with fake_server() as server:
        yield server
