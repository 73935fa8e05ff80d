"""A process that holds locks, is stopped past their time and goes on as if nothing was: of `test_stopped_holder`."""

from __future__ import annotations

import asyncio
import sys

from interlock import Client, Field, InterlockError, permit_release, record_update


async def main(address: str, prefix: str, count: int) -> None:
    async with Client(address) as client:
        names = [f"{prefix}-{i}" for i in range(count)]
        held = await asyncio.gather(*(client.acquire_permit(name, holder="stopped", ttl=1.0) for name in names))
        print("holding", flush=True)
        # Stopped while it waits here; whoever lets it go on says so too.
        await asyncio.to_thread(sys.stdin.readline)
        tries = accepted = 0
        for name, permit in zip(names, held, strict=True):
            change = record_update("stopped", name, Field("n").increment(1), allow_missing=True)
            for write in (
                client.commit([change], permit_fence=permit.token),
                client.commit([permit_release(permit.token)], permit_fence=permit.token),
                client.commit([change, permit_release(permit.token)]),
                client.release_permit(permit.token),
            ):
                tries += 1
                try:
                    await write
                    accepted += 1
                except InterlockError:
                    pass
        print(f"{accepted} of {tries}", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
