"""Checks of arguments that Python itself would accept with another meaning.

A str is a sequence of its letters, and a pair is a sequence too: without a check, one name passed in place of a list
would count as several names.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from google.protobuf.message import Message

from interlock.documents import described, shown

AnyMessage = TypeVar("AnyMessage", bound=Message)


def names(given: Iterable[str], parameter: str) -> tuple[str, ...]:
    """Checks a list of names.

    Raises:
        TypeError: it is a single str, or an element is not a str.
    """
    if isinstance(given, str):
        raise TypeError(f"{parameter} is a list of texts: write [{shown(given)}] in place of {shown(given)}")
    listed = _listed(given, parameter, '["a", "b"]')
    for index, item in enumerate(listed):
        if not isinstance(item, str):
            raise TypeError(f"{parameter}[{index}] is {described(item)}, not a text")
    return listed


def pairs(given: Iterable[Any], parameter: str, example: str) -> tuple[tuple[Any, ...], ...]:
    """Checks a list of pairs, such as collections and record ids; elements may have three members.

    Raises:
        TypeError: it is a single pair, or an element is not a pair.
    """
    listed = _listed(given, parameter, example)
    for index, item in enumerate(listed):
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise TypeError(f"{parameter} is a list of pairs, such as {example}: [{index}] is {shown(item)}")
    return tuple(tuple(item) for item in listed)


def messages(given: Iterable[AnyMessage], parameter: str, *, most: int | None = None) -> list[AnyMessage]:
    """Checks a list of messages.

    Raises:
        TypeError: it is a single message, or an element is not a message.
        ValueError: the list has more than `most` elements.
    """
    listed = items(given, parameter, "[message, message]", most=most)
    for index, item in enumerate(listed):
        if not isinstance(item, Message):
            raise TypeError(f"{parameter}[{index}] is {described(item)}, not a message of interlock.v1")
    return listed


def items(given: Iterable[Any], parameter: str, example: str, *, most: int | None = None) -> list[Any]:
    """Checks a list; the caller checks its elements.

    Raises:
        TypeError: it is a single element.
        ValueError: the list has more than `most` elements.
    """
    listed = []
    for index, item in enumerate(_iterable(given, parameter, example)):
        if most is not None and index >= most:
            raise ValueError(f"{parameter} has more than {most:,} elements")
        listed.append(item)
    return listed


def wait_seconds(given: float, parameter: str) -> float:
    """A wait in seconds; negative values become 0.

    Raises:
        ValueError: the value is not a number.
    """
    if not isinstance(given, int | float) or math.isnan(given):
        raise ValueError(f"{parameter} is a number of seconds, not {shown(given)}")
    return max(0.0, given)


def _listed(given: Iterable[Any], parameter: str, example: str) -> tuple[Any, ...]:
    return tuple(_iterable(given, parameter, example))


def _iterable(given: Any, parameter: str, example: str) -> Iterable[Any]:
    if isinstance(given, str | bytes | Mapping | Message) or not isinstance(given, Iterable):
        raise TypeError(f"{parameter} is a list, such as {example}, not {described(given)}")
    return given
