"""A release: its versions, and a smoke test of its artefacts.

Usage:
    dist.py versions                  all sources name the same version
    dist.py smoke FOLDER [BINARY]     the artefacts of FOLDER (with BINARY in place of its `interlock`) do a job each
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copy2, copytree

ROOT = Path(__file__).resolve().parents[1]
_WITHIN = 300
# The first part of the path of the Go module. The domain is reserved for private use, so no public server can have it.
_GO_HOST = "interlock.internal"
# Files that name the version, and how. The first one decides.
_SOURCES = [
    ("Cargo.toml", r'^version = "(.+)"'),
    ("clients/python/pyproject.toml", r'^version = "(.+)"'),
    ("clients/typescript/package.json", r'^  "version": "(.+)"'),
    ("clients/typescript/README.md", r"interlock-client-([0-9.]+)\.tgz"),
    ("clients/go/README.md", r"interlock.internal/clients/go@v([0-9.]+)"),
    ("README.md", r"interlock.internal/clients/go@v([0-9.]+)"),
]


def source_version() -> str:
    """The version of this checkout. Ends the program unless all files name the same one."""
    found: dict[str, str] = {}
    for path, pattern in _SOURCES:
        match = re.search(pattern, (ROOT / path).read_text("utf-8"), re.MULTILINE)
        if match is None:
            raise SystemExit(f"{path} names no version")
        found[path] = match[1]
    if len(set(found.values())) > 1:
        raise SystemExit("versions differ:\n" + "\n".join(f"  {version}  {path}" for path, version in found.items()))
    return found["Cargo.toml"]


def artefact_versions(folder: Path) -> dict[str, str]:
    """The version of each artefact, as it says itself."""
    wheel, tarball = _only(folder, "interlock-*.whl"), _only(folder, "interlock-client-*.tgz")
    with zipfile.ZipFile(wheel) as opened:
        [metadata] = [name for name in opened.namelist() if name.endswith(".dist-info/METADATA")]
        [in_wheel] = re.findall(r"^Version: (.+)$", opened.read(metadata).decode(), re.MULTILINE)
    with tarfile.open(tarball) as packed:
        member = packed.extractfile("package/package.json")
        assert member is not None
        in_tarball = json.load(member)["version"]
    printed = _run([folder / "interlock", "--version"], folder)
    module = _only(folder / "go", "**/@v/*.zip")
    with zipfile.ZipFile(module) as opened:
        [in_module] = {name.partition("@v")[2].partition("/")[0] for name in opened.namelist()}
    listed = (module.parent / "list").read_text("utf-8").strip()
    assert listed == f"v{in_module}" == module.stem, f"the Go module lists {listed}, and has {in_module}"
    return {"interlock": printed.split()[1], wheel.name: in_wheel, tarball.name: in_tarball, "go": in_module}


def smoke(artefacts: Path, binary: Path) -> None:
    """Copies the artefacts into an empty folder, and does a job with each there."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy2(binary, folder / "interlock")
        for path in (_only(artefacts, "interlock-*.whl"), _only(artefacts, "interlock-client-*.tgz")):
            copy2(path, folder)
        copytree(artefacts / "go", folder / "go")
        versions = artefact_versions(folder)
        if set(versions.values()) != {source_version()}:
            raise SystemExit(f"the artefacts have other versions than the source, {source_version()}: {versions}")
        print("versions", versions)
        container = (artefacts / "Containerfile").read_text("utf-8")
        for source in re.findall(r"^COPY (?:--\S+ )*(\S+) ", container, re.MULTILINE):
            assert source == "interlock", f"Containerfile copies {source}, which is no artefact"
        _write_programs(folder)
        with _server(folder) as address:
            _jobs(folder, address)


