"""Records and operations on their fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import empty_pb2, struct_pb2
from google.protobuf.message import Message

from interlock.documents import from_value, to_number, to_struct, to_value
from interlock.v1 import record_pb2, record_service_pb2, transaction_service_pb2


@dataclass(frozen=True)
class Record:
    """A record as of one read."""

    collection: str
    record_id: str
    fields: dict[str, Any]
    """Fields by name. Empty if the call asked for no fields."""
    version: int
    field_versions: dict[str, int]
    """The version of the record at which each field last changed."""

    @classmethod
    def of(cls, record: record_pb2.Record) -> Record:
        """The record in a message."""
        fields = {name: from_value(value) for name, value in record.fields.items()}
        return cls(record.collection, record.record_id, fields, record.version, dict(record.field_versions))


@dataclass(frozen=True)
class Field:
    """Operations on a field, as in `Field("views").increment()`; `FieldOperation` in the protos has the rules."""

    name: str
    expected_version: int | None = None
    """Required version of the field before the update; 0: the field must be missing. None: any version."""

    def set(self, value: Any) -> record_pb2.FieldOperation:
        """Sets the field to a value."""
        return self._operation(set=to_value(value, self.name))

    def unset(self) -> record_pb2.FieldOperation:
        """Removes the field."""
        return self._operation(unset=empty_pb2.Empty())

    def increment(self, by: float = 1) -> record_pb2.FieldOperation:
        """Adds to the number; a missing field counts as 0. Whole numbers add exactly or are refused."""
        return self._operation(increment=to_number(by, self.name))

    def append(self, *values: Any) -> record_pb2.FieldOperation:
        """Appends values to the list, each as one element."""
        return self._operation(append=self._list(values))

    def add_to_set(self, *values: Any) -> record_pb2.FieldOperation:
        """Appends the values that are not in the list yet."""
        return self._operation(add_to_set=self._list(values))

    def remove(self, *values: Any) -> record_pb2.FieldOperation:
        """Removes all list elements that equal one of the values."""
        return self._operation(remove=self._list(values))

    def maximum(self, bound: float) -> record_pb2.FieldOperation:
        """Raises the number to `bound` if it is lower."""
        return self._operation(maximum=to_number(bound, self.name))

    def minimum(self, bound: float) -> record_pb2.FieldOperation:
        """Lowers the number to `bound` if it is higher."""
        return self._operation(minimum=to_number(bound, self.name))

    def merge(self, patch: Mapping[str, Any]) -> record_pb2.FieldOperation:
        """Merges `patch` into the object; None removes a member."""
        return self._operation(merge=to_struct(patch))

    def _operation(self, **operation: Any) -> record_pb2.FieldOperation:
        return record_pb2.FieldOperation(field=self.name, expected_field_version=self.expected_version, **operation)

    def _list(self, values: Iterable[Any]) -> struct_pb2.ListValue:
        return struct_pb2.ListValue(values=[to_value(value, self.name) for value in values])


def record_update(
    collection: str,
    record_id: str,
    *operations: record_pb2.FieldOperation,
    expected_version: int | None = None,
    allow_missing: bool = False,
    omit_fields: bool = False,
    return_current: bool = False,
) -> record_service_pb2.UpdateRecordRequest:
    """An update for `Client.update_records`, `Client.write_records` or `Client.commit`.

    Args:
        collection: collection of the record.
        record_id: id of the record.
        operations: operations on its fields, applied in order, all or none.
        expected_version: required version of the record; 0: it must not exist. None: any version.
        allow_missing: whether a missing record is created.
        omit_fields: whether the response leaves out the fields.
        return_current: whether `VersionMismatch` has the record as `current`, so that a retry needs no read.
    """
    return record_service_pb2.UpdateRecordRequest(
        collection=collection,
        record_id=record_id,
        operations=operations,
        expected_version=expected_version,
        allow_missing=allow_missing,
        omit_fields=omit_fields,
        return_current=return_current,
    )


def commit_operations(requests: Iterable[Message]) -> Sequence[transaction_service_pb2.CommitOperation]:
    """The requests as operations of a commit, without request ids of their own.

    Raises:
        ValueError: a request of this kind cannot be part of a commit.
    """
    fields = transaction_service_pb2.CommitOperation.DESCRIPTOR.oneofs_by_name["operation"].fields
    names = {field.message_type.full_name: field.name for field in fields if field.message_type is not None}
    operations = []
    for request in requests:
        name = names.get(request.DESCRIPTOR.full_name)
        if name is None:
            raise ValueError(f"{request.DESCRIPTOR.name} cannot be part of a commit")
        operation = transaction_service_pb2.CommitOperation()
        getattr(operation, name).CopyFrom(request)
        operations.append(operation)
    return operations
