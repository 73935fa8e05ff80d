"""Mistakes in arguments raise at once, with what to write instead."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import interlock
from interlock import Client, Worker, permit_claims
from interlock.v1 import job_pb2, job_service_pb2, worker_service_pb2
from tests.fake_server import Refusal, Script, fake_server

ADDRESS = "127.0.0.1:50051"
# Without their types, for what those do not allow.
make_worker: Any = Worker
make_client: Any = Client
make_claims: Any = permit_claims


async def refused(call: Callable[[Client], Any]) -> str:
    async with Client(ADDRESS) as client:
        with pytest.raises(TypeError) as raised:
            result = call(client)
            if asyncio.iscoroutine(result):
                await result
    return str(raised.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda it: make_worker(it, "voice"), "queues is a list of texts: write ['voice'] in place of 'voice'"),
        (lambda it: make_worker(it, b"voice"), "queues is a list, such as"),
        (lambda it: make_worker(it, {"voice": 1}), "queues is a list, such as"),
        (lambda it: make_worker(it, 5), "queues is a list, such as"),
        (lambda it: make_worker(it, ["voice", 5]), "queues[1] is an int, not a text"),
        (lambda it: it.renew_permits("token"), "tokens is a list of texts: write ['token'] in place of 'token'"),
        (lambda it: it.watch_records("films"), "records is a list, such as"),
        (lambda it: it.watch_records(("films", "f1")), "records is a list of pairs, such as"),
        # Two letters would be a pair.
        (lambda it: it.watch_records(["ab"]), "records is a list of pairs, such as"),
        (lambda it: it.submit_job("film", stages="voice"), "stages is a list, such as"),
        (lambda it: it.submit_job("film", stages=["voice"]), "stages[0] is a str, not a dict"),
        (lambda it: it.submit_job("film", stages=job_pb2.StageSpec(name="a")), "stages is a list, such as"),
        (lambda it: it.submit_job("film", payload="text"), "a document is a mapping"),
        (lambda it: it.update_records(interlock.record_update("c", "r")), "updates is a list, such as"),
        (lambda it: it.write_records("ab"), "updates is a list, such as"),
        (lambda it: it.commit(interlock.record_update("c", "r")), "requests is a list, such as"),
        (lambda it: it.set_policy("api", rates=(5, 1.0)), "rates is a list of pairs, such as"),
        (lambda it: it.acquire_permit(["doc-7", "docs-api"]), "write each as an argument of its own"),
        (lambda it: make_claims(5), "a claim is a name, a pair of a name and an amount, or a Claim, not an int"),
        (lambda it: make_client(ADDRESS, metadata={"authorization": "x"}), "metadata is a list, such as"),
        (lambda it: make_client(ADDRESS, metadata=["ab"]), "metadata is a list of pairs, such as"),
    ],
)
async def test_one_where_several_are_wanted_is_refused(call: Callable[[Client], Any], message: str) -> None:
    assert message in await refused(call)


@pytest.mark.parametrize("value", [float("nan"), "5", None])
async def test_a_time_that_is_no_number_is_refused(value: Any) -> None:
    async with Client(ADDRESS) as client:
        with pytest.raises(ValueError, match="poll_wait is a number of seconds"):
            Worker(client, poll_wait=value)
        if value is not None:
            with pytest.raises(ValueError, match="timeout is a number of seconds"):
                await client.wait_job("a", timeout=value)
            with pytest.raises(ValueError, match="wait is a number of seconds"):
                await client.acquire_permit("doc", wait=value)
        with pytest.raises(ValueError, match="a duration is a finite number of seconds or a timedelta"):
            await client.cancel_job("a", grace_period=float("inf"))


@pytest.mark.parametrize(
    "address",
    [
        ADDRESS,
        "localhost:1",
        "http://localhost:1",
        "https://localhost:1/",
        "https://interlock.example",
        "interlock.jobs.svc.cluster.local:65535",
        "[::1]:50051",
        "ipv4:10.0.0.1:50051,10.0.0.2:50051",
        "ipv6:[::1]:50051,[::2]:50051",
        "dns:///interlock:50051",
        "dns://8.8.8.8/interlock:50051",
        "unix:/run/interlock.sock",
        "unix:///run/interlock.sock",
    ],
)
async def test_addresses_that_grpc_knows_are_taken(address: str) -> None:
    async with Client(address) as client:
        assert client.address == address


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:50051/jobs", "has a character that no host has"),
        ("http:127.0.0.1:50051", f'write "{ADDRESS}"'),
        ("https:interlock:443", 'write "interlock:443", or "https://interlock:443" for TLS'),
        ("grpcs://interlock:443", 'write "interlock:443", or "https://interlock:443" for TLS'),
        ("https://", 'has no port: write "https://127.0.0.1:50051"'),
        ("https://:443", 'has no host: write "https://127.0.0.1:443"'),
        ("https://::1", 'write "https://[::1]:50051"'),
        ("postgres://interlock@db:5432/interlock", "begins with postgres:"),
        ("localhost", 'has no port: write "localhost:50051"'),
        ("", f'has no port: write "{ADDRESS}"'),
        ("dns:///interlock", 'has no port: write "interlock:50051"'),
        ("ipv4:10.0.0.1:50051,10.0.0.2", 'has no port: write "10.0.0.2:50051"'),
        ("[::1]", 'has no port: write "[::1]:50051"'),
        ("::1", 'is an IPv6 address without a port: write "[::1]:50051"'),
        ("::1:50051", 'is an IPv6 address without brackets: write "[::1]:50051"'),
        (":50051", 'has no host: write "127.0.0.1:50051"'),
        ("localhost:http", "has no port from 1 to 65535 after its colon"),
        ("localhost:0", "has no port from 1 to 65535 after its colon"),
        ("localhost:65536", "has no port from 1 to 65535 after its colon"),
        ("localhost:50051 ", "has a character that no host has"),
        ("a:50051,b:50051", 'is a list: write "ipv4:" or "ipv6:"'),
    ],
)
async def test_addresses_that_can_never_work_are_refused_with_what_to_write(address: str, message: str) -> None:
    with pytest.raises(ValueError) as raised:
        Client(address)
    assert repr(address) in str(raised.value)
    assert message in str(raised.value)


@contextmanager
def deaf() -> Iterator[str]:
    """A server that lets clients connect and never says anything."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@contextmanager
