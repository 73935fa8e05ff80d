"""Detection of an outage, and one log line for it."""

from __future__ import annotations

import logging

from interlock.errors import InterlockError, Unavailable

log = logging.getLogger("interlock.client")

# Messages of gRPC for TLS handshakes that fail, with advice.
_ADVICE = (
    ("CERTIFICATE_VERIFY_FAILED", "check `ca` (INTERLOCK_CA), and that the server's certificate is for this name"),
    ("Hostname Verification Check failed", "the server's certificate is for another name than that of the address"),
    ("WRONG_VERSION_NUMBER", "if the server has no TLS, use an address that begins with http://"),
    ("CERTIFICATE_REQUIRED", "the server requires a client certificate: `certificate` (INTERLOCK_CERT)"),
)


class Outage:
    """State of an outage: no server answers at one address."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._is_on = False

    def notice(self, error: InterlockError) -> InterlockError:
        """Returns the error of one try in the form to raise. Logs the first error of an outage."""
        if not isinstance(error, Unavailable) or error.reason:
            # A server answered, or the timeout passed.
            if error.reason:
                self.is_over()
            return error
        advice = next((f"; {advice}" for told, advice in _ADVICE if told in error.message), "")
        if not self._is_on:
            self._is_on = True
            log.warning("no server answers at %s, trying again: %s%s", self._address, error.message, advice)
        return Unavailable(
            error.code,
            f"no server answers at {self._address}: {error.message}{advice}",
            metadata=error.metadata,
            retry_after=error.retry_after,
            retry_forbidden=error.retry_forbidden,
        )

    def is_over(self) -> None:
        """Ends the outage: a server has answered."""
        if self._is_on:
            self._is_on = False
            log.info("a server answers at %s", self._address)
