"""Sequences of segments for callers that do not count the states of a segment.

The server replaces an INTERIM state only by one with a higher sequence. A sequence from the clock is higher than those
of earlier states, also those that this program sent before a restart. The sequence of a FINAL state is higher than any
that a clock gives, in nanoseconds too: no INTERIM state, of whichever program, can make the server skip it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# Added to the sequences of FINAL states. A clock in nanoseconds reaches it in the year 2116.
_FINAL = 2**62


class Sequences:
    """Strictly increasing numbers: microseconds since 1970, or the previous number plus 1. Thread-safe."""

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        """`clock`: nanoseconds since 1970; it may be set back."""
        self._clock = clock
        self._last = 0
        self._lock = threading.Lock()

    def next(self, *, is_final: bool) -> int:
        """The number of the next state."""
        with self._lock:
            self._last = max(self._last + 1, self._clock() // 1_000)
            return self._last + (_FINAL if is_final else 0)


sequences = Sequences()
