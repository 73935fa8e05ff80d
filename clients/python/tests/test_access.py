"""TLS and API keys: what is checked, what is sent, and what is never shown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest

import interlock
from interlock import Client
from interlock.v1 import job_pb2, job_service_pb2
from tests.certificates import Authority, Pair
from tests.fake_server import FakeServer, Refusal, fake_server

KEY = "il_abcdefgh_0123456789012345678901234567890123456789012"
FAST = interlock.Backoff(first=0.001, longest=0.01)
VARIABLES = ("SERVER", "NAMESPACE", "API_KEY", "CA", "CERT", "CERT_KEY")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "authority")


@pytest.fixture(scope="module")
def pair(authority: Authority) -> Pair:
    return authority.issue("server")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(f"INTERLOCK_{variable}", raising=False)


@asynccontextmanager
async def secure_server(pair: Pair, *, client_ca: Path | None = None) -> AsyncIterator[FakeServer]:
    """With TLS; `client_ca` requires certificates of clients."""
    credentials = grpc.ssl_server_credentials(
        [(pair.key.read_bytes(), pair.certificate.read_bytes())],
        root_certificates=None if client_ca is None else client_ca.read_bytes(),
        require_client_auth=client_ca is not None,
    )
    async with fake_server(credentials) as server:
        yield server


async def refused(client: Client) -> interlock.Unavailable:
    """The error of a client that gets no connection."""
    async with client:
        with pytest.raises(interlock.Unavailable) as raised:
            await client.get_job("a")
    return raised.value


async def test_calls_and_streams_carry_the_key_over_tls(authority: Authority, pair: Pair) -> None:
    snapshot = job_service_pb2.WatchJobResponse(snapshot=job_pb2.Job(job_id="a", state=job_pb2.JOB_STATE_SUCCEEDED))
    async with secure_server(pair) as server:
        for host in ("127.0.0.1", "localhost"):
            address = f"https://{server.address.replace('127.0.0.1', host)}"
            for ca in (authority.certificate, str(authority.certificate), authority.certificate.read_bytes()):
                async with Client(address, ca=ca, api_key=KEY, namespace="studio") as client:
                    assert (await client.get_job("a")).job_id == "a"
        server.streams = [[snapshot]]
        async with Client(f"https://{server.address}", ca=authority.certificate, api_key=KEY) as client:
            async for _ in client.watch("a", patience=1.0):
                break
        assert {name for name, _ in server.calls} == {"GetJob", "WatchJob"}
        assert all(metadata["authorization"] == f"Bearer {KEY}" for metadata in server.metadata)
        assert server.metadata[0]["interlock-namespace"] == "studio"


async def test_several_addresses_have_tls_if_there_is_an_authority(authority: Authority, pair: Pair) -> None:
    async with secure_server(pair) as server:
        port = server.address.rpartition(":")[2]
        address = f"ipv4:{server.address},127.0.0.1:{port}"
        async with Client(address, ca=authority.certificate, timeout=5.0) as client:
            assert (await client.get_job("a")).job_id == "a"


async def test_the_environment_says_what_arguments_do_not(
    authority: Authority, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = authority.issue("worker", names="DNS:worker")
    async with secure_server(pair, client_ca=authority.certificate) as server:
        said = {
            "SERVER": f"https://{server.address}",
            "NAMESPACE": "studio",
            "API_KEY": KEY,
            "CA": str(authority.certificate),
            "CERT": str(identity.certificate),
            "CERT_KEY": str(identity.key),
        }
        for variable, value in said.items():
            monkeypatch.setenv(f"INTERLOCK_{variable}", value)
        async with Client() as client:
            await client.get_job("a")
        assert server.metadata[-1]["authorization"] == f"Bearer {KEY}"
        assert server.metadata[-1]["interlock-namespace"] == "studio"
        async with Client(namespace="other", api_key="il_another") as client:
            await client.get_job("a")
        assert server.metadata[-1]["authorization"] == "Bearer il_another"
        assert server.metadata[-1]["interlock-namespace"] == "other"
        async with Client(metadata=[("authorization", "Basic x")]) as client:
            await client.get_job("a")
        assert server.metadata[-1]["authorization"] == "Basic x"


async def test_a_server_of_another_authority_or_name_gets_no_call(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path / "stranger")
    elsewhere = authority.issue("elsewhere", names="DNS:interlock.example")
    async with secure_server(pair) as server, secure_server(elsewhere) as misnamed:
        address = f"https://{server.address}"
        for client, advice in (
            (Client(address, ca=stranger.certificate, api_key=KEY, timeout=0.5, backoff=FAST), "check `ca`"),
            (Client(address, api_key=KEY, timeout=0.5, backoff=FAST), "check `ca`"),
            (Client(f"https://{misnamed.address}", ca=authority.certificate, timeout=0.5, backoff=FAST), "name"),
        ):
            error = await refused(client)
            assert "https://127.0.0.1:" in str(error) and KEY not in str(error), error
            assert advice in str(error), error
        assert server.calls == [] and misnamed.calls == []
    async with fake_server() as plain:
        error = await refused(Client(f"https://{plain.address}", ca=authority.certificate, timeout=0.5, backoff=FAST))
        assert "use an address that begins with http://" in str(error), error


async def test_a_client_certificate_is_shown_where_one_is_required(
    authority: Authority, pair: Pair, tmp_path: Path
) -> None:
    identity, stranger = authority.issue("worker-7"), Authority(tmp_path / "stranger").issue("stranger")
    async with secure_server(pair, client_ca=authority.certificate) as server:
        address, ca = f"https://{server.address}", authority.certificate
        await refused(Client(address, ca=ca, timeout=0.5, backoff=FAST))
        key, certificate = stranger.key, stranger.certificate
        await refused(Client(address, ca=ca, certificate=certificate, private_key=key, timeout=0.5, backoff=FAST))
        assert server.calls == []
        key, certificate = identity.key, identity.certificate
        async with Client(address, ca=ca, certificate=certificate, private_key=key) as client:
            await client.get_job("a")


async def test_a_refused_credential_is_an_error_of_its_own_that_is_not_repeated() -> None:
    async with fake_server() as server, Client(server.address, api_key=KEY, backoff=FAST) as client:
        server.refusals = [
            Refusal(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID"),
            Refusal(grpc.StatusCode.PERMISSION_DENIED, "ROLE_DENIED", metadata={"roles": "submit"}),
        ]
        with pytest.raises(interlock.Unauthenticated) as invalid:
            await client.get_job("a")
        assert KEY not in f"{invalid.value}{invalid.value!r}{invalid.value.__cause__!r}"
        with pytest.raises(interlock.PermissionDenied) as denied:
            await client.get_job("a")
        assert denied.value.roles == "submit"
        server.streams = [[Refusal(grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID")]]
        with pytest.raises(interlock.Unauthenticated):
            await asyncio.wait_for(anext(client.watch("a")), 10)
        assert len(server.calls) == 3


async def test_a_key_over_plaintext_to_another_machine_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    async def warned(address: str, **options: Any) -> list[str]:
        caplog.clear()
        async with Client(address, **options) as client:
            assert KEY not in f"{client!r}{client}"
        assert KEY not in caplog.text
        return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]

    for here in ("127.0.0.1:1", "http://localhost:1", "http://[::1]:1", "unix:/run/a.sock", "ipv4:127.0.0.1:1"):
        assert await warned(here, api_key=KEY) == []
    assert await warned("https://interlock.example", api_key=KEY) == []
    assert await warned("interlock.example:1") == []
    for there in ("interlock.example:1", "http://10.0.0.1:1", "ipv4:127.0.0.1:1,10.0.0.1:1", "dns:///interlock:1"):
        warnings = await warned(there, api_key=KEY)
        assert warnings == [f"the API key is sent unencrypted to {there}: use an address that begins with https://"]


@pytest.mark.parametrize(
    ("address", "options", "message"),
    [
        ("a:1", {"api_key": "il a"}, "api_key (INTERLOCK_API_KEY) is empty or has a character"),
        ("a:1", {"api_key": ""}, "api_key (INTERLOCK_API_KEY) is empty or has a character"),
        ("a:1", {"ca": b"-----BEGIN CERTIFICATE-----"}, "ca (INTERLOCK_CA) needs an address that begins with https://"),
        ("https://a", {"ca": b"no"}, "ca holds no certificate in PEM"),
        ("https://a", {"certificate": b"no"}, "private_key (INTERLOCK_CERT_KEY) is missing"),
        ("https://a", {"private_key": b"no"}, "certificate (INTERLOCK_CERT) is missing"),
        ("https://a", {"ca": b"", "credentials": grpc.ssl_channel_credentials()}, "ca and credentials are two ways"),
        ("http://a", {"credentials": grpc.ssl_channel_credentials()}, "credentials need an address that begins with"),
    ],
)
async def test_what_cannot_be_is_refused_at_once(address: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as raised:
        Client(address, **options)
    assert message in str(raised.value)


async def test_a_file_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    missing, wrong = tmp_path / "missing.pem", tmp_path / "wrong.pem"
    wrong.write_text("no certificate")
    with pytest.raises(FileNotFoundError, match=r"missing\.pem"):
        Client("https://a", ca=missing)
    with pytest.raises(ValueError, match=r"ca holds no certificate in PEM: .*wrong\.pem"):
        Client("https://a", ca=wrong)
