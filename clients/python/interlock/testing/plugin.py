"""Fixtures of pytest, in every project that has this package installed."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

import interlock.sync
from interlock.testing import DevServer, dev_server
from interlock.v1 import admin_service_pb2


@pytest.fixture(scope="session")
def interlock_server() -> Iterator[DevServer]:
    """A server for all tests of the session, as in `Client(interlock_server.address)`."""
    with dev_server() as server:
        yield server


@pytest.fixture
def interlock_namespace(interlock_server: DevServer) -> Iterator[str]:
    """The name of a namespace that only this test knows: `Client(interlock_server.address, namespace=...)`."""
    name = f"test-{uuid.uuid4().hex}"
    with interlock.sync.Client(interlock_server.address) as client:
        client.call(client.admin.CreateNamespace, admin_service_pb2.CreateNamespaceRequest(name=name))
        yield name


@pytest.fixture
def interlock_client(interlock_server: DevServer, interlock_namespace: str) -> Iterator[interlock.sync.Client]:
    """A blocking client in the namespace of the test."""
    with interlock.sync.Client(interlock_server.address, namespace=interlock_namespace) as client:
        yield client
