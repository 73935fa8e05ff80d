"""What several test files use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real_server import Database, real_database


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    """One real server with its Postgres, for all tests that ask for it; they use queues of their own."""
    with real_database() as database:
        yield database


@pytest.fixture(scope="session")
def server_address(database: Database) -> str:
    """The address of that server."""
    return database.address
