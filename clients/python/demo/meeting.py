"""Holds a meeting: three speakers, two languages, a bot for each speaker, and live captions."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

from demo.bots import Bot, Clock
from demo.captions import Captions
from demo.minutes import check
from demo.script import Script, spoken
from interlock import Client, SessionWatch, StageError, Unavailable


async def hold(client: Client, output: Path, speed: float) -> int:
    """Speaks the script, streams it, shows captions, and checks the exports against what was said."""
    try:
        session = await client.create_session(labels={"demo": "yes"})
    except Unavailable as error:
        print(f"{error.message}; start one with `make run`", file=sys.stderr)
        return 2
    directory = output.resolve() / f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}"
    directory.mkdir(parents=True)
    captions = Captions()
    try:
        script = await spoken(directory)
    except StageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    await client.update_session(session.session_id, title=script.title)
    turns, speakers = len(script.turns), ", ".join(script.speakers)
    captions.say(f"session {session.session_id}: {script.title}; {turns} turns of {speakers}\n")
    counts = await _stream(client, session.session_id, script, captions, speed)

    faults = await check(client, client.session(session.session_id), script, directory)
    said = [text for turn in script.turns for text in (turn.text, turn.translation)]
    shown = [segment.text for segment in captions.finals()]
    if shown != said:
        faults.append(f"the captions showed {shown}")
    if faults:
        print("\nThe meeting was not recorded as it was said:", *faults, sep="\n  ", file=sys.stderr)
        return 1
    print(f"\nMinutes: {directory}/meeting.en.vtt")
    print(f"         {directory}/meeting.de.vtt")
    print("         as said: each text once, with its times and speaker")
    print(f"Segments sent: {counts['sent']}; {counts['unchanged']} were late or repeated, and changed nothing")
    print(f"Captions: {captions.replaced} preliminary ones were replaced in place")
    return 0


async def _stream(client: Client, session_id: str, script: Script, captions: Captions, speed: float) -> Counter[str]:
    """Lets the bots speak, each over its own connection, while the captions follow."""
    async with AsyncExitStack() as stack:
        following = asyncio.create_task(_follow(client.watch_session(session_id), captions))
        stack.callback(following.cancel)
        clock = Clock(speed)
        bots = []
        for seed, speaker in enumerate(script.speakers):
            connection = await stack.enter_async_context(Client(client.address, timeout=client.timeout))
            said = [turn for turn in script.turns if turn.speaker == speaker]
            bots.append(Bot(connection, session_id, said, clock, seed))
        async with client.session(session_id, end_on_exit=True):
            await asyncio.gather(*(bot.run() for bot in bots))
        # The watch ends with the session, after its last segment.
        await asyncio.wait_for(following, client.timeout)
    return sum((bot.counts for bot in bots), Counter[str]())


async def _follow(watch: SessionWatch, captions: Captions) -> None:
    async with watch:
        async for event in watch:
            captions.take(event)
