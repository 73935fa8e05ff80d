"""Searching segments on a real server, in several languages."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta, timezone

import pytest

import interlock
from interlock import Client, SearchResult, Segment, SegmentKind, SegmentStatus


@pytest.fixture
def team() -> str:
    """A label that no other test knows."""
    return uuid.uuid4().hex


async def found(client: Client, team: str, query: str, **filters: object) -> dict[str, SearchResult]:
    results = client.search(query, filter=f'labels.team = "{team}"', **filters)  # type: ignore[arg-type]
    return {result.segment.key: result async for result in results}


async def test_words_are_found_in_the_language_of_each_segment(client: Client, team: str) -> None:
    async with client.session(labels={"team": team}) as session:
        await session.append(
            Segment.transcript("en", "We were running the deployments twice a day", language="en", speaker="Anna"),
            Segment.transcript("de", "Die Bereitstellungen laufen zweimal täglich", language="de-AT", speaker="Ben"),
            Segment.transcript("ja", "次の会議は東京で行われます", language="ja", speaker="Aiko"),
            Segment.transcript("zh", "我们明天在北京开会讨论预算", language="zh", speaker="Li"),
            Segment.transcript("ko", "다음회의는서울에서열립니다", language="ko"),
            Segment.transcript("interim", "deployment", language="en", status=SegmentStatus.INTERIM),
        )
    english = await found(client, team, "run deployment")
    assert english.keys() == {"en"}
    assert english["en"].session_id == session.session_id
    assert english["en"].segment.speaker == "Anna"
    assert english["en"].matched == ("running", "deployments")
    assert english["en"].highlighted("<", ">") == "We were <running> the <deployments> twice a day"

    german = await found(client, team, "bereitstellung läuft")
    assert german.keys() <= {"de"}
    german = await found(client, team, "bereitstellung")
    assert german["de"].matched == ("Bereitstellungen",)

    for key, query in (("ja", "東京"), ("ja", "会"), ("zh", "北京"), ("zh", "预算"), ("ko", "서울")):
        results = await found(client, team, query)
        assert key in results, query
        assert query in results[key].highlighted("", "")
        assert "".join(results[key].matched) == query
    assert await found(client, team, "大阪") == {}


async def test_phrases_exclusions_and_filters(client: Client, team: str) -> None:
    before = datetime.now(timezone.utc) - timedelta(hours=1)
    async with client.session(labels={"team": team}) as session:
        await session.append(
            Segment.transcript("t1", "red green blue", language="en", speaker="Anna"),
            Segment.transcript("t2", "red and green", language="en", speaker="Ben"),
            Segment.note("n1", "red note", language="en"),
        )
    assert (await found(client, team, '"red green"')).keys() == {"t1"}
    assert (await found(client, team, "red -blue")).keys() == {"t2", "n1"}
    assert (await found(client, team, "red", kinds=[SegmentKind.NOTE])).keys() == {"n1"}
    assert (await found(client, team, "red", speakers=["Ben"])).keys() == {"t2"}
    assert (await found(client, team, "red", languages=["de"])).keys() == set()
    assert (await found(client, team, "red", start_time=before)).keys() == {"t1", "t2", "n1"}
    assert (await found(client, team, "red", end_time=before)).keys() == set()
    with pytest.raises(interlock.InvalidArgument):
        await found(client, team, "")
    with pytest.raises(ValueError, match="start_time has no time zone"):
        await found(client, team, "red", start_time=datetime(2026, 1, 1))


async def test_results_come_in_pages_and_up_to_a_limit(client: Client, team: str) -> None:
    async with client.session(labels={"team": team}) as session:
        await session.append(*(Segment.note(f"n{number}", "pages", language="en") for number in range(230)))
    assert len(await found(client, team, "page")) == 230
    assert len(await found(client, team, "page", limit=130)) == 130
    assert len(await found(client, team, "page", limit=3)) == 3
    assert len(await found(client, team, "page", limit=0)) == 0
    ranks = [result.rank async for result in client.search("page", filter=f'labels.team = "{team}"')]
    assert ranks == sorted(ranks, reverse=True)


def test_a_snippet_is_shown_with_its_matches_marked() -> None:
    result = SearchResult("s", Segment.note("n", ""), 1.0, "ab 𝄞cd e", ((0, 2), (3, 6)))
    assert result.matched == ("ab", "𝄞cd")
    assert result.highlighted() == "**ab** **𝄞cd** e"
    assert SearchResult("s", Segment.note("n", ""), 1.0, "…x", ()).highlighted() == "…x"
