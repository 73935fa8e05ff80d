"""Segments without a server: sequences, conversions, and errors that name segment and field."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from interlock import Content, Segment, SegmentKind, SegmentStatus, Word, segments_append
from interlock.segment_arguments import segment_update
from interlock.sequences import Sequences
from interlock.v1 import timeline_pb2

INTERIM = SegmentStatus.INTERIM


def sequence(segment: Segment) -> int:
    return segment.to_message().sequence


def test_sequences_grow_also_when_the_clock_is_set_back() -> None:
    times = iter([5_000_000, 5_000_000, 1_000, 9_000_000])
    sequences = Sequences(lambda: next(times))
    assert [sequences.next(is_final=False) for _ in range(4)] == [5_000, 5_001, 5_002, 9_000]


def test_the_sequence_of_a_final_state_is_above_all_interim_ones() -> None:
    # Those of a program that counts nanoseconds in 2100 too.
    year_2100 = int(datetime(2100, 1, 1, tzinfo=timezone.utc).timestamp()) * 10**9
    interim = Sequences(lambda: year_2100 * 1_000).next(is_final=False)
    final = Sequences(lambda: 0).next(is_final=True)
    assert year_2100 <= interim < final < 2**63


def test_states_are_numbered_in_the_order_in_which_they_are_made() -> None:
    states = [Segment.transcript("t", text, status=INTERIM) for text in ("he", "hell", "hello")]
    final = Segment.transcript("t", "hello")
    numbers = [*map(sequence, states), sequence(final)]
    assert numbers == sorted(set(numbers))
    # The same state is not another one, however often it is sent.
    assert sequence(states[0]) == numbers[0]
    assert sequence(copy.copy(states[0])) == numbers[0]


def test_a_changed_copy_is_another_state() -> None:
    interim = Segment.transcript("t", "he", status=INTERIM)
    assert sequence(interim) < sequence(replace(interim, text="hello"))
    assert sequence(replace(interim, text="hello")) < sequence(replace(interim, status=SegmentStatus.FINAL))
    # Also of a state that was read from the server.
    read = Segment.of(
        timeline_pb2.Segment(
            key="t",
            kind=timeline_pb2.SEGMENT_KIND_TRANSCRIPT,
            status=timeline_pb2.SEGMENT_STATUS_INTERIM,
            sequence=2**62,
            version=3,
        )
    )
    assert (read.stored_sequence, read.sequence) == (2**62, None)
    assert sequence(replace(read, status=SegmentStatus.FINAL)) > 2**62


def test_a_sequence_of_the_caller_is_kept() -> None:
    assert sequence(Segment.note("n", "x", sequence=0)) == 0
    assert sequence(Segment.note("n", "x", sequence=7, status=INTERIM)) == 7


def test_a_segment_is_read_as_it_was_sent() -> None:
    sent = Segment.transcript(
        "t1",
        "Hello there",
        start=timedelta(seconds=1.5),
        end=2.25,
        speaker="Anna",
        language="en",
        parent=Segment.audio("a1"),
        words=[Word("Hello", timedelta(seconds=1.5), 2, 0.5), Word("there")],
        confidence=0.0,
        content=Content(data=b"sound", media_type="audio/ogg"),
        metadata={"device": {"id": 7}},
    )
    assert (sent.start, sent.end, sent.duration, sent.parent) == (1.5, 2.25, 0.75, "a1")
    read = Segment.of(sent.to_message())
    assert read == replace(sent, stored_sequence=sequence(sent))
    assert read.words[0].start == 1.5


def test_what_is_not_known_stays_unknown() -> None:
    message = Segment.transcript("t1", "x").to_message()
    assert {field.name for field, _ in message.ListFields()} == {"key", "kind", "status", "text", "sequence"}
    read = Segment.of(message)
    assert (read.start, read.end, read.duration, read.parent, read.confidence) == (None, None, None, None, None)
    # 0 is known.
    assert Segment.transcript("t1", "x", start=0).to_message().HasField("start")


def test_sound_is_a_uri_or_bytes() -> None:
    assert Segment.audio("a", "s3://x").content == Content(uri="s3://x")
    assert Segment.audio("a", b"x").content == Content(data=b"x")
    assert Segment.audio("a").content is None
    with pytest.raises(TypeError, match="segment a: give the source or the content"):
        Segment.audio("a", "s3://x", content=Content(uri="s3://y"))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"start": float("nan")}, "segment t: start: a duration is a finite number"),
        ({"words": [Word("a"), "b"]}, r"segment t: words: \[1\] is a str, not a Word"),
        ({"content": Content()}, "segment t: content: a Content has either a uri or data"),
        ({"metadata": {"a": {"b": b""}}}, r"segment t: metadata: a\.b: a bytes cannot be part of a document"),
        ({"sequence": 2**63}, "segment t: sequence: "),
        ({"text": "\ud800"}, "segment t: text: "),
        ({"speaker": 7}, "segment t: speaker: "),
    ],
)
def test_a_value_that_can_never_be_accepted_is_named(fields: dict[str, Any], message: str) -> None:
    segment = Segment("t", SegmentKind.NOTE, **fields)
    with pytest.raises((TypeError, ValueError), match=message):
        segments_append("s", segment)


def test_only_segments_can_be_appended() -> None:
    with pytest.raises(TypeError, match=r"segments\[1\] is a list, not a Segment"):
        segments_append("s", Segment.note("n", "x"), [Segment.note("m", "x")])  # type: ignore[arg-type]


def test_a_correction_names_what_it_changes() -> None:
    read = replace(Segment.note("n", "x"), version=4)
    request = segment_update("s", read, None, {"text": "y", "speaker": None, "parent": "a", "end": 2})
    assert list(request.update_mask.paths) == ["text", "speaker", "parent_key", "end"]
    assert (request.segment.text, request.segment.parent_key, request.expected_version) == ("y", "a", 4)
    assert segment_update("s", read, 9, {"text": "y"}).expected_version == 9
    for segment, changes, message in (
        (Segment.note("n", "x"), {"text": "y"}, "segment n: give the segment as `get` returns it"),
        (read, {}, "segment n: no field to change is given"),
        (read, {"kind": SegmentKind.AUDIO}, "segment n: 'kind' cannot be changed; text, status"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            segment_update("s", segment, None, changes)  # type: ignore[arg-type]
