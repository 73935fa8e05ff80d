"""The projects of `interlock init`: installed, tested and run by the commands of their README.

The packages are those of this repository, in a folder of their own as after a download.
"""

from __future__ import annotations

import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "clients/python"))
os.environ.setdefault("INTERLOCK_BIN", str(ROOT / "target/debug/interlock"))

from interlock.testing import DevServer, binary, dev_server  # noqa: E402

LANGUAGES = ["python", "typescript", "go"]
DIST = binary().parent.parent / "dist"
WITHIN = 300.0
# Parts of the line that the programs print of the first stage.
COUNTED = {
    "python": ["count SUCCEEDED {", "'words': 6", "'letters': 13"],
    "typescript": ["count SUCCEEDED {", "words: 6", "letters: 13"],
    "go": ["count STAGE_STATE_SUCCEEDED map[", "words:6", "letters:13"],
}


def environment(**more: str) -> dict[str, str]:
    """Nothing of the checkout: no settings of Interlock, and no search paths of Python and Node."""
    hidden = ("INTERLOCK_", "MAKE", "PYTHON", "NODE_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    # The lines of a Python program come while it runs.
    return {
        **kept,
        "INTERLOCK_BIN": str(binary()),
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
        **more,
    }


class Running:
    """A command of a shell, which a signal ends with all that it started."""

    def __init__(self, command: str, folder: Path, server: DevServer) -> None:
        self.output = ""
        self._process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=folder,
            env=environment(INTERLOCK_SERVER=server.address),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._deadline = time.monotonic() + WITHIN

    def until(self, part: str) -> str:
        """Reads until the output has this. Returns all of it."""
        while part not in self.output:
            assert self._read(), f"ended without {part!r}:\n{self.output}"
        return self.output

    def end(self) -> int:
        """Reads to the end. Returns the exit code."""
        while self._read():
            pass
        return self._process.wait(WITHIN)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        os.killpg(self._process.pid, signal.SIGINT)

    def close(self) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _read(self) -> bool:
        """Whether there was more."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, self._deadline - time.monotonic()))
        assert ready, f"nothing more within {WITHIN:g} s:\n{self.output}"
        more = os.read(self._process.stdout.fileno(), 65536)
        self.output += more.decode("utf-8", "replace")
        return bool(more)


def init(*arguments: str | Path, folder: Path, program: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `interlock init`."""
    command = [program or binary(), "init", *arguments]
    return subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The line of a command that was refused."""
    assert (done.returncode, done.stdout) == (2, ""), done
    assert done.stderr.count("\n") == 1
    return done.stderr.strip()


def blocks(project: Path) -> list[str]:
    """The shell blocks of a README."""
    return re.findall(r"^```sh\n(.*?)^```$", (project / "README.md").read_text("utf-8"), re.DOTALL | re.MULTILINE)


def all_files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def server() -> Iterator[DevServer]:
    with dev_server("--metrics-listen", "off", "--log", "off") as started:
        yield started


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the packages, whose name has to be quoted everywhere."""
    folder = tmp_path_factory.mktemp("init") / "a release"
    folder.mkdir()
    packages = [*DIST.glob("interlock-*.whl"), *DIST.glob("interlock-client-*.tgz")]
    assert len(packages) == 2, f"{DIST} has {packages}: make packages"
    for package in packages:
        shutil.copy2(package, folder)
    shutil.copytree(ROOT / "clients/go", folder / "clients/go")
    return folder


@dataclass(frozen=True)
class Project:
    """A project that was written and installed."""

    language: str
    folder: Path
    work: str
    submit: str
    test: str
    files: frozenset[str]
    """What `interlock init` has written."""

    def submitted(self, text: str) -> str:
        """The command that submits a job, with another text than the README's."""
        assert "to be or not to be" in self.submit
        return self.submit.replace("to be or not to be", text)


@pytest.fixture(scope="module", params=LANGUAGES)
def project(request: pytest.FixtureRequest, release: Path, server: DevServer) -> Project:
    folder = release.parent / "my work" / f"my-{request.param}"
    folder.parent.mkdir(exist_ok=True)
    done = init(request.param, folder, "--client", release, folder=release.parent)
    assert (done.returncode, done.stderr) == (0, "")
    files = frozenset(str(path.relative_to(folder)) for path in all_files(folder))
    run, test = blocks(folder)
    # What is printed is what the README says.
    assert [line.strip() for line in done.stdout.splitlines()[2:]] == [
        f"cd {shlex.quote(str(folder))}",
        *run.splitlines(),
    ]
    install, work, submit = run.splitlines()
    installing = Running(install, folder, server)
    assert installing.end() == 0, installing.output
    return Project(request.param, folder, work, submit, test, files)


def test_a_job_is_done_fails_and_is_cancelled(project: Project, server: DevServer) -> None:
    worker = Running(project.work, project.folder, server)
    programs = [worker]

    def submit(command: str) -> Running:
        programs.append(Running(command, project.folder, server))
        return programs[-1]

    try:
        job = submit(project.submit)
        assert job.end() == 0, job.output
        assert all(part in job.output for part in COUNTED[project.language]), job.output
        assert "count: 3 of 6 words" in job.output

        empty = submit(project.submitted(""))
        assert empty.end() != 0
        assert "the text has no words" in empty.output

        slow = submit(project.submitted("word " * 1_000))
        job_id = re.findall(r"job (\S+);", slow.until("of 1000 words"))[0]
        subprocess.run(
            [binary(), "job", "cancel", job_id], env=environment(INTERLOCK_SERVER=server.address), check=True
        )
        assert slow.end() != 0
        assert "CANCELLED" in slow.output
        worker.until("count stops after ")

        worker.interrupt()
        # `go run` itself exits with 1 after Ctrl-C.
        assert worker.end() == (1 if project.language == "go" else 0), worker.output
        assert "has stopped" in worker.output
    finally:
        for program in programs:
            program.close()


def test_the_tests_of_a_project_pass(project: Project, server: DevServer) -> None:
    tests = Running(project.test, project.folder, server)
    try:
        assert tests.end() == 0, tests.output
    finally:
        tests.close()


def test_what_is_built_is_ignored_by_git(project: Project) -> None:
    subprocess.run(["git", "init", "--quiet", project.folder], check=True)
    listed = ["git", "-C", str(project.folder), "ls-files", "-z", "--others", "--exclude-standard"]
    found = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0")
    assert set(found) - {"", "package-lock.json", "go.sum"} == project.files


def test_the_code_has_the_form_of_its_language(project: Project) -> None:
    if project.language == "python":
        config = ROOT / "clients/python/pyproject.toml"
        ruff: list[str | Path] = [sys.executable, "-m", "ruff"]
        ours = [project.folder / name for name in ("submit.py", "test_worker.py", "worker.py")]
        subprocess.run([*ruff, "format", "--check", "--config", config, *ours], check=True)
        subprocess.run([*ruff, "check", "--config", config, "--ignore", "D103", *ours], check=True)
    elif project.language == "go":
        done = subprocess.run(["gofmt", "-l", project.folder], capture_output=True, text=True, check=True)
        assert done.stdout == ""
        subprocess.run(["go", "vet", "./..."], cwd=project.folder, check=True)
    else:
        biome = ROOT / "clients/typescript/node_modules/.bin/biome"
        command: list[str | Path] = [
            biome,
            "check",
            "--skip=suspicious/noConsole",
            "--config-path",
            ROOT / "clients/typescript",
            project.folder / "src",
        ]
        subprocess.run(command, cwd=project.folder, check=True)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_client_is_found_in_the_checkout(language: str, tmp_path: Path) -> None:
    # A build outside of the checkout finds it by the current directory.
    done = init(language, tmp_path / "films", folder=ROOT / "tests")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"with the client {DIST if language != 'go' else ROOT}" in done.stdout


def test_a_release_has_the_client_beside_the_program(release: Path, tmp_path: Path) -> None:
    try:
        os.link(binary(), tmp_path / "interlock")
    except OSError:
        shutil.copy2(binary(), tmp_path / "interlock")
    line = refused(init("python", "films", folder=tmp_path, program=tmp_path / "interlock"))
    assert line.startswith(
        "error: no client for Python beside this program or in a checkout above it; name it with --c"
    )
    assert not (tmp_path / "films").exists()
    [wheel] = release.glob("*.whl")
    shutil.copy2(wheel, tmp_path)
    done = init("python", "films", folder=tmp_path, program=tmp_path / "interlock")
    assert done.returncode == 0, done
    assert f"interlock @ file://{tmp_path.resolve() / wheel.name}" in (tmp_path / "films/pyproject.toml").read_text()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    assert init("go", "films", "--client", ROOT, folder=tmp_path).returncode == 0
    before = all_files(tmp_path)
    line = refused(init("go", "films", "--client", ROOT, folder=tmp_path))
    assert re.fullmatch(r'error: DIR: "films" is not empty, it has ".+"; name a new or an empty directory', line)
    assert all_files(tmp_path) == before
    (tmp_path / "file").write_text("mine")
    assert refused(init("go", "file", "--client", ROOT, folder=tmp_path)) == 'error: DIR: "file" is not a directory'


def test_an_empty_directory_is_filled(tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    assert init("go", ".", "--client", ROOT, folder=tmp_path / "films").returncode == 0
    assert "module example.com/films\n" in (tmp_path / "films/go.mod").read_text()


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    line = refused(init("go", "a/b", "--client", ROOT, folder=tmp_path))
    assert line == 'error: DIR: "a" does not exist; create it first'
    # Not even root can write there.
    line = refused(init("go", "/sys/films", "--client", ROOT, folder=tmp_path))
    assert re.fullmatch(r'error: DIR: "/sys/films" cannot be created: .+ \(os error \d+\)', line), line


def test_a_name_that_does_not_fit_is_told(tmp_path: Path) -> None:
    line = refused(init("typescript", "Films", "--client", DIST, folder=tmp_path))
    assert line.endswith("TypeScript project: npm allows no capital letters; set another one with --name")
    assert init("typescript", "Films", "--name", "films", "--client", DIST, folder=tmp_path).returncode == 0
    assert '"name": "films"' in (tmp_path / "Films/package.json").read_text()
    line = refused(init("python", "my films", "--client", DIST, folder=tmp_path))
    assert line.startswith('error: DIR: "my films" cannot be the name of a Python project: it must have only ')
    line = refused(init("python", "films", "--client", tmp_path / "nothing", folder=tmp_path))
    assert line.startswith(f'error: --client: "{tmp_path}/nothing" cannot be read: No such file or directory')
