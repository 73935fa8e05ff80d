"""README.md as a reader follows it: its blocks in one shell, in their order, as they are printed.

Only the port is another one. The blocks of `make run` and `make demo`, which build the server or do not end, are
checked by `make -n`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients/python"))
os.environ.setdefault("INTERLOCK_BIN", str(ROOT / "target/debug/interlock"))

from interlock.testing import binary, dev_server  # noqa: E402

_ADDRESS = "localhost:50051"
_PROGRAM_NAME = re.compile(r"(?:#!.*\n)?(?://|#) (\S+\.\w+)\n")
_WORKS_UNTIL_STOPPED = "interlock work --queue thumbnails"


class Shell:
    """A terminal in which blocks run one after the other; a command that fails ends it."""

    def __init__(self, address: str, folder: Path) -> None:
        tools = folder / "tools"
        tools.mkdir()
        # What the program of a reader calls.
        (tools / "make-thumbnail").write_text('#!/bin/sh\necho "s3://thumbnails/$1"\n')
        (tools / "make-thumbnail").chmod(0o755)
        (tools / "interlock").symlink_to(binary())
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("INTERLOCK_", "MAKE", "PYTHON"))}
        environment |= {
            "INTERLOCK_SERVER": address,
            "PATH": f"{tools}:{environment['PATH']}",
            "TMPDIR": str(folder),
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        }
        self._block = folder / "block.sh"
        self._process = subprocess.Popen(
            ["bash", "-euo", "pipefail"],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, text: str) -> str:
        """Runs commands to their end. Returns what they printed."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        self._block.write_text(text)
        # Programs must not read what follows.
        process.stdin.write(f". {self._block} < /dev/null\necho '@end'\n")
        process.stdin.flush()
        lines: list[str] = []
        for line in process.stdout:
            if line == "@end\n":
                return "".join(lines)
            lines.append(line)
        raise AssertionError(f"{text}\nended with {process.wait()}:\n{''.join(lines)}")

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What each shell block printed, by its first command."""
    missing = [program for program in ("node", "npm", "go", "curl", "jq") if shutil.which(program) is None]
    assert not missing, f"README uses {missing}, which are not on PATH"
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
    with dev_server("--metrics-listen", "off", "--log", "off") as server:
        shell = Shell(server.address, tmp_path_factory.mktemp("readme"))
        # Takes precedence over the debug build, which README puts on PATH.
        shell.run(f'interlock() {{ "{binary()}" "$@"; }}')
        try:
            yield {text.splitlines()[0]: _played(shell, kind, text, server.address) for kind, text in blocks}
        finally:
            shell.close()


def _played(shell: Shell, kind: str, text: str, address: str) -> str:
    """Does with a block what its reader does."""
    if kind == "text":
        return ""
    program = _PROGRAM_NAME.match(text)
    if program:
        if not text.startswith("#!"):
            shell.run(f"cat > {program[1]} <<'THE_END'\n{text}THE_END")
        return ""  # One with an interpreter is run by a test of its own, below.
    assert kind == "sh", f"a block of {kind} without a name in its first line:\n{text}"
    if text.startswith(("make run", "make demo")):
        return shell.run(f"export MAKEFLAGS=n\n{text}unset MAKEFLAGS")
    if text.startswith(_WORKS_UNTIL_STOPPED):
        return ""  # See below.
    return shell.run(text.replace(_ADDRESS, address))


def _of(printed: dict[str, str], start: str) -> str:
    """The output of the block that starts like this."""
    return next(output for first, output in printed.items() if first.startswith(start))


def test_targets_of_make_exist(printed: dict[str, str]) -> None:
    assert "run -- dev" in _of(printed, "make run")
    assert _of(printed, "make demo").count("-m demo") == 2


def test_first_job_finishes(printed: dict[str, str]) -> None:
    output = _of(printed, 'export PATH="$PWD/target/debug')
    assert "film-1  PENDING, 3 stages" in output
    assert "state      SUCCEEDED 100%" in output
    assert "half of render" in output


def test_first_programs_greet(printed: dict[str, str]) -> None:
    output = _of(printed, "python3 -m venv")
    assert "SUCCEEDED {'text': 'Hello, Python!'}" in output
    assert "SUCCEEDED { text: 'Hello, TypeScript!' }" in output
    assert "JOB_STATE_SUCCEEDED map[text:Hello, Go!] <nil>" in output


def test_a_project_says_how_it_is_run(printed: dict[str, str]) -> None:
    output = _of(printed, "interlock init")
    assert "Python project films, with the client " in output
    assert "/films\n  python3 -m venv .venv && .venv/bin/pip install" in output
    assert "  .venv/bin/python submit.py " in output


def test_permits_records_and_sessions(printed: dict[str, str]) -> None:
    permits = _of(printed, "interlock permit policy")
    assert "editing doc-7" in permits
    assert "tokens     299" in permits
    records = _of(printed, "interlock record set")
    assert 'tags=["radio","short"] title="Signals" views=2' in records
    session = _of(printed, "interlock session append")
    assert "Guten Morgen" in session
    assert "00:00:01,500 --> 00:00:03,000" in session
    assert "standup  ENDED" in session


def test_worker_of_any_program(printed: dict[str, str], tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    command = re.search(rf"^{_WORKS_UNTIL_STOPPED}.*$", text, re.MULTILINE)
    program = re.search(r"^#!/bin/sh\n# thumbnail\.sh\n.*?(?=^```)", text, re.DOTALL | re.MULTILINE)
    assert command
    assert program
    (tmp_path / "thumbnail.sh").write_text(program[0])
    (tmp_path / "thumbnail.sh").chmod(0o755)
    with dev_server("--metrics-listen", "off", "--log", "off") as server:
        shell = Shell(server.address, tmp_path)
        try:
            shell.run(f'cd "{tmp_path}"')
            stages = '[{"name":"page","queue":"thumbnails","input":{"page":7}}]'
            shell.run(f"{command[0]} > log 2>&1 &")
            output = shell.run(f"interlock job submit --kind book --job-id book-1 --stages '{stages}' --watch")
            assert "SUCCEEDED" in output
            output = shell.run("interlock stage get book-1 page")
            assert "s3://thumbnails/7" in output
            shell.run("kill %1; wait %1")
        finally:
            shell.close()


def test_curl(printed: dict[str, str]) -> None:
    output = _of(printed, "curl ")
    assert '"jobId":"film-2"' in output.replace(" ", "")
    assert "event: snapshot" in output
    assert "event: end" in output
