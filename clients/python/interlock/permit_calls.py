"""The calls of those who use permits, and of those who set the rules."""

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

# The deadline of the call that finds out whether a wish that was given up had been granted: short, since
# it may wait in line.
_GIVE_BACK = 0.5


class PermitCalls(Connection):
    """What `Client` can do with permits and resources."""

    def permit(
        self,
        *claims: AnyClaim,
        wait: float | None = 0.0,
        ttl: float | timedelta | None = None,
        holder: str | None = None,
        priority: int = 0,
        lease_token: str | None = None,
    ) -> HeldPermit:
        """The right to use a resource, or several together, while a body runs: a lock, a limit, a rate, a breaker.

        As in `async with client.permit("doc-7", ("docs-api", 2), wait=30) as permit:`. The permit is renewed by itself,
        the body is cancelled if it is lost, and it is released with what came of the body; see `HeldPermit`.

        Arguments and errors are those of `acquire_permit`, and:

        Raises:
            PermitLost: the permit was lost before the body had ended. An exception of the body goes before.
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
        """Acquires a permit that nobody renews and releases but you; `permit` does both.

        Who waits is served by priority, then in order, across servers. A wait of more than 50 s is made of several
        calls: whoever waits longer asks again every 50 s, and is then behind all who came meanwhile.

        Args:
            claims: the resources, all or none: names, pairs of a name and an amount, or `Claim`.
            wait: how many seconds to wait in line. None: without limit.
            ttl: how long it lasts without being renewed. None: 60 s; with `lease_token`: as long as the lease.
            holder: who asks, for people and for breakers that want several reporters. None: host and process id.
            priority: higher is served first.
            lease_token: binds it to this lease, such as `attempt.lease.lease_token`: it ends with it at the latest.
                Empty: InvalidArgument. None: it stands for itself.

        Raises:
            PermitDenied: it could not be had while there was time to wait.
            LeaseLost: the lease is not held.
            InterlockError: as any call; InvalidArgument also for an amount that could never be had.
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
        """Renews up to 1,000 permits. There is a status for each: a lost one is no error.

        Args:
            tokens: which.
            ttl: how long each lasts from now on. None: as it was acquired for.
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
        """Ends a permit and says what came of its use; whether this call has ended it.

        Args:
            token: which.
            failure_class: how the use failed. None: it succeeded.
            retry_after: how many seconds the called service asked to wait.
            latency: how many seconds the use took. None: from the grant to the release.

        Raises:
            PermitLost: the permit had expired or was revoked. One that was released before is no error.
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
        """Sets all rules of a resource, in place of those it had; permits that are held stay.

        As in `client.set_policy("docs-api", capacity=5, rates=[(5, 1.0), (300, 60.0)], min_interval=0.5,
        breaker=Breaker())`. All rules hold together. A resource without any is a lock.

        Args:
            name: the resource, which need not be there yet.
            capacity: how much may be in use at once; 0 grants nothing. None: no limit, or that of `adaptive`.
            rates: pairs of tokens and seconds, at most 8, with a burst as the third, or `Rate`.
            min_interval: the shortest time between two grants, in seconds.
            breaker: stops granting when calls fail. None: never.
            adaptive: a limit that is learned from the outcomes; at most `capacity`, where that is set too.
            expected_version: only if the resource has this version; 0: only if it is not there. None: whatever it has.

        Raises:
            VersionMismatch: it has another one.
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
        """Reads a resource with its holders. `NotFound` if it was never used and has no rules."""
        return (await self.call(self.permits.GetResource, permit_service_pb2.GetResourceRequest(name=name))).resource

    async def list_resources(self, name_prefix: str = "") -> AsyncIterator[permit_pb2.Resource]:
        """All resources whose names begin like this, by name and without their holders, page after page."""
        request = permit_service_pb2.ListResourcesRequest(name_prefix=name_prefix, page_size=1_000)
        while True:
            page = await self.call(self.permits.ListResources, request)
            for resource in page.resources:
                yield resource
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def delete_resource(self, name: str, *, expected_version: int | None = None) -> None:
        """Deletes a resource that nobody uses."""
        request = permit_service_pb2.DeleteResourceRequest(name=name, expected_version=expected_version)
        await self.call(self.permits.DeleteResource, request)

    def watch_resource(
        self,
        name: str,
        *,
        silence: float = SILENCE,
        patience: float | None = PATIENCE,
    ) -> ResourceWatch:
        """Follows a resource: as it is, with its holders, and after each change; None when it is not there.

        Several changes can be told as one; the last always comes, also when a stream breaks and is begun again, on any
        server. Renewals are no changes. It has no end of its own.

        Args:
            name: the resource, which need not be there yet.
            silence: as in `watch`.
            patience: as in `watch`.

        Raises:
            InterlockError: it failed for longer than `patience`, or for good. Raised by the iterator.
        """

        def begin() -> Call[ResourceNews]:
            request = permit_service_pb2.WatchResourceRequest(name=name)
            return self.permits.WatchResource(request, metadata=with_trace(self._metadata))

        return ResourceWatch(self._stream(begin, silence=silence, patience=patience))

    async def reset_breaker(self, name: str, reason: str = "", *, requester: str | None = None) -> permit_pb2.Resource:
        """Closes the breaker of a resource by hand, and forgets what it has counted.

        Args:
            name: the resource.
            reason: why, for the record.
            requester: who, for the record. None: host and process id.

        Raises:
            NotFound: there is no such resource.
            InvalidTransition: it has no breaker.
        """
        request = permit_service_pb2.ResetBreakerRequest(
            name=name, reason=reason, requester=_host_and_process() if requester is None else requester
        )
        return (await self.call(self.permits.ResetBreaker, request)).resource

    async def revoke_permit(
        self, resource: str, fencing_token: int, reason: str = "", *, requester: str | None = None
    ) -> permit_pb2.Resource:
        """Takes a permit from its holder, at all of its resources; callers that wait are served at once.

        Its holder learns it as from an expiry: `PermitLost`. A permit that is not held any more changes nothing.

        Args:
            resource: one of its resources.
            fencing_token: the permit's token there, as `Resource.holders` tells it.
            reason: why, for the record.
            requester: who, for the record. None: host and process id.

        Raises:
            NotFound: there is no such resource.
            InvalidArgument: the resource never granted this token.
            InvalidTransition: the permit came with the attempt of a stage, and ends with it.
        """
        request = permit_service_pb2.RevokePermitRequest(
            resource=resource,
            fencing_token=fencing_token,
            reason=reason,
            requester=_host_and_process() if requester is None else requester,
        )
        return (await self.call(self.permits.RevokePermit, request)).resource

    async def close(self) -> None:
        """Ends the connection; calls that are under way are cancelled, and permits that are held expire."""
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
        """Ends a wish that nobody waits for any more. The same call again tells the permit, had it been granted."""
        with suppress(InterlockError):
            response = await self.call(self.permits.AcquirePermit, request, timeout=_GIVE_BACK)
            if response.HasField("permit"):
                await self.release_permit(response.permit.permit_token, FailureClass.CANCELLED)


def _host_and_process() -> str:
    return cut(f"{socket.gethostname()}:{os.getpid()}", 128)
