"""Hints in the log for calls that wait longer than their callers expect."""

from __future__ import annotations

import logging

from interlock.connection import Connection
from interlock.errors import InterlockError
from interlock.v1 import job_service_pb2

log = logging.getLogger("interlock.client")

# Seconds of a wait after which its cause is looked for, once.
SOON = 1.5
_TIMEOUT = 1.0


async def explain_wait(client: Connection, job_id: str) -> None:
    """Logs why a job does not start; as a warning if no worker polls a queue of it, which may be misspelled."""
    try:
        request = job_service_pb2.ExplainJobRequest(job_id=job_id)
        explained = await client.call(client.jobs.ExplainJob, request, timeout=_TIMEOUT)
    except InterlockError:
        return
    if any(stage.reason == job_service_pb2.STAGE_WAIT_REASON_NO_WORKER for stage in explained.stages):
        log.warning("the job %s waits: %s Is the queue spelled as the workers have it?", job_id, explained.headline)
    else:
        log.info("the job %s waits: %s", job_id, explained.headline)
