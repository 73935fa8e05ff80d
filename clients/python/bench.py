"""What the client costs beside bare stubs: rate, and CPU of this process. Not part of the package.

python bench.py [--address HOST:PORT] [--pairs 9] [--only NAME]

Without an address it starts a server of its own, INTERLOCK_BIN. Both sides run in turn in pairs, so that what else the
machine does meets both; the result is the median of each side and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import logging
import resource
import statistics
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc

from interlock import Attempt, Client, Stage, Worker, sync
from interlock.documents import to_duration
from interlock.testing import dev_server
from interlock.v1 import admin_service_pb2, admin_service_pb2_grpc, worker_service_pb2, worker_service_pb2_grpc

REQUEST = admin_service_pb2.GetServerInfoRequest()
# Calls and stages in flight at a time.
PARALLEL = 16
# Deadline of each call, as any program sets one.
TIMEOUT = 30.0
# Calls of a round; stages of a round that end at once, and that take a while.
CALLS = 4_000
SHORT, LONG = 800, 200
# Lease of the long stages, and seconds that each takes: two heartbeats.
LEASE, TIME = 1.0, 0.8


@dataclass(frozen=True)
class Round:
    """What one round of one side used."""

    rate: float
    cpu: float


def cpu() -> float:
    """Seconds of CPU that this process has used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class Clock:
    """Measures a round of a number of units."""

    def __init__(self, units: int) -> None:
        gc.collect()
        self._units = units
        self._began = time.monotonic(), cpu()

    def end(self) -> Round:
        """The round until now."""
        took, used = time.monotonic() - self._began[0], cpu() - self._began[1]
        return Round(self._units / took, used / self._units * 1e6)


def show(name: str, unit: str, bare: list[Round], ours: list[Round]) -> None:
    """Prints the medians of both sides."""

    def median(rounds: list[Round]) -> Round:
        return Round(statistics.median(it.rate for it in rounds), statistics.median(it.cpu for it in rounds))

    stubs, client = median(bare), median(ours)
    for side, found in (("bare stubs", stubs), ("client", client)):
        print(f"{name:<16} {side:<11} {found.rate:>8.0f} {unit}/s {found.cpu:>7.0f} us of CPU per {unit[:-1]}")
    print(f"{name:<16} client / bare stubs: rate {client.rate / stubs.rate:.2f}, CPU {client.cpu / stubs.cpu:.2f}\n")


