"""Works on the stages of the queue `{{name}}` until Ctrl-C or SIGTERM."""

import asyncio
import logging
from dataclasses import dataclass

from interlock import Attempt, Client, FailureClass, StageError, Worker

QUEUE = "{{name}}"
log = logging.getLogger(__name__)


@dataclass
class Text:
    """Input of the stage `count`."""

    text: str
    seconds_per_word: float = 0.3


async def count(attempt: Attempt, input: Text) -> dict:
    """Counts the words and letters of a text, slowly."""
    words = input.text.split()
    if not words:
        # A failure with a class. CLIENT_ERROR is not retried, because the same input would fail again.
        raise StageError(FailureClass.CLIENT_ERROR, "the text has no words", code="NO_WORDS")
    letters = 0
    try:
        for done, word in enumerate(words, start=1):
            await asyncio.sleep(input.seconds_per_word)  # real work goes here
            letters += len(word)
            attempt.report(done / len(words), f"{done} of {len(words)} words")
    except asyncio.CancelledError:
        # The job is cancelled, the lease is lost or the worker stops.
        log.info("count stops after %d letters", letters)
        raise
    return {"words": len(words), "letters": letters}  # the artifacts


def average(attempt: Attempt) -> dict:
    """Computes the mean length of the words. A plain function runs in a thread."""
    counted = attempt.dependencies["count"].artifacts
    return {"letters_per_word": counted["letters"] / counted["words"]}


def new_worker(client: Client) -> Worker:
    """Returns a worker with the handler of each stage."""
    worker = Worker(client, [QUEUE], concurrency=4)
    worker.handler("count")(count)
    worker.handler("average")(average)
    return worker


async def main() -> None:
    """Runs the worker."""
    logging.basicConfig(level=logging.INFO)
    async with Client() as client:
        await new_worker(client).run()


if __name__ == "__main__":
    asyncio.run(main())
