"""Exports of a timeline as a file."""

from __future__ import annotations

import asyncio
import enum
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeVar

import grpc.aio

from interlock.errors import DeadlineExceeded, from_rpc_error
from interlock.stream import Call
from interlock.v1 import timeline_service_pb2

Result = TypeVar("Result")


class ExportFormat(enum.IntEnum):
    """Format of an export; equal to the number of the protos."""

    WEBVTT = timeline_service_pb2.EXPORT_FORMAT_WEBVTT
    SRT = timeline_service_pb2.EXPORT_FORMAT_SRT
    TEXT = timeline_service_pb2.EXPORT_FORMAT_TEXT
    """A line for each segment, with its speaker."""
    JSON_LINES = timeline_service_pb2.EXPORT_FORMAT_JSON_LINES
    """A JSON object for each segment, one a line."""

    def __str__(self) -> str:
        return self.name


class Repeat(Protocol):
    """Repeats an attempt, which gets the remaining seconds, as long as its errors can be retried."""

    def __call__(self, attempt: Callable[[float], Awaitable[Result]]) -> Awaitable[Result]:
        """The result of the attempt that succeeds."""
        ...


class TimelineExport:
    """A file that the server writes while it is read. `SessionHandle.export` returns it.

    As a whole by `read` or `save`, which begin again if the stream breaks; or in parts, once, by `async for`.
    """

    def __init__(
        self, begin: Callable[[], Call[timeline_service_pb2.ExportTimelineResponse]], repeat: Repeat, silence: float
    ) -> None:
        """Called by the client. `silence`: seconds without a part after which the stream counts as broken."""
        self._begin = begin
        self._repeat = repeat
        self._silence = silence

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Parts of the file, which can end anywhere. A stream that breaks after the first part raises the error."""

        async def first(remaining: float) -> tuple[AsyncIterator[bytes], bytes]:
            parts = self._parts()
            return parts, await anext(parts, b"")

        parts, part = await self._repeat(first)
        if part:
            yield part
        try:
            async for part in parts:
                yield part
        except grpc.aio.AioRpcError as raised:
            raise from_rpc_error(raised) from raised

    async def read(self) -> bytes:
        """The file.

        Raises:
            NotFound: the session does not exist.
            InterlockError: as any call.
        """

        async def whole(remaining: float) -> bytes:
            return b"".join([part async for part in self._parts()])

        return await self._repeat(whole)

    async def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the file to a path, in place of a file that is there, and returns the path.

        The path never has a part of the file: on an error it stays as it was.

        Raises:
            NotFound: the session does not exist.
            OSError: the file cannot be written.
            InterlockError: as any call.
        """
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.{uuid.uuid4().hex}.part")

        async def whole(remaining: float) -> None:
            file = await asyncio.to_thread(unfinished.open, "wb")
            try:
                async for part in self._parts():
                    await asyncio.to_thread(file.write, part)
            finally:
                await asyncio.to_thread(file.close)

        try:
            await self._repeat(whole)
            await asyncio.to_thread(unfinished.replace, target)
        finally:
            with suppress(FileNotFoundError):
                unfinished.unlink()
        return target

    async def _parts(self) -> AsyncIterator[bytes]:
        call = self._begin()
        try:
            while True:
                try:
                    message: Any = await asyncio.wait_for(call.read(), self._silence)
                except asyncio.TimeoutError:
                    why = f"no part of the export came for {self._silence:g} s"
                    raise DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, why) from None
                if message is grpc.aio.EOF:
                    return
                yield message.data
        finally:
            call.cancel()
