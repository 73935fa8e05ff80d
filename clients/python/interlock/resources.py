"""The rules of resources, and following a resource."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from google.protobuf import duration_pb2

from interlock.arguments import pairs
from interlock.documents import to_duration
from interlock.stream import Stream, Watch
from interlock.v1 import permit_pb2, permit_service_pb2


@dataclass(frozen=True)
class Rate:
    """A token bucket: `tokens` are added in each `period`, steadily."""

    tokens: int
    period: float
    """Seconds."""
    burst: int | None = None
    """The most tokens in the bucket. None: `tokens`."""


@dataclass(frozen=True)
class Breaker:
    """When grants stop because calls fail, and how they begin again. None: as `CircuitBreaker` says in the protos."""

    failure_threshold: int | None = None
    """Failures in a row that open it. None: 3."""
    failure_ratio: float | None = None
    """The share of failed calls in the window that opens it. None: no share does."""
    window: float | None = None
    """Seconds for the share. None: 60."""
    min_calls: int | None = None
    """Calls that must be in the window before the share counts. None: 10."""
    min_reporters: int | None = None
    """How many different holders must be among those who failed. None: 1."""
    open_duration: float | None = None
    """Seconds that it stays open. None: 60."""
    open_multiplier: float | None = None
    """By what that grows each time a probe has failed. None: 1."""
    max_open_duration: float | None = None
    """The longest it stays open, in seconds. None: 1 hour."""
    probes: int | None = None
    """How many permits are given to try it; so many successes close it. None: 1."""
    open_limit: int | None = None
    """What is granted while it is open: 0 nothing, 1 one permit at a time. None: 0."""


@dataclass(frozen=True)
class AdaptiveLimit:
    """A limit on how much is in use at once, which is learned from the outcomes. None: as the protos say."""

    max: int
    """The highest limit."""
    min: int | None = None
    """The lowest, at which it begins. None: 1."""
    increase: float | None = None
    """By how much it grows in the time in which as many calls succeed as it allows. None: 1."""
    decrease: float | None = None
    """By what it is multiplied when calls fail or take too long. None: 0.5."""
    latency_target: float | None = None
    """Seconds beyond which a call takes too long. None: none does."""
    learn_rate: bool = False
    """Whether a rate is learned too, from the first RATE_LIMITED on."""


AnyRate: TypeAlias = tuple[int, float] | tuple[int, float, int] | Rate


def new_policy(
    *,
    capacity: int | None,
    rates: Iterable[AnyRate],
    min_interval: float | None,
    breaker: Breaker | None,
    adaptive: AdaptiveLimit | None,
) -> permit_pb2.ResourcePolicy | None:
    """The rules as a message. None: there are none."""
    policy = permit_pb2.ResourcePolicy(
        capacity=capacity,
        rates=[_rate(rate) for rate in _rates(rates)],
        min_interval=_duration(min_interval),
        breaker=None if breaker is None else _breaker(breaker),
        adaptive=None if adaptive is None else _adaptive(adaptive),
    )
    return policy if policy.ListFields() else None


def _rates(rates: Iterable[AnyRate]) -> list[AnyRate]:
    listed = list(rates)
    pairs((rate for rate in listed if not isinstance(rate, Rate)), "rates", "[(5, 1.0), (300, 60.0)]")
    return listed


def _rate(rate: AnyRate) -> permit_pb2.RateLimit:
    if not isinstance(rate, Rate):
        rate = Rate(*rate)
    return permit_pb2.RateLimit(tokens=rate.tokens, period=to_duration(rate.period), burst=rate.burst or 0)


def _breaker(breaker: Breaker) -> permit_pb2.CircuitBreaker:
    return permit_pb2.CircuitBreaker(
        failure_threshold=breaker.failure_threshold,
        failure_ratio=breaker.failure_ratio,
        window=_duration(breaker.window),
        min_calls=breaker.min_calls,
        min_reporters=breaker.min_reporters,
        open_duration=_duration(breaker.open_duration),
        open_multiplier=breaker.open_multiplier,
        max_open_duration=_duration(breaker.max_open_duration),
        probes=breaker.probes,
        open_limit=breaker.open_limit,
    )


def _adaptive(adaptive: AdaptiveLimit) -> permit_pb2.AdaptiveLimit:
    return permit_pb2.AdaptiveLimit(
        min=adaptive.min or 0,
        max=adaptive.max,
        increase=adaptive.increase,
        decrease=adaptive.decrease,
        latency_target=_duration(adaptive.latency_target),
        learn_rate=adaptive.learn_rate,
    )


def _duration(value: float | None) -> duration_pb2.Duration | None:
    return None if value is None else to_duration(value)


ResourceNews = permit_service_pb2.WatchResourceResponse


class ResourceWatch(Watch[permit_pb2.Resource | None]):
    """What `Client.watch_resource` returns."""

    def __init__(self, stream: Stream[ResourceNews]) -> None:
        self._stream = stream
        self._told: tuple[int, int] | None = None
        """Version and creation of what was told last; version 0: that it is not there. None: nothing was told."""

    def __aiter__(self) -> ResourceWatch:
        return self

    async def __aenter__(self) -> ResourceWatch:
        return self

    async def __anext__(self) -> permit_pb2.Resource | None:
        while (response := await self._stream.read_on()) is not None:
            self._stream.confirm()
            if response.WhichOneof("update") == "keepalive":
                continue
            resource = response.resource if response.HasField("resource") else None
            now = (0, 0) if resource is None else (resource.version, resource.create_time.ToNanoseconds())
            # A stream that was begun again tells first what is there.
            if now != self._told:
                self._told = now
                return resource
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the stream; whoever waits for news sees the end."""
        self._stream.close()
