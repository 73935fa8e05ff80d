"""Each scenario of scenarios.json with the driver of each language."""

from __future__ import annotations

from typing import Any

from conftest import HERE


async def test_scenario(scenario: dict[str, Any], language: str, commands: dict[str, list[str]], database: Any) -> None:
    from runner import running

    async with running(scenario, commands[language], HERE, database.url, database.address) as run:
        if not any("connect" in str(step.get("driver", {}).get("do")) for step in scenario["steps"][:1]):
            await run.play([{"driver": {"do": "connect", "address": "$address"}}])
        await run.play(scenario["steps"])
