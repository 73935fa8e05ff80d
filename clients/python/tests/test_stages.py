"""Jobs and stages as dicts."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from interlock import Claim, Client, FailureClass, JobState, StageState, job_submission, permit_claims, to_struct
from interlock.v1 import common_pb2, job_pb2
from tests.fake_server import FakeServer

make: Any = job_submission


def test_every_key_of_a_stage_becomes_its_field() -> None:
    stage = {
        "name": "voice",
        "queue": "q",
        "depends_on": ("a", "b"),
        "input": {"text": "Hi"},
        "retry_policy": {
            "max_attempts": 5,
            "initial_backoff": 0.5,
            "multiplier": 3,
            "max_backoff": timedelta(minutes=1),
            "jitter": 0,
            "rules": [
                {"failure_class": "RATE_LIMITED", "retryable": True, "max_attempts": 9},
                {"failure_class": FailureClass.CLIENT_ERROR, "retryable": False},
            ],
        },
        "lease_duration": 5,
        "timeout": 60,
        "weight": 2,
        "depends_when": "ALL_FINISHED",
        "on_failure": job_pb2.STAGE_ON_FAILURE_CONTINUE,
        "group_key": "g",
        "direct": True,
        "required_by": ["z"],
        "permits": ["doc", ("api", 2), Claim("x", 3), *permit_claims("y")],
    }
    assert set(stage) == set(job_pb2.StageSpec.DESCRIPTOR.fields_by_name)
    spec = make("film", stages=[stage]).stages[0]
    assert (spec.name, spec.queue, list(spec.depends_on), list(spec.required_by)) == ("voice", "q", ["a", "b"], ["z"])
    assert spec.input == to_struct({"text": "Hi"})
    policy = spec.retry_policy
    assert (policy.max_attempts, policy.multiplier, policy.initial_backoff.ToMilliseconds()) == (5, 3, 500)
    assert (policy.max_backoff.seconds, policy.HasField("jitter")) == (60, True)
    assert policy.rules[0] == common_pb2.RetryRule(
        failure_class=common_pb2.FAILURE_CLASS_RATE_LIMITED, retryable=True, max_attempts=9
    )
    assert policy.rules[1].failure_class == common_pb2.FAILURE_CLASS_CLIENT_ERROR
    assert (spec.lease_duration.seconds, spec.timeout.seconds, spec.weight) == (5, 60, 2)
    assert spec.depends_when == job_pb2.STAGE_DEPENDS_WHEN_ALL_FINISHED
    assert (spec.on_failure, spec.group_key, spec.direct) == (job_pb2.STAGE_ON_FAILURE_CONTINUE, "g", True)
    assert [(it.resource, it.amount) for it in spec.permits] == [("doc", 1), ("api", 2), ("x", 3), ("y", 1)]


async def test_a_job_takes_policy_timeout_and_start_time(server: FakeServer) -> None:
    start = datetime(2030, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    async with Client(server.address) as client:
        await client.submit_job(
            "film",
            stages=[{"name": "a"}, job_pb2.StageSpec(name="b")],
            retry_policy={"max_attempts": 2},
            timeout=timedelta(hours=1),
            start_time=start,
        )
    request = server.of("SubmitJob")[0]
    assert [stage.name for stage in request.stages] == ["a", "b"]
    assert (request.retry_policy.max_attempts, request.timeout.seconds) == (2, 3600)
    assert request.start_time.ToJsonString() == "2030-01-01T10:00:00Z"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"stages": [{"name": "a", "depend_on": []}]}, r"stages\[0\] has the unknown key 'depend_on'; a StageSpec has"),
        ({"stages": [{"name": "a", "depends_on": "b"}]}, r"stages\[0\].depends_on is a list of texts"),
        ({"stages": [{"name": 5}]}, r"stages\[0\].name: "),
        ({"stages": [{"name": "a", "timeout": "soon"}]}, r"stages\[0\].timeout: a duration is a finite number"),
        ({"stages": [{"name": "a", "input": {"n": float("nan")}}]}, r"stages\[0\].input: n: JSON has no nan"),
        ({"stages": [{"name": "a", "on_failure": "STOP"}]}, "on_failure is one of FAIL_JOB, CONTINUE, not 'STOP'"),
        ({"stages": [{"name": "a", "permits": "doc"}]}, r"stages\[0\].permits is a list"),
        ({"stages": ["a"]}, r"stages\[0\] is a str, not a dict with the fields of a StageSpec"),
        ({"stages": {"name": "a"}}, "stages is a list"),
        ({"retry_policy": {"rules": [{"failure_class": "X"}]}}, r"retry_policy.rules\[0\].failure_class is one of"),
        ({"retry_policy": {"max_attempt": 3}}, "retry_policy has the unknown key 'max_attempt'"),
        ({"start_time": datetime(2030, 1, 1)}, "start_time has no time zone"),
        ({"start_time": 5}, "start_time is a datetime"),
    ],
)
def test_what_can_never_be_accepted_is_named(given: dict[str, Any], told: str) -> None:
    with pytest.raises((TypeError, ValueError), match=told):
        make("film", **given)


def test_enums_print_their_names() -> None:
    assert f"{FailureClass.RATE_LIMITED} {JobState(5)} {StageState.READY}" == "RATE_LIMITED SUCCEEDED READY"
    assert (JobState(99), StageState(99)) == (JobState.UNKNOWN, StageState.UNKNOWN)
    assert [it.name for it in JobState if it.is_terminal] == ["SUCCEEDED", "FAILED", "CANCELLED"]
    for enum, proto in ((JobState, job_pb2.JobState), (StageState, job_pb2.StageState)):
        numbers: Any = proto
        assert {int(it) for it in enum} == set(numbers.values())
