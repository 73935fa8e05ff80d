"""What callers give to this package, checked where Python itself would take it for something else.

A text is a sequence of texts, its letters, and a pair is a sequence too: what was meant as one name would be taken as
several, and no error would come.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from interlock.documents import described, shown

AnyMessage = TypeVar("AnyMessage", bound=Message)


def names(given: Iterable[str], parameter: str) -> tuple[str, ...]:
    """Several names.

    Raises:
        TypeError: it is one text, or not all are texts.
    """
    if isinstance(given, str):
        raise TypeError(f"{parameter} is a list of texts: write [{shown(given)}] in place of {shown(given)}")
    listed = _listed(given, parameter, '["a", "b"]')
    for index, item in enumerate(listed):
        if not isinstance(item, str):
            raise TypeError(f"{parameter}[{index}] is {described(item)}, not a text")
    return listed


def pairs(given: Iterable[Any], parameter: str, example: str) -> tuple[tuple[Any, ...], ...]:
    """Several pairs, such as names of records; three of a kind are pairs too.

    Raises:
        TypeError: it is one pair, or not all are pairs.
    """
    listed = _listed(given, parameter, example)
    for index, item in enumerate(listed):
        if not isinstance(item, tuple | list) or len(item) < 2:
            raise TypeError(f"{parameter} is a list of pairs, such as {example}: [{index}] is {shown(item)}")
    return tuple(tuple(item) for item in listed)


def messages(given: Iterable[AnyMessage], parameter: str, *, most: int | None = None) -> list[AnyMessage]:
    """Several messages.

    Raises:
        TypeError: it is one message, or not all are messages.
        ValueError: there are more than `most`.
    """
    listed: list[AnyMessage] = []
    for index, item in enumerate(_iterable(given, parameter, "[message, message]")):
        if not isinstance(item, Message):
            raise TypeError(f"{parameter}[{index}] is {described(item)}, not a message of interlock.v1")
        if most is not None and index >= most:
            raise ValueError(f"{parameter} has more than {most:,} messages")
        listed.append(cast(AnyMessage, item))
    return listed


def wait_seconds(given: float, parameter: str) -> float:
    """How long to wait; less than 0 is 0.

    Raises:
        ValueError: it is no number.
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
