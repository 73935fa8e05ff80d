"""The drivers of all languages, one database for all scenarios, and the table of results at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
CLIENTS = HERE.parent
# The client is used from the checkout, for the runner and for its driver.
sys.path.insert(0, str(CLIENTS / "python"))
os.environ.setdefault("INTERLOCK_BIN", str(CLIENTS.parent / "target/debug/interlock"))

SCENARIOS: list[dict[str, Any]] = json.loads((HERE / "scenarios.json").read_text(encoding="utf-8"))
LANGUAGES = ("python", "typescript", "go")
_RESULTS = pytest.StashKey[dict[tuple[str, str], str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--languages python,go` runs the drivers of some languages only."""
    parser.addoption("--languages", default=",".join(LANGUAGES), help="languages, separated by commas")


@pytest.fixture(scope="session")
def database() -> Iterator[Any]:
    """A server and its Postgres, over which the servers of the scenarios run."""
    from tests.real_server import real_database

    with real_database("--log", "off", "--reap-grace", "100ms") as found:
        yield found


@pytest.fixture(scope="session")
def commands(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The command of each driver; those that are compiled are compiled here."""
    found: dict[str, list[str]] = {}
    for language in request.config.getoption("--languages").split(","):
        match language:
            case "python":
                found[language] = [sys.executable, str(HERE / "driver.py")]
            case "typescript":
                folder = CLIENTS / "typescript"
                subprocess.run(["node", "tests/run.mjs", "--build"], cwd=folder, check=True)
                found[language] = ["node", "--enable-source-maps", str(folder / "build/tests/driver.js")]
            case "go":
                program = tmp_path_factory.mktemp("go") / "driver"
                subprocess.run(["go", "build", "-o", program, "./conformance"], cwd=CLIENTS / "go", check=True)
                found[language] = [str(program)]
    return found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each scenario in each language."""
    if {"scenario", "language"} <= set(metafunc.fixturenames):
        languages = metafunc.config.getoption("--languages").split(",")
        pairs = [(scenario, language) for scenario in SCENARIOS for language in languages]
        ids = [f"{scenario['name']}-{language}" for scenario, language in pairs]
        metafunc.parametrize(("scenario", "language"), pairs, ids=ids)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Any:
    """Notes the result of a scenario."""
    report = yield
    parameters = getattr(getattr(item, "callspec", None), "params", {})
    if "language" in parameters and (report.when == "call" or report.failed):
        results = item.config.stash.setdefault(_RESULTS, {})
        results[parameters["scenario"]["name"], parameters["language"]] = report.outcome
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """The table of scenarios and languages."""
    results = config.stash.get(_RESULTS, {})
    if not results:
        return
    languages = [it for it in LANGUAGES if any(language == it for _, language in results)]
    width = max(len(name) for name, _ in results)
    terminalreporter.section("conformance")
    terminalreporter.line(" " * width + "".join(f"  {language:>10}" for language in languages))
    for name in dict.fromkeys(name for name, _ in results):
        words = ["ok" if results.get((name, it)) == "passed" else results.get((name, it), "-") for it in languages]
        terminalreporter.line(f"{name:<{width}}" + "".join(f"  {word:>10}" for word in words))
