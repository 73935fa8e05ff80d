"""The end of an attempt: the request for what a handler returned or raised, and its delivery.

A result that cannot be stored fails the attempt. If the server refuses an end, a reduced one is sent. A lease is left
to expire only if no server answers.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from interlock.arguments import messages
from interlock.documents import DOCUMENT_BYTES, described, is_typed, to_struct
from interlock.errors import DeadlineExceeded, InterlockError, InvalidArgument, LeaseLost, PermitDenied
from interlock.failures import FailureClass, cut, failure_of, new_failure, text_of, with_notes
from interlock.lease import Attempt, Completion, Outcome, StageStopped, StopReason
from interlock.outcomes import Outcomes
from interlock.records import commit_operations
from interlock.retry import can_be_repeated
from interlock.stages import stage_specs
from interlock.v1 import common_pb2, transaction_service_pb2, worker_service_pb2

log = logging.getLogger("interlock.worker")

# Seconds for which an outcome is retried, at least.
_TELL = 120.0
# Limits of the server: bytes of a message, and elements of lists in it.
_MESSAGE_BYTES = 4 << 20
_STAGES = 10_000
_OPERATIONS = 100


@dataclass(frozen=True)
class Raised:
    """An exception of a handler, as a value: asyncio ends its loop on some exceptions and loses others."""

    error: BaseException


def ending(attempt: Attempt, result: Outcome | Raised) -> Message | None:
    """The request that ends an attempt after its handler has ended. None: no request, because the lease is lost."""
    token = attempt.lease.lease_token
    if not isinstance(result, Raised):
        # A lost lease can still complete, unless another worker has leased the stage.
        try:
            return _complete(token, result)
        except BaseException as bad:
            message = f"what the handler returned cannot be stored: {text_of(bad)}"
            log.error("%s of %s: %s", attempt.stage_name, attempt.job_id, message)
            return _fail(token, new_failure(FailureClass.CLIENT_ERROR, message))
    error = result.error
    if attempt.stop_reason is StopReason.LOST:
        return None
    is_cancelled = isinstance(error, asyncio.CancelledError)
    if attempt.stop_reason is not None and (is_cancelled or isinstance(error, StageStopped)):
        return worker_service_pb2.ReleaseStageRequest(target=worker_service_pb2.StageTarget(lease_token=token))
    failure = new_failure(FailureClass.CANCELLED, "it cancelled itself") if is_cancelled else failure_of(error)
    level = logging.ERROR if failure.failure_class == common_pb2.FAILURE_CLASS_INTERNAL else logging.WARNING
    # No traceback for a cancellation or a denied permit: neither is a fault of the code.
    trace = None if is_cancelled or isinstance(error, PermitDenied) else error
    log.log(level, "%s of %s failed: %s", attempt.stage_name, attempt.job_id, failure.message, exc_info=trace)
    return _fail(token, failure)


async def tell(outcomes: Outcomes, attempt: Attempt, request: Message) -> None:
    """Sends the request that ends an attempt; if it is refused permanently, reports the refusal as a failure."""
    error = await _send(outcomes, attempt, request)
    if error is None:
        return
    log.error("%s of %s: its end was refused: %s", attempt.stage_name, attempt.job_id, error)
    is_wrong = isinstance(error, InvalidArgument)
    if isinstance(request, worker_service_pb2.ReleaseStageRequest):
        return
    if isinstance(request, worker_service_pb2.FailStageRequest):
        if not is_wrong:
            return
        failure = _plain(request.failure, error)
    else:
        # The artifacts are probably too large, and another attempt would not help. Refused operations beside the
        # completion may succeed in another attempt.
        failure = new_failure(
            FailureClass.CLIENT_ERROR if is_wrong else FailureClass.INTERNAL, str(error), error.reason
        )
    error = await _send(outcomes, attempt, _fail(attempt.lease.lease_token, failure))
    if error is not None:
        log.error("%s of %s: its failure was refused: %s", attempt.stage_name, attempt.job_id, error)


async def _send(outcomes: Outcomes, attempt: Attempt, request: Message) -> InterlockError | None:
    """Sends the request with retries. Returns a refusal that another end can answer. None: nothing more to send."""
    timeout = max(_TELL, attempt.renewal.expires_at - time.monotonic())
    try:
        await outcomes.send(request, timeout=timeout)
    except InterlockError as error:
        # The completion is the first operation of a commit; a later one that is refused is no loss of the lease.
        if error.metadata.get("index", "0") != "0":
            return error
        if isinstance(error, LeaseLost):
            log.warning("%s of %s: another worker has the lease", attempt.stage_name, attempt.job_id)
        elif can_be_repeated(error) or isinstance(error, DeadlineExceeded):
            # The lease expires, and the stage is attempted again.
            log.error("%s of %s: its end could not be reported: %s", attempt.stage_name, attempt.job_id, error)
        else:
            return error
    return None


def _complete(token: str, outcome: Outcome) -> Message:
    completion = outcome if isinstance(outcome, Completion) else Completion(artifacts=_artifacts(outcome))
    request = worker_service_pb2.CompleteStageRequest(
        target=worker_service_pb2.StageTarget(lease_token=token),
        artifacts=_document("artifacts", completion.artifacts),
        job_result=_document("job_result", completion.job_result),
        message=_message(completion.message),
        add_stages=stage_specs(completion.add_stages, "add_stages", most=_STAGES),
    )
    also = messages(completion.also, "also", most=_OPERATIONS - 1)
    commit = transaction_service_pb2.CommitRequest(operations=commit_operations([request, *also])) if also else None
    whole: Message = request if commit is None else commit
    # A request that is too large is found here; when sent, it looks like an unreachable server.
    size = len(whole.SerializeToString())
    if size > _MESSAGE_BYTES:
        raise ValueError(f"as a message it has {size:,} bytes, {_MESSAGE_BYTES:,} are allowed")
    return whole


def _artifacts(outcome: Any) -> Any:
    if outcome is None or isinstance(outcome, Mapping) or is_typed(type(outcome)):
        return outcome
    what = f"it is {described(outcome)}, not a mapping, a dataclass, a pydantic model, a Completion or None"
    if inspect.iscoroutine(outcome):
        outcome.close()
        what += "; give the worker the coroutine function itself"
    raise TypeError(what)


def _document(name: str, document: Any) -> Any:
    if document is None:
        return None
    try:
        return to_struct(document, limit=DOCUMENT_BYTES)
    except (TypeError, ValueError) as bad:
        raise ValueError(f"{name}: {bad}") from bad


def _message(message: Any) -> str | None:
    if not isinstance(message, str):
        raise TypeError(f"message is {described(message)}, not a text")
    return cut(message, 1024) if message else None


def _fail(token: str, failure: common_pb2.Failure) -> worker_service_pb2.FailStageRequest:
    return worker_service_pb2.FailStageRequest(
        target=worker_service_pb2.StageTarget(lease_token=token), failure=failure
    )


def _plain(failure: common_pb2.Failure, error: InterlockError) -> common_pb2.Failure:
    """A refused failure without the fields that the server can refuse."""
    plain = common_pb2.Failure(failure_class=failure.failure_class, code=failure.code, message=failure.message)
    return with_notes(plain, [f"details and retry_after were left out: {error.message}"])
