"""Jobs, stages and retry policies to submit, as plain dicts."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypedDict, cast

from google.protobuf import duration_pb2, struct_pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from interlock.arguments import items, names
from interlock.documents import described, shown, to_duration, to_struct
from interlock.permits import AnyClaim, permit_claims
from interlock.times import to_timestamp
from interlock.tracing import with_trace_label
from interlock.v1 import common_pb2, job_pb2, job_service_pb2

Seconds: TypeAlias = "float | timedelta"
"""A time in seconds, or a timedelta."""


class _RuleName(TypedDict):
    failure_class: str | int
    """Class of failure that the rule is for, such as "RATE_LIMITED" or `FailureClass.RATE_LIMITED`."""


class RetryRule(_RuleName, total=False):
    """Values of a retry policy that differ for one class of failure."""

    retryable: bool
    """Whether failures of this class are retried. Missing: true, but false for CLIENT_ERROR and CANCELLED."""
    max_attempts: int
    """Budget of attempts for this class alone, 1 to 100. Missing: the class shares the budget of the policy."""
    initial_backoff: Seconds
    """0 to 24 h. Missing: as in the policy."""
    multiplier: float
    """1 to 10. Missing: as in the policy."""
    max_backoff: Seconds
    """0 to 24 h, jitter not counted. Missing: as in the policy."""
    jitter: Seconds
    """0 to 1 h. Missing: as in the policy."""


class RetryPolicy(TypedDict, total=False):
    """Retry policy of failed attempts; `RetryPolicy` in the protos has the rules."""

    max_attempts: int
    """Failed attempts after which the stage fails, 1 to 100. Missing: 3."""
    initial_backoff: Seconds
    """Wait after the first failure, 0 to 24 h. Missing: 1 s, and 2 s for RATE_LIMITED."""
    multiplier: float
    """Factor from one wait to the next, 1 to 10. Missing: 2."""
    max_backoff: Seconds
    """Longest wait, 0 to 24 h, jitter not counted. Missing: 5 minutes."""
    jitter: Seconds
    """Longest random addition to a wait, 0 to 1 h. Missing: 1 s."""
    rules: Iterable[RetryRule]
    """Exceptions, at most one per class. Missing: only the built-in ones."""


AnyRetryPolicy: TypeAlias = RetryPolicy | common_pb2.RetryPolicy


class _StageName(TypedDict):
    name: str
    """Unique within the job; matches `[A-Za-z0-9._:-]{1,128}`."""


class Stage(_StageName, total=False):
    """A stage to be created."""

    queue: str
    """Queue from which workers lease it. Missing: `default`."""
    depends_on: Iterable[str]
    """Stages that it depends on. Missing: none, it can start at once."""
    input: Mapping[str, Any]
    """Input for the worker, at most 64 KiB as JSON. Missing: none."""
    retry_policy: AnyRetryPolicy
    """Retry policy. Missing: that of the job."""
    lease_duration: Seconds
    """Duration of a lease without a renewal, 1 s to 24 h. Missing: as the worker asks."""
    timeout: Seconds
    """Longest duration of one attempt, more than 0 and up to 7 days. Missing: no limit."""
    weight: float
    """Weight in the job's progress, 0 to 1,000,000. Missing: 1."""
    depends_when: str | int
    """Condition on its dependencies to become ready: "ALL_SUCCEEDED" or "ALL_FINISHED". Missing: the first."""
    on_failure: str | int
    """Effect of its final failure on the job: "FAIL_JOB" or "CONTINUE". Missing: the first."""
    group_key: str
    """Group key, at most 128 bytes: stages with the same queue and key can be leased together. Missing: none."""
    direct: bool
    """Whether it is never leased, only written by name. Missing: false."""
    required_by: Iterable[str]
    """BLOCKED stages of the job that are made to depend on this one too. Missing: none."""
    permits: Iterable[AnyClaim]
    """Permits that an attempt needs, at most 32: the stage is leased only together with them. Missing: none."""


AnyStage: TypeAlias = Stage | job_pb2.StageSpec
"""A stage as a dict with the keys of `Stage`, or as a message."""


def stage_specs(given: Iterable[AnyStage], parameter: str, *, most: int | None = None) -> list[job_pb2.StageSpec]:
    """Stages as messages.

    Raises:
        TypeError: the list or an element has another type, or a dict has an unknown key.
        ValueError: a value can never be accepted, or the list has more than `most` elements.
    """
    stages = items(given, parameter, '[{"name": "voice"}]', most=most)
    return [_message(job_pb2.StageSpec, stage, f"{parameter}[{index}]") for index, stage in enumerate(stages)]


