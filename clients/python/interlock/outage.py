"""Whether a server answers at all, and telling it once when none does."""

from __future__ import annotations

import logging

from interlock.errors import InterlockError, Unavailable

log = logging.getLogger("interlock.client")


class Outage:
    """The time in which no server answers at one address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._is_on = False

    def notice(self, error: InterlockError) -> InterlockError:
        """The error of one try, as it is raised if no other follows; the first of an outage goes to the log."""
        if not isinstance(error, Unavailable) or error.reason:
            # A server answered, or the time was over.
            if error.reason:
                self.is_over()
            return error
        if not self._is_on:
            self._is_on = True
            log.warning("no server answers at %s, trying again: %s", self._address, error.message)
        return Unavailable(
            error.code,
            f"no server answers at {self._address}: {error.message}",
            metadata=error.metadata,
            retry_after=error.retry_after,
            retry_forbidden=error.retry_forbidden,
        )

    def is_over(self) -> None:
        """A server has answered."""
        if self._is_on:
            self._is_on = False
            log.info("a server answers at %s", self._address)
