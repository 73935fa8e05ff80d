"""The blocking client against the real server."""

from __future__ import annotations

import inspect
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

import interlock
from interlock import Attempt, Field, InterlockError, JobState, NotFound, PermitDenied, PermitLost, ServerError, sync
from interlock.v1 import job_service_pb2


@pytest.fixture
def blocking(server_address: str) -> Iterator[sync.Client]:
    with sync.Client(server_address) as client:
        yield client


@pytest.fixture
def queue() -> str:
    return f"q-{uuid.uuid4().hex}"


def test_it_has_all_public_methods_of_the_asyncio_client() -> None:
    for name, method in inspect.getmembers(interlock.Client, inspect.isfunction):
        if not name.startswith("_"):
            assert hasattr(sync.Client, name), f"sync.Client lacks {name}"
            assert getattr(sync.Client, name).__doc__ or not method.__doc__


def test_a_worker_and_its_jobs(blocking: sync.Client, queue: str) -> None:
    worker = sync.Worker(blocking, [queue], concurrency=2, grace=1.0)
    threads = set()

    @worker.handler("voice")
    def speak(attempt: Attempt, input: dict[str, Any]) -> dict[str, Any]:
        threads.add(threading.current_thread())
        # A handler may use the client that its worker uses.
        blocking.update_record("films", attempt.job_id, Field("voices").increment(), allow_missing=True)
        return {"text": input["text"].upper()}

    running = threading.Thread(target=worker.run)
    running.start()
    job = blocking.submit_job("film", stages=[{"name": "voice", "queue": queue, "input": {"text": "hi"}}])
    states = [update.state for update in blocking.progress(job.job_id)]
    assert states[-1] is JobState.SUCCEEDED
    assert blocking.wait_job(job.job_id, timeout=20).progress == 1
    assert interlock.from_struct(blocking.get_job(job.job_id).stages[0].artifacts) == {"text": "HI"}
    assert blocking.get_record("films", job.job_id).fields == {"voices": 1}
    assert threading.main_thread() not in threads
    worker.stop()
    running.join(20)
    assert not running.is_alive()


def test_lists_and_watches_are_iterators(blocking: sync.Client, collection: str) -> None:
    for number in range(3):
        blocking.update_record(collection, f"r{number}", Field("n").set(number), allow_missing=True)
    assert [record.fields["n"] for record in blocking.list_records(collection)] == [0, 1, 2]
    pages = blocking.list_records(collection)
    next(pages)
    del pages
    with blocking.watch_records([(collection, "r0")]) as updates:
        first = next(updates)
        assert first.record is not None
        with pytest.raises(TimeoutError, match=r"no update came within 0\.01 s"):
            updates.next(timeout=0.01)
        blocking.update_record(collection, "r0", Field("n").set(9))
        second = updates.next(timeout=20)
        assert second.record is not None
        assert second.record.fields == {"n": 9}
        threading.Timer(0.05, updates.close).start()
        assert list(updates) == []
    for update in blocking.watch_resource(f"none-{collection}"):
        assert update is None
        break


def test_errors_are_raised_in_the_thread_of_the_caller(blocking: sync.Client) -> None:
    with pytest.raises(NotFound):
        blocking.get_job("none")
    with pytest.raises(NotFound):
        list(blocking.watch("none"))
    with pytest.raises(NotFound):
        blocking.call(blocking.jobs.PauseJob, job_service_pb2.PauseJobRequest(job_id="none"))


def test_a_permit_is_held_for_a_body(blocking: sync.Client, doc: str) -> None:
    with blocking.permit(doc) as permit:
        assert permit.fencing_tokens[doc] > 0
        with pytest.raises(PermitDenied), blocking.permit(doc):
            pass
    with pytest.raises(ServerError), blocking.permit(doc):
        raise ServerError("HTTP 503")
    with pytest.raises(RuntimeError, match="used before"), permit:
        pass
    blocking.acquire_permit(doc)


def test_a_permit_that_is_lost_says_so(blocking: sync.Client, doc: str) -> None:
    def until_lost(permit: sync.HeldPermit) -> None:
        deadline = time.monotonic() + 20
        while not permit.is_lost:
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)

    with pytest.raises(PermitLost), blocking.permit(doc, ttl=1) as permit:
        blocking.revoke_permit(doc, permit.fencing_tokens[doc])
        until_lost(permit)
    with pytest.raises(PermitLost), blocking.permit(doc, ttl=1) as permit:
        blocking.revoke_permit(doc, permit.fencing_tokens[doc])
        until_lost(permit)
        permit.check()
    with pytest.raises(ValueError, match="mine"), blocking.permit(doc, ttl=1) as permit:
        blocking.revoke_permit(doc, permit.fencing_tokens[doc])
        until_lost(permit)
        raise ValueError("mine")


def test_many_threads_use_one_client(blocking: sync.Client, collection: str) -> None:
    def add() -> None:
        for _ in range(10):
            blocking.update_record(collection, "r", Field("n").increment(), allow_missing=True)

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert blocking.get_record(collection, "r").fields == {"n": 80}


def test_a_closed_client_refuses_calls(server_address: str) -> None:
    client = sync.Client(server_address)
    watch = client.watch_resource("x")
    next(watch)
    client.close()
    client.close()
    with pytest.raises(Exception, match="closed"):
        client.get_job("x")
    watch.close()


def test_a_wrong_address_raises_at_once() -> None:
    with pytest.raises(ValueError, match="has no port"):
        sync.Client("localhost")


def test_waiting_in_the_loop_is_refused(blocking: sync.Client) -> None:
    async def inside() -> None:
        blocking.get_job("x")

    with pytest.raises(RuntimeError, match="for ever"):
        blocking._loop.run(inside())


def test_no_server_is_an_error_after_the_timeout() -> None:
    with sync.Client("127.0.0.1:1", timeout=0.3) as client, pytest.raises(InterlockError, match="no server answers at"):
        client.get_job("x")
