"""The blocking `HeldPermit`."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable
from types import TracebackType

import interlock
from interlock.blocking import Loop


class HeldPermit:
    """The permit that `Client.permit` returns, held in the body of one `with`.

    A thread cannot be cancelled: a long body calls `check`. If the permit was lost, the end of the `with` raises
    `PermitLost`, unless the body has raised.
    """

    def __init__(self, loop: Loop, make: Callable[[], interlock.HeldPermit]) -> None:
        """Called by the client."""
        self._loop = loop
        self._make = make
        self._permit: interlock.HeldPermit | None = None
        self._holding: concurrent.futures.Future[None] | None = None
        self._end: asyncio.Future[BaseException | None]

    @property
    def token(self) -> str:
        """Permit token, such as for `permit_fence` of `Client.commit`."""
        return self._held.token

    @property
    def fencing_tokens(self) -> dict[str, int]:
        """Fencing token by resource. Strictly increases with each grant; third parties can refuse older ones."""
        return self._held.fencing_tokens

    @property
    def is_lost(self) -> bool:
        """Whether another holder may have the permit."""
        return self._held.is_lost

    def check(self) -> None:
        """Raises if the permit is lost.

        Raises:
            PermitLost: the body has to stop.
        """
        self._held.check()

    def report(
        self,
        failure_class: interlock.FailureClass | None = None,
        *,
        retry_after: float | None = None,
        latency: float | None = None,
    ) -> None:
        """Sets the outcome of the use; arguments are those of `interlock.HeldPermit.report`."""
        self._held.report(failure_class, retry_after=retry_after, latency=latency)

    def __enter__(self) -> HeldPermit:
        if self._holding is not None:
            raise RuntimeError("this permit was used before; ask the client for another one")
        acquired: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._holding = self._loop.start(self._hold(acquired))
        # An acquisition that fails ends the task.
        concurrent.futures.wait((acquired, self._holding), return_when=concurrent.futures.FIRST_COMPLETED)
        if not acquired.done():
            self._holding.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._holding is not None
        self._loop.loop.call_soon_threadsafe(self._ended, error)
        try:
            self._holding.result()
        except BaseException as raised:
            if error is None:
                raise
            if raised is not error:
                raise error from raised

    def _ended(self, error: BaseException | None) -> None:
        if not self._end.done():
            self._end.set_result(error)

    async def _hold(self, acquired: concurrent.futures.Future[None]) -> None:
        """Holds the permit in the event loop until the body has ended."""
        self._end = asyncio.get_running_loop().create_future()
        async with self._make() as self._permit:
            acquired.set_result(None)
            # A loss cancels this task, and the end of the `with` tells.
            error = await self._end
            if error is not None:
                raise error

    @property
    def _held(self) -> interlock.HeldPermit:
        if self._permit is None:
            raise RuntimeError("the permit is not held: use it with `with`")
        return self._permit
