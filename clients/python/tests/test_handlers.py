"""Handlers by name, and their typed inputs and outputs."""

from __future__ import annotations

import asyncio
import enum
import functools
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Literal, Optional

import pydantic
import pytest

from interlock import Attempt, Client, Completion, FailureClass, StageError, Worker, from_struct, to_struct
from interlock.handlers import Handlers
from interlock.typed import Misfit, from_document
from interlock.v1 import common_pb2, worker_service_pb2
from tests.fake_server import FakeServer


@asynccontextmanager
async def working(server: FakeServer, handlers: dict[str, Callable[[Attempt], Any]]) -> AsyncIterator[None]:
    """A worker with these handlers, which must stop in good order."""
    async with Client(server.address) as client:
        worker = Worker(client, ["q"], "w", concurrency=4)
        for stage, function in handlers.items():
            worker.handler(stage)(function)
        running = asyncio.create_task(worker.run(handle_signals=False))
        yield
        worker.stop()
        await asyncio.wait_for(running, 10)


class Format(enum.Enum):
    MP3 = "mp3"
    WAV = "wav"


@dataclass
class Speaker:
    name: str
    pitch: float = 1.0


@dataclass
class Voice:
    text: str
    speaker: Speaker = field(default_factory=lambda: Speaker("anna"))
    formats: list[Format] = field(default_factory=list)
    repeats: Optional[int] = None  # noqa: UP045
    quality: Literal["low", "high"] = "low"
    at: datetime | None = None


@dataclass
class Audio:
    url: str
    format: Format = Format.MP3
    parts: tuple[Speaker, ...] = ()


class Film(pydantic.BaseModel):
    title: str
    minutes: int = pydantic.Field(ge=1)


def to_document(value: Any) -> dict[str, Any]:
    return from_struct(to_struct(value))


def attempt(stage: str = "voice", kind: str = "film", **given: Any) -> Attempt:
    lease = worker_service_pb2.Lease(
        lease_token="t",
        stage_name=stage,
        kind=kind,
        queue="q",
        input=to_struct(given.get("input", {})),
        payload=to_struct(given.get("payload", {})),
    )
    return Attempt(lease, leased_at=0.0, wake=lambda: None)


def handler(name: str) -> Callable[[Attempt], Any]:
    return lambda attempt: {"by": name}


def by(handlers: Handlers, stage: str, kind: str = "film") -> Any:
    found: Any = handlers.find(attempt(stage, kind))(attempt(stage, kind))
    return found["by"]


def test_the_handler_that_names_more_wins() -> None:
    handlers = Handlers()
    for stage, kind in [("*", "*"), ("*", "film"), ("voice-*", "*"), ("voice-1*", "*"), ("voice-1", "*")]:
        handlers.add(stage, kind, handler(f"{stage} {kind}"))
    handlers.add("voice-1", "film", handler("voice-1 film"))
    assert by(handlers, "voice-1") == "voice-1 film"
    assert by(handlers, "voice-1", "podcast") == "voice-1 *"
    assert by(handlers, "voice-12") == "voice-1* *"
    assert by(handlers, "voice-2") == "voice-* *"
    assert by(handlers, "render") == "* film"
    assert by(handlers, "render", "podcast") == "* *"
    with pytest.raises(ValueError, match="two handlers for the stage 'voice-1' of the kind 'film'"):
        handlers.add("voice-1", "film", handler("again"))


def test_an_unknown_stage_fails_with_the_names_that_are_known() -> None:
    handlers = Handlers()
    handlers.add("voice", "*", handler("voice"))
    handlers.add("render", "film", handler("render"))
    with pytest.raises(StageError) as raised:
        by(handlers, "voise")
    assert (raised.value.failure_class, raised.value.code) == (FailureClass.INTERNAL, "NO_HANDLER")
    assert "no handler for the stage 'voise' of the kind 'film' in the queue 'q'" in raised.value.message
    assert "handlers for 'voice', 'render' of the kind 'film'" in raised.value.message


async def test_a_worker_dispatches_by_stage(server: FakeServer) -> None:
    async with working(server, {"stage-a": handler("a"), "stage-b": handler("b")}):
        for token in ("a", "b", "c"):
            server.offer(token)
        await server.until(lambda: len(server.of("CompleteStage")) == 2 and len(server.of("FailStage")) == 1)
    done = {it.target.lease_token: from_struct(it.artifacts) for it in server.of("CompleteStage")}
    assert done == {"a": {"by": "a"}, "b": {"by": "b"}}
    assert server.of("FailStage")[0].failure.code == "NO_HANDLER"


async def test_a_worker_without_a_handler_says_so(server: FakeServer) -> None:
    async with Client(server.address) as client:
        worker = Worker(client, ["q"])
        with pytest.raises(ValueError, match=r'write @worker\.handler\("STAGE"\)'):
            await worker.run()
        any_worker: Any = worker
        with pytest.raises(TypeError, match=r'write @worker\.handler\("STAGE"\)'):
            any_worker.handler(handler("x"))


def run(function: Callable[..., Any], **given: Any) -> Any:
    handlers = Handlers()
    handlers.add("voice", "*", function)
    found: Any = handlers.find(attempt())(attempt(**given))
    return asyncio.run(found) if asyncio.iscoroutine(found) else found