async def calls(call: Callable[[], Awaitable[object]]) -> Round:
    """Unary calls, some at a time."""

    async def some() -> None:
        for _ in range(CALLS // PARALLEL):
            await call()

    clock = Clock(CALLS)
    await asyncio.gather(*(some() for _ in range(PARALLEL)))
    return clock.end()


class Stages:
    """Stages of one queue, which one side works on."""

    def __init__(self, client: Client, count: int, seconds: float) -> None:
        self.client = client
        self.count = count
        self.seconds = seconds
        self.queue = f"q-{uuid.uuid4().hex}"
        self.lease_duration = LEASE if seconds else None

    async def submit(self) -> None:
        """Makes them ready."""
        stages = [Stage(name=f"s{number}", queue=self.queue) for number in range(self.count)]
        self.job = await self.client.submit_job("bench", stages=stages)

    async def check(self) -> None:
        """Fails if a stage was not done, or done twice."""
        job = await self.client.wait_job(self.job.job_id, 30)
        assert all(stage.attempt == 1 for stage in job.stages), "a stage was leased twice"
        assert job.stage_counts.succeeded == self.count, job.stage_counts


async def by_hand(stages: Stages, channel: grpc.aio.Channel) -> Round:
    """The loop of a worker on bare stubs: so many loops that lease one stage each, renew and complete it."""
    stub = worker_service_pb2_grpc.WorkerServiceStub(channel)
    left = stages.count
    duration = None if stages.lease_duration is None else to_duration(stages.lease_duration)

    async def renew(lease: worker_service_pb2.Lease) -> None:
        while True:
            await asyncio.sleep(lease.heartbeat_interval.ToMilliseconds() / 1e3)
            renewal = worker_service_pb2.LeaseRenewal(lease_token=lease.lease_token)
            await stub.Heartbeat(worker_service_pb2.HeartbeatRequest(renewals=[renewal]), timeout=TIMEOUT)

    async def loop(number: int) -> None:
        nonlocal left
        while left > 0:
            left -= 1
            request = worker_service_pb2.LeaseStagesRequest(
                worker_id=f"hand-{number}",
                queues=[stages.queue],
                max_stages=1,
                wait=to_duration(10),
                lease_duration=duration,
                request_id=str(uuid.uuid4()),
            )
            (lease,) = (await stub.LeaseStages(request, timeout=TIMEOUT)).leases
            renewing = asyncio.create_task(renew(lease))
            if stages.seconds:
                await asyncio.sleep(stages.seconds)
            renewing.cancel()
            target = worker_service_pb2.StageTarget(lease_token=lease.lease_token)
            completion = worker_service_pb2.CompleteStageRequest(target=target, request_id=str(uuid.uuid4()))
            await stub.CompleteStage(completion, timeout=TIMEOUT)

    await stages.submit()
    clock = Clock(stages.count)
    await asyncio.gather(*(loop(number) for number in range(PARALLEL)))
    result = clock.end()
    await stages.check()
    return result


async def by_worker(stages: Stages) -> Round:
    """The worker of the client, with as many stages in flight."""
    worker = Worker(
        stages.client, [stages.queue], concurrency=PARALLEL, lease_duration=stages.lease_duration, poll_wait=10
    )
    left = stages.count

    async def handler(attempt: Attempt) -> None:
        nonlocal left
        if stages.seconds:
            await asyncio.sleep(stages.seconds)
        left -= 1
        if left == 0:
            worker.stop()

    await stages.submit()
    clock = Clock(stages.count)
    await worker.run(handler, handle_signals=False)
    result = clock.end()
    await stages.check()
    return result


async def asynchronous(address: str, pairs: int, only: str) -> None:
    """The stubs of grpc.aio, and the client: calls, and loops of workers."""
    async with grpc.aio.insecure_channel(address) as channel, Client(address) as client:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        sides: dict[str, tuple[str, Callable[[], Awaitable[Round]], Callable[[], Awaitable[Round]]]] = {
            "calls": (
                "calls",
                lambda: calls(lambda: stub.GetServerInfo(REQUEST, timeout=TIMEOUT)),
                lambda: calls(lambda: client.call(client.admin.GetServerInfo, REQUEST)),
            ),
            "short stages": (
                "stages",
                lambda: by_hand(Stages(client, SHORT, 0), channel),
                lambda: by_worker(Stages(client, SHORT, 0)),
            ),
            "long stages": (
                "stages",
                lambda: by_hand(Stages(client, LONG, TIME), channel),
                lambda: by_worker(Stages(client, LONG, TIME)),
            ),
        }
        for name, (unit, bare, ours) in sides.items():
            if only not in name:
                continue
            found: tuple[list[Round], list[Round]] = ([], [])
            for pair in range(pairs + 1):
                # Who comes first changes; the first pair warms up.
                for side in (0, 1) if pair % 2 else (1, 0):
                    result = await (bare, ours)[side]()
                    if pair > 0:
                        found[side].append(result)
            show(name, unit, *found)


def blocking(address: str, pairs: int) -> None:
    """The blocking stubs of grpc, and the blocking client."""

    def each(call: Callable[[], object]) -> Round:
        def some(_: int) -> None:
            for _ in range(CALLS // PARALLEL):
                call()

        with ThreadPoolExecutor(PARALLEL) as pool:
            clock = Clock(CALLS)
            list(pool.map(some, range(PARALLEL)))
            return clock.end()

    with grpc.insecure_channel(address) as channel, sync.Client(address) as client:
        stub = admin_service_pb2_grpc.AdminServiceStub(channel)
        bare: list[Round] = []
        ours: list[Round] = []
        for _ in range(pairs):
            bare.append(each(lambda: stub.GetServerInfo(REQUEST, timeout=TIMEOUT)))
            ours.append(each(lambda: client.call(client.admin.GetServerInfo, REQUEST)))
        show("blocking calls", "calls", bare, ours)


@contextlib.contextmanager
def server(address: str | None) -> Iterator[str]:
    """The address that is given, or that of a server of its own."""
    if address is not None:
        yield address
        return
    with dev_server() as found:
        yield found.address


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--address")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--only", default="", help="part of the name of what is measured")
    given = parser.parse_args()
    logging.getLogger("interlock").setLevel(logging.ERROR)
    with server(given.address) as where:
        asyncio.run(asynchronous(where, given.pairs, given.only))
        if given.only in "blocking calls":
            blocking(where, given.pairs)
