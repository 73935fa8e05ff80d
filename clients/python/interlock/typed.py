"""Typed values from documents: dataclasses, and pydantic models if the program uses them."""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, Literal, Union, get_args, get_origin

from interlock.documents import described, is_model, shown

# Containers of a document, and the types that a hint of one may name.
_LISTS = (list, tuple, set, frozenset)
_READ_ONLY = (Sequence, typing.Sequence)


class Misfit(ValueError):
    """A document does not fit a type; the message names the place."""


def from_document(kind: Any, document: Any) -> Any:
    """The document as a value of a type: a dataclass, a pydantic model, or a dict for other types.

    Dataclasses may have fields that are texts, numbers, booleans, enums by value, dates in ISO 8601, Literal, Optional,
    unions, lists, tuples, dicts, and dataclasses or models. Unknown keys are ignored, so that a producer can add some.

    Raises:
        Misfit: a value is missing or has another type.
    """
    return _value(kind, document, "")


def _value(kind: Any, value: Any, path: str) -> Any:
    origin = get_origin(kind)
    if kind is Any or isinstance(kind, typing.TypeVar):
        return value
    if kind is None or kind is type(None):
        return _checked(value is None, kind, value, path)(value)
    if origin is Union or (sys.version_info >= (3, 10) and origin is types.UnionType):
        return _union(kind, value, path)
    if origin is typing.Annotated:
        return _value(get_args(kind)[0], value, path)
    if origin is Literal:
        # By type too, because 1 == True.
        is_one = any(value == it and type(value) is type(it) for it in get_args(kind))
        return _checked(is_one, kind, value, path)(value)
    if is_model(kind):
        return _model(kind, value, path)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, path)
    if origin in _LISTS or origin in _READ_ONLY or kind in _LISTS:
        return _list(kind, value, path)
    if (isinstance(origin, type) and issubclass(origin, Mapping)) or kind in (dict, Mapping):
        return _mapping(kind, value, path)
    return _single(kind, value, path)


def _model(kind: Any, value: Any, path: str) -> Any:
    try:
        return kind.model_validate(value)
    except ValueError as bad:
        raise Misfit(f"{_at(path)}{bad}") from bad


def _dataclass(kind: Any, value: Any, path: str) -> Any:
    _checked(isinstance(value, Mapping), kind, value, path)
    hints = typing.get_type_hints(kind, include_extras=True)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        inner = f"{path}.{field.name}" if path else field.name
        if not field.init:
            continue
        if field.name in value:
            given[field.name] = _value(hints[field.name], value[field.name], inner)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise Misfit(f"{inner} is missing")
    try:
        return kind(**given)
    except (TypeError, ValueError) as bad:
        raise Misfit(f"{_at(path)}{bad}") from bad


def _list(kind: Any, value: Any, path: str) -> Any:
    _checked(isinstance(value, list), kind, value, path)
    made = get_origin(kind) or kind
    inner = get_args(kind)
    if made is tuple and inner and inner[-1] is not Ellipsis:
        _checked(len(value) == len(inner), kind, value, path)
        return tuple(
            _value(of, it, f"{path}[{index}]") for index, (of, it) in enumerate(zip(inner, value, strict=True))
        )
    of = inner[0] if inner else Any
    values = [_value(of, item, f"{path}[{index}]") for index, item in enumerate(value)]
    return made(values) if made in _LISTS else values


def _mapping(kind: Any, value: Any, path: str) -> dict[str, Any]:
    _checked(isinstance(value, Mapping), kind, value, path)
    of = (*get_args(kind), Any, Any)[1] if get_args(kind) else Any
    return {key: _value(of, item, f"{path}.{key}" if path else key) for key, item in value.items()}


def _union(kind: Any, value: Any, path: str) -> Any:
    misfits = []
    for one in get_args(kind):
        try:
            return _value(one, value, path)
        except Misfit as misfit:
            misfits.append(str(misfit))
    raise Misfit(misfits[0] if len(misfits) == 1 else f"{_at(path)}it is none of {_named(kind)}: {'; '.join(misfits)}")


def _single(kind: Any, value: Any, path: str) -> Any:
    if typing.is_typeddict(kind):
        return _checked(isinstance(value, Mapping), kind, value, path)(value)
    if kind is bool or kind is str:
        return _checked(isinstance(value, kind), kind, value, path)(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return _checked(is_number and isinstance(value, int), kind, value, path)(value)
    if kind is float:
        return _checked(is_number, kind, value, path)(float(value) if is_number else value)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _converted(kind, kind, value, path)
    if kind in (datetime, date):
        # A `Z` is read from Python 3.11 on.
        return _converted(kind, lambda text: kind.fromisoformat(text.replace("Z", "+00:00")), value, path)
    raise TypeError(f"{_at(path)}{_named(kind)} is no type that a document can be converted to")


def _converted(kind: Any, convert: Callable[[Any], Any], value: Any, path: str) -> Any:
    try:
        return convert(value)
    except (AttributeError, TypeError, ValueError):
        raise Misfit(f"{_at(path)}{shown(value)} is no {_named(kind)}") from None


def _checked(is_right: bool, kind: Any, value: Any, path: str) -> Callable[[Any], Any]:
    if not is_right:
        raise Misfit(f"{_at(path)}it is {described(value)}, not {_named(kind)}")
    return lambda same: same


def _named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not get_args(kind) else str(kind).replace("typing.", "")


def _at(path: str) -> str:
    return f"{path}: " if path else ""
