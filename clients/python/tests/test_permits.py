"""Permits, against the real server: each test has resources of its own. What is waited for has 20 s to come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest

import interlock
from interlock import (
    BlockReason,
    Breaker,
    Claim,
    Client,
    FailureClass,
    PermitDenied,
    PermitMode,
    RateLimited,
    ServerError,
)
from interlock.permits import outcome_of
from interlock.v1 import permit_pb2
from tests.real_server import Database, beside

Result = TypeVar("Result")


async def soon(awaitable: Awaitable[Result]) -> Result:
    return await asyncio.wait_for(awaitable, 20)


async def until(client: Client, name: str, holds: Callable[[permit_pb2.Resource], bool]) -> permit_pb2.Resource:
    """Follows the resource until something holds."""

    async def look() -> permit_pb2.Resource:
        async with client.watch_resource(name) as watch:
            async for resource in watch:
                if resource is not None and holds(resource):
                    return resource
        raise AssertionError("a watch without an end has ended")

    return await soon(look())


def is_free(resource: permit_pb2.Resource) -> bool:
    return (resource.permit_count, resource.waiter_count) == (0, 0)


async def test_a_permit_is_held_in_the_body_and_released_at_its_end(client: Client, doc: str) -> None:
    async with client.permit(doc, holder="editor", ttl=30) as permit:
        seen = await client.get_resource(doc)
        assert [(it.holder, it.mode, it.amount) for it in seen.holders] == [
            ("editor", permit_pb2.PERMIT_MODE_EXCLUSIVE, 1)
        ]
        assert permit.fencing_tokens == {doc: seen.holders[0].fencing_token}
        assert not permit.is_lost
        permit.check()
        with pytest.raises(RuntimeError, match="used before"):
            await permit.__aenter__()
    assert is_free(await client.get_resource(doc))
    async with client.permit(doc) as again:
        assert again.fencing_tokens[doc] > permit.fencing_tokens[doc]
    with pytest.raises(RuntimeError, match="not held"):
        _ = client.permit(doc).token


async def test_several_resources_are_had_together_or_not_at_all(client: Client, doc: str) -> None:
    api, shared = f"{doc}-api", f"{doc}-shared"
    await client.set_policy(api, capacity=3)
    claims = (doc, (api, 2), Claim(shared, mode=PermitMode.SHARED))
    async with client.permit(*claims) as permit, client.permit(Claim(shared, 1, PermitMode.SHARED)):
        assert list(permit.fencing_tokens) == [doc, api, shared]
        with pytest.raises(PermitDenied) as denied:
            await client.acquire_permit((api, 2), shared, f"{doc}-free")
        reasons = [(blocker.resource, blocker.reason) for blocker in denied.value.blockers]
        assert reasons == [(api, BlockReason.CAPACITY), (shared, BlockReason.HELD)]
        assert all(blocker.retry_after for blocker in denied.value.blockers)
        assert denied.value.retry_after is not None
        assert 0 < denied.value.retry_after <= 60
        assert (denied.value.reason, denied.value.maybe_applied) == ("PERMIT_DENIED", False)
        assert f"{api} CAPACITY" in str(denied.value)
    # More than there ever is.
    with pytest.raises(interlock.InvalidArgument):
        await client.acquire_permit((api, 4))
    with pytest.raises(interlock.InvalidArgument):
        await client.acquire_permit()


async def test_two_tasks_are_never_inside_together(client: Client, other: Client, doc: str) -> None:
    inside = most = 0
    tokens: list[int] = []

    async def edit(by: Client) -> None:
        nonlocal inside, most
        for _ in range(3):
            async with by.permit(doc, wait=20) as permit:
                inside += 1
                most = max(most, inside)
                tokens.append(permit.fencing_tokens[doc])
                # Something that lets the others run.
                await by.get_resource(doc)
                inside -= 1

    await soon(asyncio.gather(*(edit((client, other)[number % 2]) for number in range(8))))
    assert (most, len(tokens)) == (1, 24)
    assert tokens == sorted(set(tokens))
    assert is_free(await client.get_resource(doc))


async def test_a_wait_that_is_over_is_a_denial(client: Client, doc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("interlock.permit_calls.LONGEST_WAIT", 0.1)
    held = await client.acquire_permit(doc)
    with pytest.raises(PermitDenied) as denied:
        await soon(client.acquire_permit(doc, wait=0.25))
    assert [blocker.reason for blocker in denied.value.blockers] == [BlockReason.HELD]
    # One that is longer than a call may wait asks again.
    waits = asyncio.ensure_future(client.acquire_permit(doc, wait=None))
    with suppress(PermitDenied):
        await soon(client.acquire_permit(doc, wait=0.25))
    assert not waits.done()
    assert await client.release_permit(held.token)
    permit = await soon(waits)
    assert await client.release_permit(permit.token)
    assert not await client.release_permit(permit.token)


async def test_an_operator_takes_a_permit_away(client: Client, doc: str) -> None:
    with pytest.raises(interlock.PermitLost):
        async with client.permit(doc, holder="stuck", ttl=2) as permit:
            token = permit.fencing_tokens[doc]
            revoked = await client.revoke_permit(doc, token, "it is stuck", requester="me")
            assert revoked.permit_count == 0
            await asyncio.sleep(30)
    (revocation,) = (await client.get_resource(doc)).revocations
    assert (revocation.requester, revocation.reason, revocation.holder) == ("me", "it is stuck", "stuck")


async def test_three_server_errors_open_a_breaker(client: Client, doc: str) -> None:
    await client.set_policy(doc, capacity=10, breaker=Breaker(failure_threshold=3, open_duration=600))
    for number in range(3):
        with pytest.raises(ServerError, match=f"HTTP 50{number}"):
            async with client.permit(doc):
                raise ServerError(f"HTTP 50{number}")
    with pytest.raises(PermitDenied) as denied:
        async with client.permit(doc):
            raise AssertionError("the body of a permit that was denied")
    (blocker,) = denied.value.blockers
    assert (blocker.resource, blocker.reason) == (doc, BlockReason.BREAKER_OPEN)
    assert blocker.retry_after is not None
    assert 500 < blocker.retry_after <= 600
    reset = await client.reset_breaker(doc, "the vendor is well again", requester="me")
    assert reset.breaker_state == permit_pb2.BREAKER_STATE_CLOSED
    assert [(it.requester, it.reason) for it in reset.resets] == [("me", "the vendor is well again")]
    async with client.permit(doc):
        pass
    # What the body did not raise: the last report counts.
    for _ in range(3):
        async with client.permit(doc) as permit:
            permit.report(FailureClass.CLIENT_ERROR)
            permit.report(FailureClass.NETWORK, latency=0.1)
    assert (await client.get_resource(doc)).breaker_state == permit_pb2.BREAKER_STATE_OPEN


async def test_a_retry_delay_of_one_holder_applies_to_all(client: Client, doc: str) -> None:
    await client.set_policy(doc, adaptive=interlock.AdaptiveLimit(max=10))
    with pytest.raises(RateLimited):
        async with client.permit(doc):
            raise RateLimited("HTTP 429", retry_after=300)
    with pytest.raises(PermitDenied) as denied:
        await client.acquire_permit(doc)
    assert denied.value.blockers[0].reason is BlockReason.RATE
    assert denied.value.retry_after is not None
    assert 200 < denied.value.retry_after <= 300


@pytest.mark.parametrize(
    ("error", "failure_class", "retry_after"),
    [
        (None, None, 0),
        (ServerError("no", retry_after=2), FailureClass.SERVER_ERROR, 2),
        (RateLimited("no", retry_after=1e9), FailureClass.RATE_LIMITED, 86_400),
        (interlock.StageError(FailureClass.CLIENT_ERROR, "no"), FailureClass.CLIENT_ERROR, 0),
        (TimeoutError(), FailureClass.TIMEOUT, 0),
        (asyncio.TimeoutError(), FailureClass.TIMEOUT, 0),
        (ConnectionResetError(), FailureClass.NETWORK, 0),
        (asyncio.CancelledError(), FailureClass.CANCELLED, 0),
        (PermitDenied((), 5), FailureClass.CANCELLED, 0),
        (KeyError("x"), FailureClass.INTERNAL, 0),
        (KeyboardInterrupt(), FailureClass.INTERNAL, 0),
    ],
)
def test_an_exception_is_an_outcome(
    error: BaseException | None, failure_class: FailureClass | None, retry_after: int
) -> None:
    outcome = outcome_of(error)
    assert (outcome.failure_class, outcome.retry_after.seconds) == (failure_class or 0, retry_after)


async def test_renewals_keep_permits_far_beyond_their_time_all_in_one_call(
    client: Client, other: Client, doc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    renew = client._keeper._renew

    async def counted(request: Any, timeout: float) -> Any:
        sizes.append(len(request.permit_tokens))
        return await renew(request, timeout)

    async def hold(number: int) -> None:
        # Shorter ones are lost where a disk or a processor is stuck for most of a second.
        async with client.permit(f"{doc}-{number}", ttl=2):
            await enough.wait()

    monkeypatch.setattr(client._keeper, "_renew", counted)
    enough = asyncio.Event()
    holding = asyncio.gather(*(hold(number) for number in range(20)))
    await until(client, f"{doc}-19", lambda it: it.permit_count == 1)
    with pytest.raises(PermitDenied):
        await soon(other.acquire_permit(f"{doc}-19", wait=5))
    enough.set()
    await soon(holding)
    assert sum(sizes) / len(sizes) > 5
    assert [it.grant_count async for it in client.list_resources(doc)] == [1] * 20


async def test_plain_calls(client: Client, doc: str) -> None:
    one = await client.acquire_permit(doc, ttl=5)
    two = await client.acquire_permit(f"{doc}-2", ttl=5)
    assert one.ttl is not None
    assert 4 < one.ttl <= 5
    assert await client.release_permit(two.token, FailureClass.RATE_LIMITED, retry_after=1, latency=0.5)
    kept, gone = await client.renew_permits([one.token, two.token], ttl=600)
    assert (kept.lost, gone.lost) == (False, True)
    assert 500 < kept.ttl.seconds <= 600
    assert await client.release_permit(one.token)
    with pytest.raises(interlock.InvalidArgument):
        await client.release_permit("no token")


async def test_whoever_stops_waiting_leaves_no_trace(
    client: Client, other: Client, doc: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = await other.acquire_permit(doc)
    waits = asyncio.ensure_future(client.acquire_permit(doc, wait=60, holder="patient", priority=7))
    await until(other, doc, lambda it: it.waiter_count == 1)
    listed = [(it.holder, it.priority, it.job_id) async for it in other.list_waiters(doc)]
    assert listed == [("patient", 7, "")]
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    await until(other, doc, lambda it: it.waiter_count == 0)
    assert [it async for it in other.list_waiters(doc)] == []
    await other.release_permit(held.token)
    await soon(client._keeper.idle())
    assert is_free(await other.get_resource(doc))

    # Nor if it was granted in the same moment.
    call = client.call

    async def cut_off(method: Any, request: Any, **options: Any) -> Any:
        monkeypatch.undo()
        await call(method, request, **options)
        raise asyncio.CancelledError

    monkeypatch.setattr(client, "call", cut_off)
    with pytest.raises(asyncio.CancelledError):
        await client.acquire_permit(doc)
    # It may have been given back already; and who gave back the first may have taken it again for that.
    assert (await other.get_resource(doc)).grant_count >= 2
    await until(other, doc, is_free)


async def test_rules_are_set_read_and_deleted(client: Client, doc: str) -> None:
    breaker = Breaker(2, 0.5, 30, 5, 2, 10, 2.0, 600, 3, 1)
    adaptive = interlock.AdaptiveLimit(8, 2, 0.5, 0.75, 1.5, learn_rate=True)
    made = await client.set_policy(
        doc,
        capacity=5,
        rates=[(5, 1.0), (300, 60.0, 10), interlock.Rate(1000, 3600)],
        min_interval=0.25,
        breaker=breaker,
        adaptive=adaptive,
        expected_version=0,
    )
    policy = (await client.get_resource(doc)).policy
    assert (made.policy, made.limit, [*made.available_tokens]) == (policy, 2, [5, 10, 1000])
    assert (policy.capacity, policy.min_interval.nanos) == (5, 250_000_000)
    assert [(it.tokens, it.period.seconds, it.burst) for it in policy.rates] == [
        *((5, 1, 5), (300, 60, 10), (1000, 3600, 1000))
    ]
    it = policy.breaker
    assert (it.failure_threshold, it.failure_ratio, it.window.seconds, it.min_calls, it.min_reporters) == (
        2,
        0.5,
        30,
        5,
        2,
    )
    assert (it.open_duration.seconds, it.open_multiplier, it.max_open_duration.seconds) == (10, 2, 600)
    assert (it.probes, it.open_limit) == (3, 1)
    learned = policy.adaptive
    assert (learned.max, learned.min, learned.increase, learned.decrease) == (8, 2, 0.5, 0.75)
    assert (learned.latency_target.ToMilliseconds(), learned.learn_rate) == (1500, True)
    with pytest.raises(interlock.VersionMismatch) as mismatch:
        await client.set_policy(doc, capacity=1, expected_version=made.version + 7)
    assert mismatch.value.actual == made.version
    with pytest.raises(interlock.InvalidArgument) as wrong:
        await client.set_policy(doc, rates=[(0, 1.0)])
    assert [violation.field for violation in wrong.value.violations] == ["policy.rates[0].tokens"]

    assert [(await client.set_policy(doc, capacity=0)).limit] == [0]
    with pytest.raises(PermitDenied):
        await client.acquire_permit(doc)
    with pytest.raises(interlock.InvalidTransition):
        await client.reset_breaker(doc)
    assert [resource.name async for resource in client.list_resources(doc)] == [doc]
    assert not (await client.set_policy(doc)).HasField("policy")
    held = await client.acquire_permit(doc)
    with pytest.raises(interlock.PreconditionFailed) as used:
        await client.delete_resource(doc)
    assert used.value.reason == "RESOURCE_IN_USE"
    await client.release_permit(held.token)
    await client.delete_resource(doc)
    with pytest.raises(interlock.NotFound) as missing:
        await client.get_resource(doc)
    assert missing.value.reason == "RESOURCE_NOT_FOUND"


async def test_a_resource_is_followed_also_over_a_kill(client: Client, database: Database, doc: str) -> None:
    with beside(database) as server:
        there = Client(server.address, backoff=interlock.Backoff(first=0.05, longest=0.2))
        async with there, there.watch_resource(doc) as watch:
            assert await soon(anext(watch)) is None
            made = await there.set_policy(doc, capacity=2)
            assert (await soon(anext(watch))) == made
            held = await there.acquire_permit(doc, holder="me")
            seen = await soon(anext(watch))
            assert seen is not None
            assert [it.holder for it in seen.holders] == ["me"]
            # An unchanged state is not delivered again.
            waits = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(server.kill)
            await client.release_permit(held.token)
            await asyncio.to_thread(server.start)
            seen = await soon(waits)
            assert seen is not None
            assert (seen.permit_count, seen.version) == (0, (await client.get_resource(doc)).version)
            # That it is not there any more, found when the stream is begun again.
            waits = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(server.kill)
            await client.delete_resource(doc)
            await asyncio.to_thread(server.start)
            assert await soon(waits) is None
