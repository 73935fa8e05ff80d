"""Between Python values and the documents (`google.protobuf.Struct`) that jobs and stages carry."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.protobuf import duration_pb2, struct_pb2

# Up to here every whole number has a double of its own.
_EXACT = 2**53


def to_struct(document: Mapping[str, Any]) -> struct_pb2.Struct:
    """The document as a message. Numbers become doubles, tuples lists.

    Raises:
        ValueError: a value is of a kind that JSON does not have, or a whole number is too large for a double.
    """
    struct = struct_pb2.Struct()
    for key, value in document.items():
        struct.fields[key].CopyFrom(to_value(value, key))
    return struct


def from_struct(struct: struct_pb2.Struct) -> dict[str, Any]:
    """The message as a document. Whole numbers come back as `int`, since a double does not say what it was."""
    return {key: from_value(value) for key, value in struct.fields.items()}


def to_duration(value: float | timedelta) -> duration_pb2.Duration:
    """Seconds, or a timedelta, as a message."""
    duration = duration_pb2.Duration()
    duration.FromTimedelta(value if isinstance(value, timedelta) else timedelta(seconds=value))
    return duration


def seconds(duration: duration_pb2.Duration) -> float:
    """The message as seconds."""
    return duration.seconds + duration.nanos / 1e9


def to_value(value: Any, path: str) -> struct_pb2.Value:
    """One value as a message; `path` is where it stands, for the error.

    Raises:
        ValueError: as `to_struct`.
    """
    match value:
        case None:
            return struct_pb2.Value(null_value=struct_pb2.NULL_VALUE)
        case bool():
            return struct_pb2.Value(bool_value=value)
        case int() if abs(value) > _EXACT:
            raise ValueError(f"{path}: {value} is too large for a number in a document; send it as text")
        case int() | float():
            return struct_pb2.Value(number_value=value)
        case str():
            return struct_pb2.Value(string_value=value)
        case Mapping():
            struct = struct_pb2.Struct()
            for key, item in value.items():
                struct.fields[key].CopyFrom(to_value(item, f"{path}.{key}"))
            return struct_pb2.Value(struct_value=struct)
        case list() | tuple():
            items = [to_value(item, f"{path}[{index}]") for index, item in enumerate(value)]
            return struct_pb2.Value(list_value=struct_pb2.ListValue(values=items))
        case _:
            raise ValueError(f"{path}: {type(value).__name__} has no place in a document")


def from_value(value: struct_pb2.Value) -> Any:
    """The message as a value; whole numbers come back as `int`."""
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return from_struct(value.struct_value)
        case "list_value":
            return [from_value(item) for item in value.list_value.values]
        case _:
            return None