def test_parameters_get_attempt_input_and_payload() -> None:
    async def typed(given: Attempt, input: Voice, payload: Film) -> Any:
        return given.stage_name, input, payload

    def alone(voice: Voice) -> Any:
        return voice.text

    def model(film: Film) -> Any:
        return film.title

    def plain(attempt, input, payload):  # type: ignore[no-untyped-def]
        return attempt.stage_name, input, payload

    def named(*, payload: dict[str, Any], input: Voice) -> Any:
        return payload, input.text

    given = {"input": {"text": "Hi", "title": "S", "minutes": 2}, "payload": {"title": "T", "minutes": 3}}
    assert run(typed, **given) == ("voice", Voice("Hi"), Film(title="T", minutes=3))
    assert run(alone, **given) == "Hi"
    assert run(model, **given) == "S"
    assert run(plain, **given) == ("voice", given["input"], given["payload"])
    assert run(named, **given) == (given["payload"], "Hi")
    assert run(functools.partial(typed), **given)[1] == Voice("Hi")


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (lambda: None, "takes no argument"),
        (lambda attempt, other: None, "the parameter 'other' of .* gets nothing from an attempt"),
        (lambda attempt, input, again: None, "the parameter 'again'"),
        (5, "a handler is a function, not 5"),
    ],
)
def test_a_function_that_cannot_be_a_handler_is_refused(function: Any, told: str) -> None:
    with pytest.raises(TypeError, match=told):
        Handlers().add("voice", "*", function)


def test_input_that_does_not_fit_is_a_client_error_that_names_the_place() -> None:
    def voice(input: Voice) -> Any: ...

    def film(film: Film) -> Any: ...

    cases: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
        (voice, {}, "the stage's input is no Voice: text is missing"),
        (voice, {"text": 5}, "text: it is an int, not str"),
        (voice, {"text": "a", "speaker": {"pitch": 1}}, "speaker.name is missing"),
        (voice, {"text": "a", "formats": ["mp3", "ogg"]}, "formats[1]: 'ogg' is no Format"),
        (film, {"title": "a", "minutes": 0}, "minutes"),
    ]
    for function, given, told in cases:
        with pytest.raises(StageError) as raised:
            run(function, input=given)
        assert told in raised.value.message
        assert (raised.value.failure_class, raised.value.code) == (FailureClass.CLIENT_ERROR, "INPUT_MISFIT")


def test_documents_become_dataclasses_and_back() -> None:
    document = {
        "text": "Hi",
        "speaker": {"name": "bob", "pitch": 2},
        "formats": ["mp3", "wav"],
        "repeats": None,
        "quality": "high",
        "at": "2026-11-30T00:00:00Z",
        "unknown": 1,
    }
    voice = from_document(Voice, document)
    noon = datetime(2026, 11, 30, tzinfo=timezone.utc)
    assert voice == Voice("Hi", Speaker("bob", 2.0), [Format.MP3, Format.WAV], None, "high", noon)
    assert isinstance(voice.speaker.pitch, float)
    assert to_document(voice)["at"] == "2026-11-30T00:00:00+00:00"
    assert from_document(Voice, to_document(voice)) == voice
    assert to_document(Audio("x", parts=(Speaker("a"),))) == {
        "url": "x",
        "format": "mp3",
        "parts": [{"name": "a", "pitch": 1.0}],
    }
    assert to_document({"film": Film(title="a", minutes=1)}) == {"film": {"title": "a", "minutes": 1}}


@pytest.mark.parametrize(
    ("kind", "value", "made"),
    [
        (int, 5, 5),
        (float, 5, 5.0),
        (Any, [1], [1]),
        (list[int], [1, 2], [1, 2]),
        (Sequence[str], ["a"], ["a"]),
        (set[str], ["a", "a"], {"a"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (dict[str, float], {"a": 1}, {"a": 1.0}),
        (int | str, "a", "a"),
        (None, None, None),
    ],
)
def test_values_of_each_kind(kind: Any, value: Any, made: Any) -> None:
    assert from_document(kind, value) == made


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (int, True),
        (int, 1.5),
        (bool, 1),
        (str, None),
        (Literal[1], True),
        (tuple[int, int], [1]),
        (int | None, "a"),
        (list[int], {"a": 1}),
    ],
)
def test_values_of_another_kind_do_not_fit(kind: Any, value: Any) -> None:
    with pytest.raises(Misfit):
        from_document(kind, value)


async def test_typed_outputs_are_stored(server: FakeServer) -> None:
    outcomes = {
        "stage-a": lambda attempt: Audio("s3://a"),
        "stage-b": lambda attempt: Film(title="b", minutes=2),
        "stage-c": lambda attempt: Completion(Audio("s3://c"), job_result=Film(title="c", minutes=3)),
        "stage-d": lambda attempt: 5,
    }
    async with working(server, outcomes):
        for token in "abcd":
            server.offer(token)
        await server.until(lambda: len(server.of("CompleteStage")) == 3 and len(server.of("FailStage")) == 1)
    done = {it.target.lease_token: it for it in server.of("CompleteStage")}
    assert from_struct(done["a"].artifacts) == {"url": "s3://a", "format": "mp3", "parts": []}
    assert from_struct(done["b"].artifacts) == {"title": "b", "minutes": 2}
    assert from_struct(done["c"].artifacts)["url"] == "s3://c"
    assert from_struct(done["c"].job_result) == {"title": "c", "minutes": 3}
    failure = server.of("FailStage")[0].failure
    assert failure.failure_class == common_pb2.FAILURE_CLASS_CLIENT_ERROR
    assert "it is an int, not a mapping, a dataclass, a pydantic model" in failure.message


def test_pydantic_is_not_imported_by_the_package() -> None:
    program = "import sys, interlock, interlock.sync; sys.exit('pydantic' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
