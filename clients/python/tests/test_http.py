"""Failures for responses and errors of HTTP packages."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx
import pytest
import requests

from interlock import FailureClass, StageError, expect_ok, failure_from_response
from interlock.documents import seconds
from interlock.failures import failure_of

VENDOR = "http://user:secret@vendor.example/speak?key=secret#there"


class _Answers(BaseHTTPRequestHandler):
    """Answers with the status and the header `Retry-After` that the query names."""

    def do_GET(self) -> None:
        asked = parse_qs(urlsplit(self.path).query)
        if "hang" in asked:
            time.sleep(0.5)
        self.send_response(int(asked["status"][0]))
        for wait in asked.get("after", []):
            self.send_header("Retry-After", wait)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def vendor() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def told(failure: StageError) -> tuple[FailureClass, str, float | None]:
    return failure.failure_class, failure.code, failure.retry_after


async def test_responses_of_all_packages_make_the_same_failure(vendor: str) -> None:
    url = f"{vendor}?status=429&after=7"
    async with httpx.AsyncClient() as client, aiohttp.ClientSession() as session:
        async with session.get(url) as answered:
            responses = [httpx.get(url), await client.get(url), requests.get(url, timeout=5), answered]
            for response in responses:
                failure = failure_from_response(response)
                assert told(failure) == (FailureClass.RATE_LIMITED, "429", 7.0)
                assert failure.message == f"HTTP 429 Too Many Requests from {vendor}"
                with pytest.raises(StageError):
                    expect_ok(response)
        fine = await client.get(f"{vendor}?status=204")
    assert expect_ok(fine) is fine


async def test_raise_for_status_makes_the_same_failure(vendor: str) -> None:
    url = f"{vendor}?status=503&after=3"
    raised: list[Exception] = []
    with pytest.raises(httpx.HTTPStatusError) as from_httpx:
        httpx.get(url).raise_for_status()
    with pytest.raises(requests.HTTPError) as from_requests:
        requests.get(url, timeout=5).raise_for_status()
    with pytest.raises(aiohttp.ClientResponseError) as from_aiohttp:
        async with aiohttp.ClientSession() as session, session.get(url) as answered:
            answered.raise_for_status()
    with pytest.raises(urllib.request.HTTPError) as from_urllib:
        urllib.request.urlopen(url, timeout=5)
    raised += [from_httpx.value, from_requests.value, from_aiohttp.value, from_urllib.value]
    for error in raised:
        failure = failure_of(error)
        assert FailureClass(failure.failure_class) is FailureClass.SERVER_ERROR, error
        assert (failure.code, seconds(failure.retry_after)) == ("503", 3.0), error
        assert "traceback" in failure.details.fields


async def test_errors_of_connections_have_their_class(vendor: str) -> None:
    hang, gone = f"{vendor}?status=200&hang=1", "http://127.0.0.1:1/"
    quick = aiohttp.ClientTimeout(total=0.05)
    raised: list[tuple[BaseException, FailureClass]] = []
    calls: list[tuple[Callable[[], Any], FailureClass]] = [
        (lambda: httpx.get(hang, timeout=0.05), FailureClass.TIMEOUT),
        (lambda: requests.get(hang, timeout=0.05), FailureClass.TIMEOUT),
        (lambda: httpx.get(gone), FailureClass.NETWORK),
        (lambda: requests.get(gone, timeout=5), FailureClass.NETWORK),
        (lambda: urllib.request.urlopen(gone, timeout=5), FailureClass.NETWORK),
    ]
    for call, expected in calls:
        with pytest.raises(Exception) as failed:
            call()
        raised.append((failed.value, expected))
    async with aiohttp.ClientSession() as session:
        for url, expected in [(hang, FailureClass.TIMEOUT), (gone, FailureClass.NETWORK)]:
            with pytest.raises(Exception) as failed:
                await session.get(url, timeout=quick)
            raised.append((failed.value, expected))
    for error, expected in raised:
        assert FailureClass(failure_of(error).failure_class) is expected, repr(error)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, FailureClass.CLIENT_ERROR),
        (404, FailureClass.CLIENT_ERROR),
        (408, FailureClass.TIMEOUT),
        (429, FailureClass.RATE_LIMITED),
        (500, FailureClass.SERVER_ERROR),
        (599, FailureClass.SERVER_ERROR),
    ],
)
def test_the_class_follows_the_status(status: int, expected: FailureClass) -> None:
    response = SimpleNamespace(status=status, headers={}, url=VENDOR)
    failure = failure_from_response(response)
    assert told(failure) == (expected, str(status), None)
    assert "secret" not in failure.message
    assert "vendor.example/speak" in failure.message
    assert failure_from_response(response, "no voices left").message == "no voices left"


def retry_after(header: str) -> float | None:
    return failure_from_response(SimpleNamespace(status_code=503, headers={"rEtry-aFter": header})).retry_after


def test_retry_after_is_seconds_or_a_date() -> None:
    assert [retry_after(it) for it in ("0", " 2.5 ", "9999999")] == [0, 2.5, 86_400]
    found = retry_after(formatdate(time.time() + 3600, usegmt=True))
    assert found is not None
    assert 3500 <= found <= 3600
    assert retry_after(formatdate(time.time() - 3600, usegmt=True)) == 0


@pytest.mark.parametrize("header", ["", "soon", "-5", "Mon, 99 Foo"])
def test_retry_after_that_cannot_be_read_is_left_out(header: str) -> None:
    assert failure_from_response(SimpleNamespace(status=503, headers={"Retry-After": header})).retry_after is None


def test_what_is_no_response_is_refused() -> None:
    with pytest.raises(TypeError, match="str is no HTTP response"):
        failure_from_response("503")
