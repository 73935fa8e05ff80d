"""Detection of an outage, and one log line for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from interlock.errors import InterlockError, Unavailable

log = logging.getLogger("interlock.client")

_NO_SERVER = "another program may listen there; a server with TLS has an address with https://"
# Messages of gRPC for TLS handshakes that fail, with advice.
_ADVICE = (
    ("CERTIFICATE_VERIFY_FAILED", "check `ca` (INTERLOCK_CA), and that the server's certificate is for this name"),
    ("Hostname Verification Check failed", "the server's certificate is for another name than that of the address"),
    ("WRONG_VERSION_NUMBER", "if the server has no TLS, use an address that begins with http://"),
    ("Failed parsing HTTP/2", _NO_SERVER),
    ("before receiving SETTINGS frame", _NO_SERVER),
    ("Handshake read failed", "another program may listen there, or the server has no TLS: an address with http://"),
    ("CERTIFICATE_REQUIRED", "the server requires a client certificate: `certificate` (INTERLOCK_CERT)"),
)


class Outage:
    """State of an outage: no server answers at one address."""

    def __init__(self, address: str, until_ready: Callable[[], Awaitable[None]]) -> None:
        """Starts without an outage. `until_ready` waits until a connection stands."""
        self._address = address
        self._until_ready = until_ready
        self._since: float | None = None
        self._watching: asyncio.Task[None] | None = None

    def notice(self, error: InterlockError) -> InterlockError:
        """Returns the error of one try in the form to raise. Logs the first error of an outage."""
        if not isinstance(error, Unavailable) or error.reason:
            # A server answered, or the timeout passed.
            if error.reason:
                self.is_over()
            return error
        advice = next((f"; {advice}" for text, advice in _ADVICE if text in error.message), "")
        if self._since is None:
            self._since = time.monotonic()
            log.warning("no server answers at %s, trying again: %s%s", self._address, error.message, advice)
            # A call that waits for work would show the end only when there is some.
            self._watching = asyncio.create_task(self._watch(), name="interlock outage")
        return Unavailable(
            error.code,
            f"no server answers at {self._address}: {error.message}{advice}",
            metadata=error.metadata,
            retry_after=error.retry_after,
            retry_forbidden=error.retry_forbidden,
        )

    def is_over(self) -> None:
        """Ends the outage: a server has answered."""
        if self._since is not None:
            # As loud as its beginning.
            log.warning("a server answers at %s again, after %.1f s", self._address, time.monotonic() - self._since)
            self._since = None
            self.close()

    def close(self) -> None:
        """Stops waiting for its end."""
        if self._watching is not None and self._watching is not asyncio.current_task():
            self._watching.cancel()

    async def _watch(self) -> None:
        await self._until_ready()
        self.is_over()
