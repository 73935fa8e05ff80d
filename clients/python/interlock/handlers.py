"""Handlers by the names of stages and the kinds of jobs, and their typed inputs."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from interlock.documents import is_typed
from interlock.failures import FailureClass, StageError
from interlock.lease import Attempt, Outcome
from interlock.typed import Misfit, from_document

Handler: TypeAlias = Callable[[Attempt], Awaitable[Outcome]] | Callable[[Attempt], Outcome]
AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

_ALL = "*"
_FORMS = (
    "a handler takes the attempt, the stage's input, the job's payload, or several of them: "
    "def speak(attempt: Attempt, input: Voice, payload: Film)"
)


def is_coroutine_function(function: Callable[..., Any]) -> bool:
    """Whether a call of the function returns a coroutine."""
    function = inspect.unwrap(function)
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


class Handlers:
    """Handlers of a worker by stage and kind. Those that name more win; a pattern ends with `*`."""

    def __init__(self) -> None:
        self._handlers: dict[tuple[str, str], Handler] = {}

    def __bool__(self) -> bool:
        return bool(self._handlers)

    def add(self, stage: str, kind: str, function: Callable[..., Any]) -> None:
        """Adds a handler for a stage and a kind.

        Raises:
            ValueError: there is one for both already.
            TypeError: the function cannot be called with an attempt.
        """
        if (stage, kind) in self._handlers:
            raise ValueError(f"there are two handlers for the stage {stage!r} of the kind {kind!r}")
        self._handlers[stage, kind] = adapted(function)

    def with_default(self, function: Callable[..., Any] | None) -> Handlers:
        """A copy with a handler for all stages that have none. None: without.

        Raises:
            ValueError: there is no handler at all, or two for all stages.
            TypeError: as `add`.
        """
        copy = Handlers()
        copy._handlers = dict(self._handlers)
        if function is not None:
            copy.add(_ALL, _ALL, function)
        if not copy:
            raise ValueError('the worker has no handler: write @worker.handler("STAGE") above one, or run(handler)')
        return copy

    def find(self, attempt: Attempt) -> Handler:
        """The handler for an attempt; if there is none for the stage, one that fails the attempt.

        The exact stage wins over patterns, longer patterns over shorter ones, then the kind.
        """
        best: tuple[tuple[int, int], Handler] | None = None
        for (stage, kind), handler in self._handlers.items():
            if (in_stage := _rank(stage, attempt.stage_name)) and (in_kind := _rank(kind, attempt.kind)):
                rank = (in_stage, in_kind)
                if best is None or rank > best[0]:
                    best = (rank, handler)
        return best[1] if best is not None else self._missing

    def _missing(self, attempt: Attempt) -> Outcome:
        # INTERNAL is retried: while a new version is rolled out, another worker may have the handler.
        raise StageError(
            FailureClass.INTERNAL,
            f"the worker has no handler for the stage {attempt.stage_name!r} of the kind {attempt.kind!r} "
            f"in the queue {attempt.queue!r}; it has handlers for {self.described()}",
            code="NO_HANDLER",
        )

    def described(self) -> str:
        """The stages and kinds that have handlers, for people."""
        return ", ".join(
            f"{'all stages' if stage == _ALL else repr(stage)}{'' if kind == _ALL else f' of the kind {kind!r}'}"
            for stage, kind in self._handlers
        )


def _rank(pattern: str, name: str) -> int:
    """How exactly a pattern names something: longer is more exact, 0: it does not."""
    if pattern.endswith(_ALL):
        return len(pattern) if name.startswith(pattern[:-1]) else 0
    # No name is as long as this.
    return 1_000 if pattern == name else 0


@dataclass(frozen=True)
class _Parameter:
    """A parameter of a handler: what it gets, and the type that it is converted to."""

    name: str
    source: str
    kind: Any
    is_keyword: bool

    def value(self, attempt: Attempt) -> Any:
        if self.source == "attempt":
            return attempt
        document = attempt.payload if self.source == "payload" else attempt.input
        if self.kind is None:
            return document
        try:
            return from_document(self.kind, document)
        except Misfit as misfit:
            what = "the job's payload" if self.source == "payload" else "the stage's input"
            raise StageError(
                FailureClass.CLIENT_ERROR, f"{what} is no {self.kind.__name__}: {misfit}", code="INPUT_MISFIT"
            ) from misfit


def adapted(function: Callable[..., Any]) -> Handler:
    """The function as a handler that takes an attempt.

    Raises:
        TypeError: its parameters say nothing that an attempt has.
    """
    if not callable(function):
        raise TypeError(f"a handler is a function, not {function!r}: {_FORMS}")
    parameters = _parameters(function)
    if not parameters or [(it.source, it.is_keyword) for it in parameters] == [("attempt", False)]:
        return function

    def arguments(attempt: Attempt) -> tuple[list[Any], dict[str, Any]]:
        values = [(it, it.value(attempt)) for it in parameters]
        return [value for it, value in values if not it.is_keyword], {it.name: v for it, v in values if it.is_keyword}

    if is_coroutine_function(function):

        async def handle(attempt: Attempt) -> Any:
            positional, named = arguments(attempt)
            return await function(*positional, **named)

        return handle

    def handle_in_thread(attempt: Attempt) -> Any:
        positional, named = arguments(attempt)
        return function(*positional, **named)

    return handle_in_thread


def _parameters(function: Callable[..., Any]) -> list[_Parameter]:
    hints = _hints(function)
    found: list[_Parameter] = []
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        source, kind = _source(name, hints.get(name), is_first=not found)
        if not source or any(it.source == source for it in found):
            if parameter.default is not parameter.empty:
                continue
            raise TypeError(f"the parameter {name!r} of {_name(function)} gets nothing from an attempt: {_FORMS}")
        found.append(_Parameter(name, source, kind, parameter.kind is parameter.KEYWORD_ONLY))
    if not found and not any(it.kind is it.VAR_POSITIONAL for it in inspect.signature(function).parameters.values()):
        raise TypeError(f"{_name(function)} takes no argument: {_FORMS}")
    return found


def _source(name: str, hint: Any, *, is_first: bool) -> tuple[str, Any]:
    """What a parameter gets, by its type and else by its name, and the type to convert to. None: a dict as it is."""
    if isinstance(hint, type) and issubclass(hint, Attempt):
        return "attempt", None
    if is_typed(hint):
        return ("payload" if name == "payload" else "input"), hint
    if name in ("input", "payload") and _is_dict(hint):
        return name, None
    return ("attempt", None) if is_first and hint in (None, Any, object) else ("", None)


def _is_dict(hint: Any) -> bool:
    origin = typing.get_origin(hint) or hint
    is_mapping = isinstance(origin, type) and issubclass(origin, Mapping)
    return hint is None or hint is Any or is_mapping or typing.is_typeddict(hint)


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    inner = inspect.unwrap(function)
    while isinstance(inner, functools.partial):
        # A routine to `inspect` from Python 3.14 on, without types of its own.
        inner = inspect.unwrap(inner.func)
    if not inspect.isroutine(inner):
        # An object with `__call__`.
        inner = type(inner).__call__
    try:
        return typing.get_type_hints(inner)
    except NameError as bad:
        parameters = list(inspect.signature(inner).parameters.values())
        if len(parameters) == 1 and str(parameters[0].annotation).rpartition(".")[2] == "Attempt":
            return {}
        # Types that are imported for type checkers only, or local ones.
        raise TypeError(
            f"a type of {_name(function)} cannot be found at run time: {bad}; define it at the top of the module, and "
            "import it outside of `if TYPE_CHECKING:`"
        ) from None


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
