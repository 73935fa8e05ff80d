"""TLS, client certificates and API keys against the real server."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import interlock
from interlock import Attempt, Client, Worker
from interlock.testing import binary
from interlock.v1 import job_pb2
from tests.certificates import Authority, Pair
from tests.real_server import Database, real_database

FAST = interlock.Backoff(first=0.001, longest=0.01)


@dataclass(frozen=True)
class Guarded:
    """A server that requires client certificates and API keys."""

    database: Database
    ca: Path
    client: Pair

    @property
    def address(self) -> str:
        return f"https://{self.database.address}"

    def key(self, *roles: str) -> str:
        """The token of a new key, made on the database alone."""
        command = [str(binary()), "key", "create", "--label", "test", "--role", ",".join(roles), "--namespaces", "*"]
        environment = {**os.environ, "INTERLOCK_DATABASE_URL": self.database.url}
        made = subprocess.run(command, env=environment, check=True, capture_output=True, text=True, timeout=60)
        return made.stdout.splitlines()[-1].strip()

    def connect(self, api_key: str | None) -> Client:
        return Client(
            self.address,
            api_key=api_key,
            ca=self.ca,
            certificate=self.client.certificate,
            private_key=self.client.key,
            backoff=FAST,
        )


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    authority = Authority(tmp_path_factory.mktemp("tls") / "authority")
    server, client = authority.issue("server"), authority.issue("client", names="DNS:client")
    flags = {
        "--tls-cert": str(server.certificate),
        "--tls-key": str(server.key),
        "--tls-client-ca": str(authority.certificate),
        "--auth": "required",
    }
    with real_database(*(text for flag in flags.items() for text in flag)) as database:
        yield Guarded(database, authority.certificate, client)


async def test_a_job_is_done_over_tls_with_a_key(guarded: Guarded) -> None:
    async def handler(attempt: Attempt) -> dict[str, str]:
        return {"stage": attempt.stage_name}

    async with guarded.connect(guarded.key("submit", "work")) as client:
        worker = Worker(client, ["voice"], "w")
        job = await client.submit_job("film", stages=[job_pb2.StageSpec(name="voice", queue="voice")])

        async def follow() -> list[int]:
            states: list[int] = [update.job.state async for update in client.watch(job.job_id)]
            worker.stop()
            return states

        _, states = await asyncio.wait_for(asyncio.gather(worker.run(handler, handle_signals=False), follow()), 30)
        assert states[-1] == job_pb2.JOB_STATE_SUCCEEDED


async def test_what_a_credential_does_not_permit_is_refused_by_name(guarded: Guarded) -> None:
    async with guarded.connect(guarded.key("read")) as client:
        with pytest.raises(interlock.PermissionDenied) as denied:
            await client.submit_job("film")
        assert "submit" in denied.value.roles
        assert denied.value.reason == "ROLE_DENIED"
    unknown = "il_abcdefgh_0123456789012345678901234567890123456789012"
    for key in (None, unknown):
        async with guarded.connect(key) as client:
            with pytest.raises(interlock.Unauthenticated) as invalid:
                await client.get_job("a")
            assert invalid.value.reason == "CREDENTIAL_INVALID"
            assert unknown not in str(invalid.value)
            with pytest.raises(interlock.Unauthenticated):
                await Worker(client, ["voice"], "w").run(lambda attempt: None, handle_signals=False)
