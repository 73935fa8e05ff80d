"""Calls for permits and resources."""

from __future__ import annotations

import asyncio
import os
import socket
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import timedelta
from functools import cached_property

from interlock.arguments import names, wait_seconds
from interlock.connection import LONGEST_WAIT, PATIENCE, SILENCE, WAIT_MARGIN, Connection
from interlock.documents import to_duration
from interlock.errors import InterlockError, PermitDenied
from interlock.failures import FailureClass, cut
from interlock.holding import HeldPermit, Keeper
from interlock.permits import AnyClaim, Permit, new_outcome, permit_claims
from interlock.resources import AdaptiveLimit, AnyRate, Breaker, ResourceNews, ResourceWatch, new_policy
from interlock.stream import Call
from interlock.tracing import with_trace
from interlock.v1 import permit_pb2, permit_service_pb2

# Timeout in seconds of the call that finds out whether an abandoned request was granted: short, because the request may
# still wait in line.
_GIVE_BACK = 0.5


class PermitCalls(Connection):
    """Methods of `Client` for permits and resources."""

    def permit(
        self,
        *claims: AnyClaim,
        wait: float | None = 0.0,
        ttl: float | timedelta | None = None,
        holder: str | None = None,
        priority: int = 0,
        lease_token: str | None = None,
    ) -> HeldPermit:
        """Holds a permit for one or several resources while a body runs: a lock, a limit, a rate, a breaker.

        As in `async with client.permit("doc-7", ("docs-api", 2), wait=30) as permit:`. The permit is renewed in the
        background and released with the outcome of the body. If it is lost, the body is cancelled; see `HeldPermit`.

        Arguments and errors are those of `acquire_permit`, and:

        Raises:
            PermitLost: the permit was lost before the body ended. An exception of the body takes precedence.
        """

        async def acquire() -> Permit:
            return await self.acquire_permit(
                *claims, wait=wait, ttl=ttl, holder=holder, priority=priority, lease_token=lease_token
            )

        return HeldPermit(acquire, self._release, self._keeper)

    async def acquire_permit(
        self,
        *claims: AnyClaim,
        wait: float | None = 0.0,
        ttl: float | timedelta | None = None,
        holder: str | None = None,
        priority: int = 0,
        lease_token: str | None = None,
    ) -> Permit:
        """Acquires a permit that the caller renews and releases; `permit` does both by itself.

        Waiters are served by priority, then in order of arrival, across servers. A wait of more than 50 s is made of
        several calls, and each call starts at the end of the line.

        Args:
            claims: resources, granted all or none: names, pairs of a name and an amount, or `Claim`.
            wait: seconds to wait in line. None: no limit.
            ttl: time to live without a renewal. None: 60 s, or the rest of the lease if `lease_token` is set.
            holder: name of the caller, for people and for the `min_reporters` of breakers. None: host and process id.
            priority: -1,000 to 1,000; higher is served first.
            lease_token: lease that the permit is bound to, such as `attempt.lease.lease_token`: the permit ends with
                the lease at the latest. Empty: InvalidArgument. None: no lease.

        Raises:
            PermitDenied: the permit was not granted within the wait.
            LeaseLost: the lease is not held.
            InterlockError: as any call; InvalidArgument also for an amount that can never be granted.
        """
        deadline = None if wait is None else time.monotonic() + wait_seconds(wait, "wait")
        if holder is None:
            holder = _host_and_process() if lease_token is None else ""
        while True:
            left = LONGEST_WAIT if deadline is None else max(0.0, deadline - time.monotonic())
            request = permit_service_pb2.AcquirePermitRequest(
                claims=permit_claims(*claims),
                ttl=None if ttl is None else to_duration(ttl),
                wait=to_duration(min(left, LONGEST_WAIT)),
                holder=holder,
                priority=priority,
                lease_token=lease_token,
                request_id=str(uuid.uuid4()),
            )
            timeout = min(left, LONGEST_WAIT) + max(WAIT_MARGIN, self.timeout)
            try:
                response = await self.call(self.permits.AcquirePermit, request, timeout=timeout)
            except (asyncio.CancelledError, InterlockError) as error:
                if isinstance(error, asyncio.CancelledError) or error.maybe_applied:
                    self._keeper.begin(self._give_back(request))
                raise
            if response.HasField("permit"):
                return Permit.of(response.permit)
            if deadline is not None and time.monotonic() >= deadline:
                raise PermitDenied.of(response.denial)

    async def renew_permits(
        self, tokens: Iterable[str], ttl: float | timedelta | None = None
    ) -> list[permit_service_pb2.PermitStatus]:
        """Renews up to 1,000 permits and returns a status for each. A lost permit is not an error.

        Args:
            tokens: permit tokens.
            ttl: new time to live of each permit. None: the one it was acquired with.
        """
        request = permit_service_pb2.RenewPermitsRequest(
            permit_tokens=names(tokens, "tokens"), ttl=None if ttl is None else to_duration(ttl)
        )
        return list((await self.call(self.permits.RenewPermits, request)).statuses)

    async def release_permit(
        self,
        token: str,
        failure_class: FailureClass | None = None,
        *,
        retry_after: float | None = None,
        latency: float | None = None,
    ) -> bool:
        """Ends a permit and reports its outcome; returns whether this call ended it.

        Args:
            token: permit token.
            failure_class: class of the failure. None: success.
            retry_after: seconds that the called service asked to wait. None: not known.
            latency: seconds that the use took. None: the time from grant to release.

        Raises:
            PermitLost: the permit expired or was revoked. A permit that was released before is not an error.
        """
        return await self._release(token, new_outcome(failure_class, retry_after=retry_after, latency=latency))

    async def set_policy(
        self,
        name: str,
        *,
        capacity: int | None = None,
        rates: Iterable[AnyRate] = (),
        min_interval: float | None = None,
        breaker: Breaker | None = None,
        adaptive: AdaptiveLimit | None = None,
        expected_version: int | None = None,
    ) -> permit_pb2.Resource:
        """Replaces all rules of a resource; held permits stay valid.

        As in `client.set_policy("docs-api", capacity=5, rates=[(5, 1.0), (300, 60.0)], min_interval=0.5,
        breaker=Breaker())`. All rules apply together. A resource without rules is a lock.

        Args:
            name: name of the resource, which need not exist yet.
            capacity: most units in use at once; 0 grants nothing. None: no limit, or that of `adaptive`.
            rates: at most 8 tuples of tokens, seconds and an optional burst, or `Rate`.
            min_interval: shortest time between two grants, in seconds. None: 0.
            breaker: rules to stop granting when calls fail. None: no breaker.
            adaptive: limit learned from the outcomes, at most `capacity` if both are set. None: no learned limit.
            expected_version: required version of the resource; 0: it must not exist. None: any version.

        Raises:
            VersionMismatch: the resource has another version.
        """
        request = permit_service_pb2.UpdateResourceRequest(
            name=name,
            policy=new_policy(
                capacity=capacity, rates=rates, min_interval=min_interval, breaker=breaker, adaptive=adaptive
            ),
            expected_version=expected_version,
        )
        return (await self.call(self.permits.UpdateResource, request)).resource

    async def get_resource(self, name: str) -> permit_pb2.Resource:
        """Reads a resource with its holders. Raises `NotFound` if it was never used and has no rules."""
        return (await self.call(self.permits.GetResource, permit_service_pb2.GetResourceRequest(name=name))).resource

    async def list_resources(self, name_prefix: str = "") -> AsyncIterator[permit_pb2.Resource]:
        """Iterates over resources by name prefix, in order of name, without holders, page by page."""
        request = permit_service_pb2.ListResourcesRequest(name_prefix=name_prefix, page_size=1_000)
        async for page in self._pages(self.permits.ListResources, request):
            for resource in page.resources:
                yield resource

    async def list_waiters(self, name: str) -> AsyncIterator[permit_service_pb2.PermitWaiter]:
        """Iterates over callers and stages that wait for a permit of a resource, page by page.

        In order of priority, the highest first, then of time. Raises `NotFound` if the resource was never used and has
        no rules.
        """
        request = permit_service_pb2.ListWaitersRequest(name=name, page_size=1_000)
        async for page in self._pages(self.permits.ListWaiters, request):
            for waiter in page.waiters:
                yield waiter

    async def delete_resource(self, name: str, *, expected_version: int | None = None) -> None:
        """Deletes a resource that is not in use."""
        request = permit_service_pb2.DeleteResourceRequest(name=name, expected_version=expected_version)
        await self.call(self.permits.DeleteResource, request)

    def watch_resource(
        self,
        name: str,
        *,
        silence: float = SILENCE,
        patience: float | None = PATIENCE,
    ) -> ResourceWatch:
        """Follows a resource with its holders: current state, then each later state. None: it does not exist.

        Several changes may be merged; the last state is always delivered, also after a stream breaks and is restarted
        on any server. Renewals are not changes. The watch does not end by itself.

        Args:
            name: name of the resource, which need not exist yet.
            silence: as in `watch`.
            patience: as in `watch`.

        Raises:
            InterlockError: resuming failed for `patience` seconds, or the error is permanent. Raised by the iterator.
        """

        def begin() -> Call[ResourceNews]:
            request = permit_service_pb2.WatchResourceRequest(name=name)
            return self.permits.WatchResource(request, metadata=with_trace(self._metadata))

        return ResourceWatch(self._stream(begin, silence=silence, patience=patience))

    async def reset_breaker(self, name: str, reason: str = "", *, requester: str | None = None) -> permit_pb2.Resource:
        """Closes the breaker of a resource and resets its counts.

        Args:
            name: name of the resource.
            reason: reason, for the audit log.
            requester: name of the caller, for the audit log. None: host and process id.

        Raises:
            NotFound: the resource does not exist.
            InvalidTransition: the resource has no breaker.
        """
        request = permit_service_pb2.ResetBreakerRequest(
            name=name, reason=reason, requester=_host_and_process() if requester is None else requester
        )
        return (await self.call(self.permits.ResetBreaker, request)).resource

    async def revoke_permit(
        self, resource: str, fencing_token: int, reason: str = "", *, requester: str | None = None
    ) -> permit_pb2.Resource:
        """Revokes a permit at all of its resources; waiters are served at once.

        The holder gets `PermitLost`, as after an expiry. If the permit is not held any more, nothing changes.

        Args:
            resource: name of one of its resources.
            fencing_token: fencing token of the permit at that resource, as in `Resource.holders`.
            reason: reason, for the audit log.
            requester: name of the caller, for the audit log. None: host and process id.

        Raises:
            NotFound: the resource does not exist.
            InvalidArgument: the resource has never granted this token.
            InvalidTransition: the permit belongs to an attempt of a stage, and ends with it.
        """
        request = permit_service_pb2.RevokePermitRequest(
            resource=resource,
            fencing_token=fencing_token,
            reason=reason,
            requester=_host_and_process() if requester is None else requester,
        )
        return (await self.call(self.permits.RevokePermit, request)).resource

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled, and held permits expire."""
        await self._keeper.close()
        await super().close()

    @cached_property
    def _keeper(self) -> Keeper:
        return Keeper(self._renew)

    async def _renew(
        self, request: permit_service_pb2.RenewPermitsRequest, timeout: float
    ) -> permit_service_pb2.RenewPermitsResponse:
        return await self.call(self.permits.RenewPermits, request, timeout=timeout)

    async def _release(self, token: str, outcome: permit_pb2.PermitOutcome) -> bool:
        request = permit_service_pb2.ReleasePermitRequest(permit_token=token, outcome=outcome)
        with self._keeper.ending([token]):
            return (await self.call(self.permits.ReleasePermit, request)).applied

    async def _give_back(self, request: permit_service_pb2.AcquirePermitRequest) -> None:
        """Ends an abandoned request. A repeat of the call returns the permit if it was granted."""
        with suppress(InterlockError):
            response = await self.call(self.permits.AcquirePermit, request, timeout=_GIVE_BACK)
            if response.HasField("permit"):
                await self.release_permit(response.permit.permit_token, FailureClass.CANCELLED)


def _host_and_process() -> str:
    return cut(f"{socket.gethostname()}:{os.getpid()}", 128)
