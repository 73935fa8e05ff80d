"""Rules of resources, and the watch of a resource."""

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
    """Token bucket: `tokens` are added steadily per `period`."""

    tokens: int
    period: float
    """Period in seconds."""
    burst: int | None = None
    """Size of the bucket in tokens. None: `tokens`."""


@dataclass(frozen=True)
class Breaker:
    """Circuit breaker: stops grants when calls fail. For None, `CircuitBreaker` in the protos has the defaults."""

    failure_threshold: int | None = None
    """Consecutive failures that open the breaker. None: 3."""
    failure_ratio: float | None = None
    """Share of failed calls in the window that opens it. None: no share does."""
    window: float | None = None
    """Window of the share in seconds. None: 60."""
    min_calls: int | None = None
    """Least number of calls in the window for the share to count. None: 10."""
    min_reporters: int | None = None
    """Least number of different holders that reported failures. None: 1."""
    open_duration: float | None = None
    """Open time in seconds. None: 60."""
    open_multiplier: float | None = None
    """Factor on the open time after each failed probe. None: 1."""
    max_open_duration: float | None = None
    """Longest open time in seconds. None: 1 hour."""
    probes: int | None = None
    """Permits granted as probes; the same number of successes closes the breaker. None: 1."""
    open_limit: int | None = None
    """Permits granted at a time while open: 0 or 1. None: 0."""


@dataclass(frozen=True)
class AdaptiveLimit:
    """Limit on units in use, learned from outcomes. The protos have the defaults for None."""

    max: int
    """The highest limit."""
    min: int | None = None
    """The lowest limit, and the initial one. None: 1."""
    increase: float | None = None
    """Growth of the limit after as many successes as the limit allows. None: 1."""
    decrease: float | None = None
    """Factor on the limit when calls fail or take too long. None: 0.5."""
    latency_target: float | None = None
    """Seconds above which a call takes too long. None: no call does."""
    learn_rate: bool = False
    """Whether a rate is learned as well, from the first RATE_LIMITED on."""


AnyRate: TypeAlias = tuple[int, float] | tuple[int, float, int] | Rate


def new_policy(
    *,
    capacity: int | None,
    rates: Iterable[AnyRate],
    min_interval: float | None,
    breaker: Breaker | None,
    adaptive: AdaptiveLimit | None,
) -> permit_pb2.ResourcePolicy | None:
    """The rules as a message. None: no rules."""
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
    """The iterator that `Client.watch_resource` returns."""

    def __init__(self, stream: Stream[ResourceNews]) -> None:
        self._stream = stream
        self._told: tuple[int, int] | None = None
        """Version and creation time of the last delivered state; version 0: missing. None: nothing delivered yet."""

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
            # A restarted stream first sends the current state again.
            if now != self._told:
                self._told = now
                return resource
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Ends the stream; a reader that waits for an update sees the end."""
        self._stream.close()