def retry_policy(given: AnyRetryPolicy | None, parameter: str = "retry_policy") -> common_pb2.RetryPolicy | None:
    """A retry policy as a message. Errors are those of `stage_specs`."""
    return None if given is None else _message(common_pb2.RetryPolicy, given, parameter)


def job_submission(
    kind: str,
    *,
    stages: Iterable[AnyStage] = (),
    payload: Mapping[str, Any] | None = None,
    labels: Mapping[str, str] | None = None,
    job_id: str | None = None,
    priority: int = 0,
    start_time: datetime | None = None,
    retry_policy: AnyRetryPolicy | None = None,
    timeout: Seconds | None = None,
    retention: Seconds | None = None,
    request_id: str | None = None,
) -> job_service_pb2.SubmitJobRequest:
    """A request for `Client.commit` or `Completion.also` that submits a job; arguments of `Client.submit_job`."""
    return job_service_pb2.SubmitJobRequest(
        kind=kind,
        stages=stage_specs(stages, "stages"),
        payload=None if payload is None else to_struct(payload),
        labels=with_trace_label(labels, request_id),
        job_id=job_id,
        priority=priority,
        start_time=None if start_time is None else to_timestamp(start_time, "start_time"),
        retry_policy=_policy(retry_policy),
        timeout=None if timeout is None else to_duration(timeout),
        retention=None if retention is None else to_duration(retention),
        request_id=request_id,
    )


_policy = retry_policy


def _message(kind: type[Any], given: Any, path: str) -> Any:
    """A message from a dict with the names of its fields as keys; a message stays as it is."""
    if isinstance(given, kind):
        return given
    name = kind.DESCRIPTOR.name
    if not isinstance(given, Mapping):
        raise TypeError(f"{path} is {described(given)}, not a dict with the fields of a {name}, or a {name}")
    fields = kind.DESCRIPTOR.fields_by_name
    message = kind()
    for key, value in given.items():
        field = fields.get(key)
        if field is None:
            raise TypeError(f"{path} has the unknown key {shown(key)}; a {name} has {', '.join(fields)}")
        if value is not None:
            _set(message, field, value, f"{path}.{key}")
    return message


def _set(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    try:
        if field.message_type is not None:
            _set_message(message, field, value, path)
        elif field.enum_type is not None:
            setattr(message, field.name, _number(field, value, path))
        elif field.name in ("depends_on", "required_by"):
            getattr(message, field.name).extend(names(value, path))
        else:
            setattr(message, field.name, value)
    except (TypeError, ValueError) as bad:
        raise type(bad)(f"{bad}" if path in f"{bad}" else f"{path}: {bad}") from None


def _set_message(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    target = getattr(message, field.name)
    assert field.message_type is not None
    match field.message_type.full_name:
        case duration_pb2.Duration.DESCRIPTOR.full_name:
            target.CopyFrom(to_duration(value))
        case struct_pb2.Struct.DESCRIPTOR.full_name:
            target.CopyFrom(value if isinstance(value, struct_pb2.Struct) else to_struct(value))
        case "interlock.v1.PermitClaim":
            target.extend(_claims(value, path))
        case "interlock.v1.RetryRule":
            rules = items(value, path, '[{"failure_class": "NETWORK"}]')
            target.extend(_message(common_pb2.RetryRule, rule, f"{path}[{i}]") for i, rule in enumerate(rules))
        case _:
            target.CopyFrom(_message(common_pb2.RetryPolicy, value, path))


def _claims(value: Any, path: str) -> list[Any]:
    claims = items(value, path, '["doc-7", ("docs-api", 2)]')
    return [claim if isinstance(claim, Message) else permit_claims(cast(AnyClaim, claim))[0] for claim in claims]


def _number(field: FieldDescriptor, value: Any, path: str) -> int:
    """The number of an enum value that is given by its short name, or as a number."""
    assert field.enum_type is not None
    values = field.enum_type.values_by_number
    prefix = values[0].name.removesuffix("UNSPECIFIED")
    short = {it.name.removeprefix(prefix): number for number, it in values.items() if number}
    if isinstance(value, str) and value.removeprefix(prefix) in short:
        return short[value.removeprefix(prefix)]
    if isinstance(value, int) and not isinstance(value, bool) and value in short.values():
        return int(value)
    shown_value = value.name if isinstance(value, enum.Enum) else shown(value)
    raise ValueError(f"{path} is one of {', '.join(short)}, not {shown_value}")