def _jobs(folder: Path, address: str) -> None:
    """A job with the binary, the wheel, the tarball and the Go module."""
    submit = ["./interlock", "job", "submit", "--kind", "film", "--job-id", "smoke"]
    _run(submit, folder, address)
    _run(["./interlock", "work", "--exit-when-idle", "1s", "--", "sh", "-c", "echo '{\"done\":true}'"], folder, address)
    _expect("state      SUCCEEDED", _run(["./interlock", "job", "get", "smoke"], folder, address))
    print("ok  interlock")
    _run([sys.executable, "-m", "venv", "venv"], folder)
    wheel = _only(folder, "interlock-*.whl").name
    _run(["venv/bin/pip", "install", "--quiet", "--disable-pip-version-check", wheel], folder)
    _expect("SUCCEEDED {'text': 'Hello, Python!'}", _run(["venv/bin/python", "first.py"], folder, address))
    print(f"ok  {wheel}")
    tarball = _only(folder, "interlock-client-*.tgz").name
    (folder / "package.json").write_text('{"private": true}')
    _run(["npm", "install", "--silent", "--prefer-offline", "--no-audit", "--no-fund", f"./{tarball}"], folder)
    _expect("SUCCEEDED { text: 'Hello, TypeScript!' }", _run(["node", "first.mjs"], folder, address))
    print(f"ok  {tarball}")
    _expect("SUCCEEDED map[text:Hello, Go!]", _go_program(folder, address))
    print("ok  go")


def _go_program(folder: Path, address: str) -> str:
    """What the first program in Go prints, built with the module of the release as its README says."""
    project = folder / "first-go"
    project.mkdir()
    (folder / "first.go").rename(project / "first.go")
    proxies = _run(["go", "env", "GOPROXY"], project).strip()
    settings = {
        "GOPROXY": f"file://{folder}/go,{proxies}",
        "GONOSUMDB": _GO_HOST,
        # The usual one may have the module of another build, under the same version.
        "GOMODCACHE": f"{folder}/go-modules",
        # So that it can be removed.
        "GOFLAGS": "-modcacherw",
    }
    module = f"{_GO_HOST}/clients/go@v{source_version()}"
    for command in (["go", "mod", "init", "first"], ["go", "get", module], ["go", "mod", "tidy"]):
        _run(command, project, **settings)
    return _run(["go", "run", "first.go"], project, address, **settings)


def _write_programs(folder: Path) -> None:
    """The first programs of the README."""
    text = (ROOT / "README.md").read_text("utf-8")
    for name in ("first.py", "first.mjs", "first.go"):
        [program] = re.findall(rf"^```\w+\n((?:#|//) {re.escape(name)}\n.*?)^```$", text, re.DOTALL | re.MULTILINE)
        (folder / name).write_text(program)


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """The address of `interlock dev --ephemeral`. Its drain has to succeed."""
    command = [
        "./interlock",
        "dev",
        "--ephemeral",
        "--listen",
        "127.0.0.1:0",
        "--metrics-listen",
        "off",
        "--log",
        "warn",
    ]
    process = subprocess.Popen(command, cwd=folder, env=_environment(), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("listening on "):
                yield line.removeprefix("listening on ").strip()
                break
        else:
            raise SystemExit("the server ended before it had started")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stdout.close()


def _environment(address: str | None = None, **settings: str) -> dict[str, str]:
    """Nothing of the checkout: no settings of Interlock, and no search paths of Python and Node."""
    hidden = ("INTERLOCK_", "PYTHON", "NODE_", "VIRTUAL_ENV")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)} | settings
    return kept if address is None else {**kept, "INTERLOCK_SERVER": address}


def _run(command: Sequence[str | Path], folder: Path, address: str | None = None, **settings: str) -> str:
    """What a command prints. Ends the program if it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=_environment(address, **settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WITHIN,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def _expect(part: str, output: str) -> None:
    if part not in output:
        raise SystemExit(f"expected {part!r} in:\n{output}")


def _only(folder: Path, pattern: str) -> Path:
    """The one file of a pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder} has {len(found)} files {pattern}, not one: make dist-files")
    return found[0]


def main() -> None:
    """See the usage above."""
    match sys.argv[1:]:
        case ["versions"]:
            print(source_version())
        case ["smoke", folder]:
            smoke(Path(folder).resolve(), Path(folder).resolve() / "interlock")
        case ["smoke", folder, binary]:
            smoke(Path(folder).resolve(), Path(binary).resolve())
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
