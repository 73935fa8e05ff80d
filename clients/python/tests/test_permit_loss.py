"""Permits that are lost, that a commit asks for, and that come with stages; against the real server."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

import interlock
from interlock import (
    Attempt,
    Breaker,
    Client,
    Field,
    PermitLost,
    ServerError,
    Worker,
    permit_claims,
    permit_release,
    record_update,
)
from interlock.v1 import common_pb2, job_pb2, permit_pb2
from tests.test_permits import is_free, soon, until


class Renewals:
    """What becomes of the renewals of a client."""

    def __init__(self, client: Client) -> None:
        self._renew = client._keeper._renew
        client._keeper._renew = self
        self.fail = False
        self.may_go = asyncio.Event()
        """They hang until then."""

    async def __call__(self, request: Any, timeout: float) -> Any:
        if self.fail:
            raise interlock.Unavailable(grpc.StatusCode.UNAVAILABLE, "no way")
        await self.may_go.wait()
        return await self._renew(request, timeout)


async def take(other: Client, doc: str, renewals: Renewals | None = None) -> str:
    """Somebody else gets the permit, as soon as it has expired, and then its holder may hear of it."""
    permit = await soon(other.acquire_permit(doc, wait=20))
    if renewals is not None:
        renewals.may_go.set()
    return permit.token


@pytest.mark.parametrize("by_clock", [False, True], ids=["the server says so", "its time is over"])
async def test_whoever_has_lost_a_permit_is_cancelled(client: Client, other: Client, doc: str, by_clock: bool) -> None:
    renewals = Renewals(client)
    renewals.fail = by_clock
    stopped = asyncio.Event()
    taking: asyncio.Task[str] | None = None
    with pytest.raises(PermitLost) as lost:
        async with client.permit(doc, ttl=1) as permit:
            taking = asyncio.create_task(take(other, doc, renewals))
            try:
                await soon(asyncio.Event().wait())
            finally:
                assert permit.is_lost
                with pytest.raises(PermitLost):
                    permit.check()
                stopped.set()
    assert stopped.is_set()
    assert lost.value.reason == "PERMIT_LOST"
    assert isinstance(lost.value.__cause__, asyncio.CancelledError)
    # The task is as it was.
    if sys.version_info >= (3, 11):
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
    await asyncio.sleep(0)
    # What the other one has is not touched.
    assert taking is not None
    assert await other.release_permit(await taking)


async def test_a_body_that_ends_all_the_same_is_reported(client: Client, other: Client, doc: str) -> None:
    renewals = Renewals(client)
    with pytest.raises(PermitLost):
        async with client.permit(doc, ttl=1):
            taking = asyncio.create_task(take(other, doc, renewals))
            with pytest.raises(asyncio.CancelledError):
                await soon(asyncio.Event().wait())
    await other.release_permit(await taking)

    # Its own exception goes before.
    renewals.may_go.clear()
    with pytest.raises(KeyError):
        async with client.permit(doc, ttl=1):
            taking = asyncio.create_task(take(other, doc, renewals))
            try:
                await soon(asyncio.Event().wait())
            except asyncio.CancelledError:
                raise KeyError("mine") from None
    await other.release_permit(await taking)

    # The loss is noticed only at the release.
    renewals.may_go.clear()
    with pytest.raises(PermitLost):
        async with client.permit(doc, ttl=1):
            taking = asyncio.create_task(take(other, doc))
            await soon(asyncio.shield(taking))
    await other.release_permit(await taking)
    with pytest.raises(KeyError):
        async with client.permit(doc, ttl=1):
            taking = asyncio.create_task(take(other, doc))
            await soon(asyncio.shield(taking))
            raise KeyError("mine")
    await other.release_permit(await taking)


async def test_a_loss_that_comes_after_the_last_await_cancels_nothing_else(client: Client, doc: str) -> None:
    with pytest.raises(PermitLost):
        async with client.permit(doc) as permit:
            permit._holding.lose()
    await asyncio.sleep(0)
    # Two in one task, both lost: the outer one says so, where cancels are counted.
    says = f"{doc}-1" if sys.version_info >= (3, 11) else doc
    with pytest.raises(PermitLost, match=says):
        async with client.permit(f"{doc}-1") as one, client.permit(f"{doc}-2") as two:
            one._holding.lose()
            two._holding.lose()
            await asyncio.Event().wait()
    await asyncio.sleep(0)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks do not count their cancels")
async def test_a_cancel_of_others_goes_on(client: Client, doc: str) -> None:
    async def work(lose: bool) -> None:
        async with client.permit(doc) as permit:
            inside.set()
            try:
                await asyncio.Event().wait()
            finally:
                if lose:
                    permit._holding.lose()

    for lose in (False, True):
        inside = asyncio.Event()
        task = asyncio.create_task(work(lose))
        await soon(inside.wait())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(task)
        resource = await client.get_resource(doc)
        # A lost permit is not released: another holder has it.
        assert is_free(resource) == (not lose)


async def test_a_release_is_sent_though_its_task_is_cancelled_again(client: Client, doc: str) -> None:
    release = client._keeper.begin
    task = asyncio.current_task()
    assert task is not None

    def begin(work: Any) -> Any:
        assert task is not None
        begun = release(work)
        task.cancel()
        return begun

    client._keeper.begin = begin  # type: ignore[method-assign]
    with pytest.raises(asyncio.CancelledError):
        async with client.permit(doc):
            pass
    if sys.version_info >= (3, 11):
        task.uncancel()
    await until(client, doc, is_free)


async def test_a_commit_asks_for_a_permit_and_can_end_it(
    client: Client, other: Client, doc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = record_update(doc, "a", Field("n").increment(), allow_missing=True)
    wrong = record_update(doc, "a", Field("n").increment(), expected_version=9)
    async with client.permit(doc) as permit:
        await client.commit([write], permit_fence=permit.token)
        # What is refused ends nothing.
        with pytest.raises(interlock.VersionMismatch):
            await client.commit([wrong, permit_release(permit.token)])
        call = client.call

        async def lost_meanwhile(method: Any, request: Any, **options: Any) -> Any:
            response = await call(method, request, **options)
            # A renewal that was under way meanwhile.
            permit._holding.lose()
            return response

        with monkeypatch.context() as patch:
            patch.setattr(client, "call", lost_meanwhile)
            await client.commit([write, permit_release(permit.token)], permit_fence=permit.token)
        assert not client._keeper._holdings
        assert is_free(await client.get_resource(doc))
        # The body goes on without it, and is not cancelled for that.
        with pytest.raises(PermitLost) as lost:
            await client.commit([write], permit_fence=permit.token)
        assert "index" not in lost.value.metadata
        with pytest.raises(PermitLost) as lost:
            await client.commit([write, permit_release(permit.token)])
        assert lost.value.metadata["index"] == "1"
    assert (await client.get_record(doc, "a")).fields == {"n": 2}

    # Another holder has the lock by now.
    renewals = Renewals(client)
    with pytest.raises(PermitLost):
        async with client.permit(doc, ttl=1) as permit:
            token = await take(other, doc)
            await client.commit([write], permit_fence=permit.token)
    assert (await client.get_record(doc, "a")).fields == {"n": 2}
    await other.commit([write, permit_release(token)], permit_fence=token)
    renewals.may_go.set()


@contextmanager
def working(client: Client, queue: str, handler: Any, **options: Any) -> Iterator[asyncio.Task[None]]:
    worker = Worker(client, [queue], "w", grace=0.0, **options)
    running = asyncio.create_task(worker.run(handler, handle_signals=False))
    try:
        yield running
    finally:
        worker.stop()


async def test_stages_are_leased_with_their_permits_and_report_for_them(client: Client, doc: str) -> None:
    queue, api = f"q-{doc}", f"{doc}-api"
    await client.set_policy(api, capacity=2, breaker=Breaker(failure_threshold=1, open_duration=600))
    inside = most = 0
    tokens: list[int] = []

    async def handler(attempt: Attempt) -> dict[str, Any]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        tokens.append(attempt.permits[doc])
        assert list(attempt.permits) == [doc, api]
        assert {it.holder for it in (await client.get_resource(doc)).holders} == {"w"}
        inside -= 1
        if attempt.stage_name == "last":
            raise ServerError("HTTP 503")
        return dict(attempt.permits)

    names = [f"s{number}" for number in range(4)]
    specs = [job_pb2.StageSpec(name=name, queue=queue, permits=permit_claims(doc, (api, 2))) for name in names]
    specs.append(
        job_pb2.StageSpec(
            name="last",
            queue=queue,
            depends_on=names,
            permits=permit_claims(doc, api),
            retry_policy=common_pb2.RetryPolicy(max_attempts=1),
        )
    )
    with working(client, queue, handler, concurrency=4) as running:
        job = await client.submit_job("edit", stages=specs)
        job = await client.wait_job(job.job_id, timeout=20)
    await soon(running)
    assert job.state == job_pb2.JOB_STATE_FAILED
    assert (most, len(tokens)) == (1, 5)
    assert tokens == sorted(set(tokens))
    assert [(it.resource, it.amount) for it in job.stages[0].permits] == [(doc, 1), (api, 2)]
    assert interlock.from_struct(job.stages[0].artifacts)[doc] in tokens
    assert (await client.get_resource(api)).breaker_state == permit_pb2.BREAKER_STATE_OPEN
    assert is_free(await client.get_resource(doc))


async def test_a_handler_whose_permit_is_denied_is_tried_again_when_it_is_worth_it(client: Client, doc: str) -> None:
    queue = f"q-{doc}"
    held = await client.acquire_permit(doc, ttl=300)

    async def handler(attempt: Attempt) -> None:
        async with client.permit(doc, lease_token=attempt.lease.lease_token):
            holders = (await client.get_resource(doc)).holders
            assert [it.holder for it in holders] == ["w"]

    with working(client, queue, handler) as running:
        job = await client.submit_job("edit", stages=[job_pb2.StageSpec(name="main", queue=queue)])
        async for update in client.watch(job):
            stage = update.job.stages[0]
            if stage.HasField("failure"):
                break
    await soon(running)
    assert (stage.state, stage.failure.code) == (job_pb2.STAGE_STATE_BACKOFF, "PERMIT_DENIED")
    assert 200 < stage.failure.retry_wait.seconds <= 302
    await client.release_permit(held.token)

    with working(client, queue, handler) as running:
        job = await client.submit_job("edit", stages=[job_pb2.StageSpec(name="main", queue=queue)])
        job = await client.wait_job(job.job_id, timeout=20)
    await soon(running)
    assert job.state == job_pb2.JOB_STATE_SUCCEEDED
    assert is_free(await client.get_resource(doc))
