"""What other programs do to a session, and what it has, through another server."""

from __future__ import annotations

from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict
from interlock import Client
from interlock.v1 import timeline_pb2, timeline_service_pb2


async def act(client: Client, action: dict[str, Any]) -> None:
    """Does an action about a session."""
    match action:
        case {"append": [session_id, segments]}:
            await _append(client, session_id, segments)
        case {"burst": [session_id, count]}:
            # More than the streams of a reader hold that stands still: the server has to merge INTERIM states.
            for place in range(count):
                hot = {"key": "hot", "status": "INTERIM", "sequence": place + 1, "text": str(place)}
                await _append(client, session_id, [{"key": f"f{place:03}", "text": "x" * 16_000}, hot])
            await _append(client, session_id, [{"key": "hot", "sequence": count + 1, "text": "done"}])
        case {"end_session": session_id}:
            ending = timeline_service_pb2.EndSessionRequest(session_id=session_id)
            await client.call(client.timelines.EndSession, ending)
        case {"delete_session": session_id}:
            deletion = timeline_service_pb2.DeleteSessionRequest(session_id=session_id)
            await client.call(client.timelines.DeleteSession, deletion)
        case _:
            raise ValueError(f"unknown action {action}")


async def _append(client: Client, session_id: str, segments: list[dict[str, Any]]) -> None:
    """Appends transcripts, FINAL unless they say otherwise, to a session that is created if it is missing."""
    given = [
        {**segment, "kind": "SEGMENT_KIND_TRANSCRIPT", "status": f"SEGMENT_STATUS_{segment.get('status', 'FINAL')}"}
        for segment in segments
    ]
    body = {"session_id": session_id, "segments": given, "allow_missing": True}
    request = ParseDict(body, timeline_service_pb2.AppendSegmentsRequest())
    response = await client.call(client.timelines.AppendSegments, request)
    assert all(result.applied for result in response.results), f"not all was stored: {response}"


async def read(client: Client, session_id: str) -> dict[str, Any]:
    """The fields of the session's JSON, and its segments in their order, each as key, text and status."""
    request = timeline_service_pb2.GetSessionRequest(session_id=session_id)
    message = (await client.call(client.timelines.GetSession, request)).session
    found = MessageToDict(message, preserving_proto_field_name=True)
    query = timeline_service_pb2.QueryTimelineRequest(session_id=session_id, page_size=1_000)
    page = await client.call(client.timelines.QueryTimeline, query)
    found["segments"] = [[one.key, one.text, _status(one)] for one in page.segments]
    return found


def _status(segment: timeline_pb2.Segment) -> str:
    return timeline_pb2.SegmentStatus.Name(segment.status).removeprefix("SEGMENT_STATUS_")