def absent() -> Iterator[str]:
    """A port without a listener, reserved for the test."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def warnings(caplog: pytest.LogCaptureFixture, address: str) -> list[str]:
    start = f"no server answers at {address}, trying again: "
    logged = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    return [text for text in logged if text.startswith(start)]


async def until_warned(caplog: pytest.LogCaptureFixture, address: str) -> float:
    """After how many seconds the warning came."""
    began = time.monotonic()
    while not warnings(caplog, address):
        assert time.monotonic() - began < 10, "nothing was logged"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


@pytest.mark.parametrize("place", [absent, deaf])
async def test_an_absent_server_is_reported_at_once_and_by_the_error(
    place: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    with place() as address:
        async with Client(address, timeout=3.0) as client:
            call = asyncio.create_task(client.get_job("a"))
            # Within a second on a machine that has nothing else to do.
            assert await until_warned(caplog, address) < 2.5
            assert not call.done()
            with pytest.raises(interlock.Unavailable) as raised:
                await call
    assert raised.value.message.startswith(f"no server answers at {address}: ")
    assert len(warnings(caplog, address)) == 1


async def test_a_watch_tells_an_absent_server_too(caplog: pytest.LogCaptureFixture) -> None:
    with absent() as address:
        async with Client(address) as client, client.watch("a", patience=3.0) as watch:
            news = asyncio.create_task(anext(watch))
            assert await until_warned(caplog, address) < 2.5
            with pytest.raises(interlock.Unavailable) as raised:
                await news
    assert raised.value.message.startswith(f"no server answers at {address}: ")


async def test_a_worker_tells_an_absent_server_and_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    async def handler(attempt: interlock.Attempt) -> None: ...

    with absent() as address:
        async with Client(address) as client:
            worker = Worker(client, ["q"])
            running = asyncio.create_task(worker.run(handler, handle_signals=False))
            assert await until_warned(caplog, address) < 2.5
            assert not running.done()
            worker.stop()
            await asyncio.wait_for(running, 10)


async def test_each_outage_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    lost = Refusal(grpc.StatusCode.UNAVAILABLE, "")
    async with fake_server() as server:
        backoff = interlock.Backoff(first=0.001, longest=0.002)
        async with Client(server.address, backoff=backoff) as client:
            for _ in range(2):
                server.refusals = [lost] * 3
                await client.get_job("a")
            script: Script = [lost]
            server.streams = [script, script, [job_update()]]
            async with client.watch("a") as watch:
                await anext(watch)
            server.refusals = [lost]
            await client.get_job("a")
    assert len(warnings(caplog, server.address)) == 4


def job_update() -> Any:
    return job_service_pb2.WatchJobResponse(snapshot=job_pb2.Job(job_id="a", version=1))


async def test_no_call_asks_to_wait_longer_than_proxies_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.client.SOON", 0.05)

    async def handler(attempt: interlock.Attempt) -> None: ...

    async with fake_server() as server, Client(server.address) as client:
        worker = Worker(client, ["q"], poll_wait=600.0)
        running = asyncio.create_task(worker.run(handler, handle_signals=False))
        await server.until(lambda: bool(server.of("LeaseStages")))
        request: worker_service_pb2.LeaseStagesRequest = server.of("LeaseStages")[0]
        assert request.wait.seconds == 50
        waiting = asyncio.create_task(client.wait_job("a"))
        await server.until(lambda: len(server.of("WaitJob")) >= 2)
        assert server.of("WaitJob")[1].wait.seconds == 50
        waiting.cancel()
        worker.stop()
        await asyncio.wait_for(running, 10)
    assert interlock.connection.LONGEST_WAIT == 50.0


async def test_a_longer_wait_is_made_of_several_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.client.SOON", 0.05)
    monkeypatch.setattr("interlock.client.LONGEST_WAIT", 0.05)
    async with fake_server() as server, Client(server.address) as client:
        job = await client.wait_job("a", timeout=0.2)
    assert job.job_id == "a"
    waits = [request.wait.ToMilliseconds() for request in server.of("WaitJob")]
    assert len(waits) >= 2
    assert max(waits) <= 50
