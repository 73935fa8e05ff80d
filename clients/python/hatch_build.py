"""The build step of the package: generate the stubs, and carry them in the wheel."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

sys.path.insert(0, str(Path(__file__).resolve().parent))


class GenerateStubs(BuildHookInterface[Any]):
    """Found by hatch through pyproject.toml."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Runs before the files of a wheel are chosen."""
        del version
        from generate import generate

        # They are ignored by git, so hatch would leave them out.
        build_data["artifacts"] += [f"/{path.relative_to(self.root)}" for path in generate()]
