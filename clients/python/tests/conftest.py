"""What several test files use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.real_server import real_server


@pytest.fixture(scope="session")
def server_address() -> Iterator[str]:
    """One real server for all tests that ask for it; they use queues of their own."""
    with real_server() as address:
        yield address
