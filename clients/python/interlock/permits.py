"""Permits: claims, grants and outcomes."""

from __future__ import annotations

import asyncio
import enum
from dataclasses import dataclass
from typing import TypeAlias, cast

from interlock.documents import described, seconds, to_duration
from interlock.errors import PermitDenied, PermitLost
from interlock.failures import FailureClass, failure_of
from interlock.v1 import common_pb2, permit_pb2, permit_service_pb2

# The longest `retry_after` and `latency` that the server accepts, in seconds.
_LONGEST = 86_400.0


class PermitMode(enum.IntEnum):
    """Mode in which a permit uses its resource."""

    EXCLUSIVE = permit_pb2.PERMIT_MODE_EXCLUSIVE
    """The only permit of the resource."""
    SHARED = permit_pb2.PERMIT_MODE_SHARED
    """Beside others, up to the capacity."""

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Claim:
    """A claim on one resource."""

    resource: str
    amount: int = 1
    """Units of its capacity, and tokens of its rates."""
    mode: PermitMode | None = None
    """Mode. None: EXCLUSIVE on a resource without rules (a lock), SHARED on one with rules."""


AnyClaim: TypeAlias = str | tuple[str, int] | Claim


def permit_claims(*claims: AnyClaim) -> list[permit_pb2.PermitClaim]:
    """Claims for a `StageSpec`, as in `StageSpec(name="edit", permits=permit_claims("doc-7", ("docs-api", 2)))`.

    Args:
        claims: names of resources, pairs of a name and an amount, or `Claim`.
    """
    return [_message(claim) for claim in claims]


def _message(claim: AnyClaim) -> permit_pb2.PermitClaim:
    if isinstance(claim, str):
        claim = Claim(claim)
    elif isinstance(claim, tuple):
        claim = Claim(*claim)
    elif not isinstance(claim, Claim):
        raise TypeError(
            f"a claim is a name, a pair of a name and an amount, or a Claim, not {described(claim)}; "
            'write each as an argument of its own: "doc-7", ("docs-api", 2)'
        )
    mode = cast(permit_pb2.PermitMode.ValueType, int(claim.mode or 0))
    return permit_pb2.PermitClaim(resource=claim.resource, amount=claim.amount, mode=mode)


@dataclass(frozen=True)
class Permit:
    """A granted permit."""

    token: str
    """Permit token, for `Client.renew_permits`, `Client.release_permit`, and `permit_fence` of `Client.commit`."""
    fencing_tokens: dict[str, int]
    """Fencing token by resource. Strictly increases with each grant; third parties can refuse older ones."""
    ttl: float | None
    """Seconds until it expires without a renewal. None: it ends with the lease it is bound to."""

    @classmethod
    def of(cls, permit: permit_pb2.Permit) -> Permit:
        """The permit in a message."""
        tokens = {grant.resource: grant.fencing_token for grant in permit.grants}
        return cls(permit.permit_token, tokens, seconds(permit.ttl) if permit.HasField("ttl") else None)


def permit_release(
    token: str,
    failure_class: FailureClass | None = None,
    *,
    retry_after: float | None = None,
    latency: float | None = None,
) -> permit_service_pb2.ReleasePermitRequest:
    """A request for `Client.commit` that ends a permit. Arguments are those of `Client.release_permit`."""
    outcome = new_outcome(failure_class, retry_after=retry_after, latency=latency)
    return permit_service_pb2.ReleasePermitRequest(permit_token=token, outcome=outcome)


def new_outcome(
    failure_class: FailureClass | None, *, retry_after: float | None = None, latency: float | None = None
) -> permit_pb2.PermitOutcome:
    """The outcome of the use of a permit, as a message."""
    return permit_pb2.PermitOutcome(
        failure_class=cast(common_pb2.FailureClass.ValueType, int(failure_class or 0)),
        retry_after=None if retry_after is None else to_duration(_bounded(retry_after)),
        latency=None if latency is None else to_duration(_bounded(latency)),
    )


def outcome_of(error: BaseException | None) -> permit_pb2.PermitOutcome:
    """The outcome for the exception of a body, classified as for a handler. None: success."""
    if error is None:
        return new_outcome(None)
    if isinstance(error, asyncio.CancelledError | PermitDenied | PermitLost):
        return new_outcome(FailureClass.CANCELLED)
    failure = failure_of(error)
    retry_after = seconds(failure.retry_after) if failure.HasField("retry_after") else None
    return new_outcome(FailureClass(failure.failure_class), retry_after=retry_after)


def _bounded(value: float) -> float:
    # Clamped, because a refused release would leave the resource in use.
    return min(max(value, 0.0), _LONGEST)
