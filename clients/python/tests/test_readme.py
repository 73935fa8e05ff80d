"""The programs of README.md, run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

_PACKAGE = Path(__file__).resolve().parents[1]
_PROGRAMS = dict(
    re.findall(r"^```python\n# (\S+)\n(.*?)^```", (_PACKAGE / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)
)


class _Vendor(BaseHTTPRequestHandler):
    """Refuses the first request, as a vendor does."""

    refusals = 1

    def do_POST(self) -> None:
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"]
        is_refused = _Vendor.refusals > 0
        _Vendor.refusals -= 1
        self.send_response(429 if is_refused else 200)
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(b"" if is_refused else json.dumps({"url": f"s3://{text}"}).encode())

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def vendor() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Vendor)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def environment(address: str, **more: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(_PACKAGE), "INTERLOCK_SERVER": address, **more}


def ran(name: str, folder: Path, address: str) -> str:
    """The output of a program of README."""
    (folder / name).write_text(_PROGRAMS[name])
    command = [sys.executable, "-W", "error::RuntimeWarning", name]
    process = subprocess.run(
        command, cwd=folder, env=environment(address), capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_all_programs_of_the_page_are_run() -> None:
    assert set(_PROGRAMS) == {
        *("worker.py", "submit.py", "script.py", "test_mine.py", "follow.py", "records.py", "meeting.py", "permits.py"),
        "traced.py",
    }
    assert (_PACKAGE / "README.md").read_text("utf-8").count("```python") == len(_PROGRAMS) + 1, (
        "the one of TLS is a part"
    )


def test_the_worker_does_the_submitted_job(tmp_path: Path, server_address: str, vendor: str) -> None:
    (tmp_path / "worker.py").write_text(_PROGRAMS["worker.py"])
    worker = subprocess.Popen(
        [sys.executable, "worker.py"],
        cwd=tmp_path,
        env=environment(server_address, VENDOR=vendor),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        output = ran("submit.py", tmp_path, server_address)
    finally:
        worker.terminate()
        _, log = worker.communicate(timeout=30)
    assert "SUCCEEDED [{'url': 's3://Hello'}, {" in output
    # In any order: documents have none.
    assert "'film': 'Signals'" in output
    assert "'text': 'THE END'" in output
    assert "RUNNING" in output
    assert "done by Interlock" in output
    assert worker.returncode == 0
    assert "takes stages of voice at" in log
    assert "speak of" in log
    assert "failed: HTTP 429 Too Many Requests" in log
    assert "has stopped" in log


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("script.py", ["1.0", "{'words': 3}"]),
        ("follow.py", ["False"]),
        ("records.py", ["'title': 'SIGNALS'", "rain is not there"]),
        ("meeting.py", ["final   The deployments are running.", "<v Ben>Sehr gut!", "The **deployments** are done."]),
        ("permits.py", ["BREAKER_OPEN"]),
        (
            "traced.py",
            [
                '"name": "order"',
                '"name": "interlock.v1.JobService/SubmitJob"',
                '"name": "attempt cut"',
                '"links": [\n        {',
            ],
        ),
    ],
)
def test_a_program_of_the_page_runs(name: str, expected: list[str], tmp_path: Path, server_address: str) -> None:
    output = ran(name, tmp_path, server_address)
    for part in expected:
        assert part in output


def test_the_test_of_the_page_passes(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(_PROGRAMS["test_mine.py"])
    command = [sys.executable, "-m", "pytest", "-q", "-p", "interlock.testing.plugin", "-p", "no:cacheprovider", "."]
    process = subprocess.run(
        command, cwd=tmp_path, env=environment(""), capture_output=True, text=True, timeout=120, check=False
    )
    assert process.returncode == 0, process.stdout + process.stderr
