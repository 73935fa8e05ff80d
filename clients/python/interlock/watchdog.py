"""Warnings of handlers that block the event loop, or that do not stop when they have to.

The first come from a thread, while the loop is blocked: during that time no lease is renewed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection

from interlock.lease import Attempt

log = logging.getLogger("interlock.worker")

# Seconds between looks, and delays that are reported.
_LOOK = 0.25
_BLOCKED = 1.0
_STOPPED = 1.5
# Lines of the stack that the warning shows.
_FRAMES = 4


class Watchdog:
    """Watches the event loop and the running attempts of one worker, from `with` to its end."""

    def __init__(self, running: Callable[[], Collection[Attempt]]) -> None:
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._looked_at = time.monotonic()
        self._ended = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._warned: set[str] = set()
        self._thread = threading.Thread(target=self._watch, name="interlock watchdog", daemon=True)

    def __enter__(self) -> None:
        self._look()
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        """In the event loop: shows that it runs, and looks for handlers that have to stop."""
        now = self._looked_at = time.monotonic()
        running = list(self._running())
        for attempt in running:
            token = attempt.lease.lease_token
            since = attempt.stopped_at
            if since is None or attempt.is_reporting_end or now - since < _STOPPED or token in self._warned:
                continue
            self._warned.add(token)
            reason = "" if attempt.stop_reason is None else attempt.stop_reason.value
            advice = (
                "a plain function calls attempt.check()"
                if attempt.task is None
                else "it goes on after its cancellation"
            )
            text = "%s of %s still runs %.1f s after it had to stop (%s): %s"
            log.warning(text, attempt.stage_name, attempt.job_id, now - since, reason, advice)
        if not running:
            self._warned.clear()
        self._timer = self._loop.call_later(_LOOK, self._look)

    def _watch(self) -> None:
        """In a thread: warns once for each time that the loop is blocked."""
        warned_of = 0.0
        woken_at = time.monotonic()
        while not self._ended.wait(_LOOK):
            now, before = time.monotonic(), woken_at
            woken_at = now
            looked_at = self._looked_at
            # If this thread is late too, the process was stopped, or the machine is slow.
            is_late = now - before > _BLOCKED
            if is_late or not self._running() or now - looked_at < _BLOCKED or looked_at == warned_of:
                continue
            warned_of = looked_at
            frame = sys._current_frames().get(self._loop_thread)
            stack = "" if frame is None else "".join(traceback.format_stack(frame)[-_FRAMES:])
            log.warning(
                "a handler has blocked the event loop for %.1f s, and no lease is renewed meanwhile: await in place of "
                "blocking calls, or make the handler a plain function, which runs in a thread\n%s",
                now - looked_at,
                stack.rstrip(),
            )
