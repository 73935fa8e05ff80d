"""The image of a release, built from Debian's packages without a registry, does a job with a Postgres.

Usage: image.py FOLDER [BINARY], where FOLDER has a Containerfile and BINARY stands in for its `interlock`. It needs
buildah, mmdebstrap and Postgres; without them it says so, and does nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_WITHIN = 600
_BASE = "localhost/debian:12"
_IMAGE = "localhost/interlock"
# Neither needs rights that a container or a build machine lacks.
_STORAGE_DRIVER = "vfs"
_ISOLATION = ["--isolation", "chroot"]


class Images:
    """Images and containers of one folder, which are removed with it."""

    def __init__(self, folder: Path) -> None:
        state = ["--root", str(folder / "storage"), "--runroot", str(folder / "run")]
        self._buildah = ["buildah", "--storage-driver", _STORAGE_DRIVER, *state]

    def run(self, *arguments: str | Path) -> str:
        """What a command of buildah prints. Ends the program if it fails."""
        return _run(*self._buildah, *arguments)

    def start(self, image: str, *command: str) -> subprocess.Popen[str]:
        """A command in a new container of an image. It has the network of this machine, and the user of the image."""
        container = self.run("from", image).strip()
        full = [*self._buildah, "run", *_ISOLATION, container, "--", *command]
        return subprocess.Popen(full, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def smoke(artefacts: Path, binary: Path) -> None:
    """Builds the image and does a job with its server."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = Images(folder)
        _build(images, folder, artefacts, binary)
        with _postgres(folder) as database_url, _server(images, database_url) as address:
            flags = ["--server", address]
            _run(binary, "job", "submit", *flags, "--kind", "film", "--job-id", "image")
            _run(binary, "work", *flags, "--exit-when-idle", "1s", "--", "sh", "-c", "echo '{\"done\":true}'")
            shown = _run(binary, "job", "get", "image", *flags)
            assert "state      SUCCEEDED" in shown, shown
        print("ok  Containerfile")


def _build(images: Images, folder: Path, artefacts: Path, binary: Path) -> None:
    """The image, as the head of the Containerfile says."""
    context = folder / "context"
    context.mkdir()
    shutil.copy2(binary, context / "interlock")
    shutil.copy2(artefacts / "Containerfile", context)
    release = re.search(r"^VERSION_CODENAME=(\w+)$", Path("/etc/os-release").read_text("utf-8"), re.MULTILINE)
    assert release is not None, "this is no release of Debian"
    system = folder / "debian.tar"
    _run("mmdebstrap", "--quiet", "--variant=minbase", "--include=ca-certificates", release[1], system)
    base = images.run("from", "scratch").strip()
    images.run("add", base, system, "/")
    images.run("commit", "--rm", base, _BASE)
    images.run("bud", *_ISOLATION, "--build-arg", f"BASE={_BASE}", "--tag", _IMAGE, context)


@contextmanager
def _server(images: Images, database_url: str) -> Iterator[str]:
    """The address of the server in the image. Its drain has to succeed."""
    settings = [f"INTERLOCK_DATABASE_URL={database_url}", "INTERLOCK_LISTEN=127.0.0.1:0"]
    command = ["interlock", "serve", "--until-stdin-closes", "--metrics-listen", "off"]
    process = images.start(_IMAGE, "env", *settings, *command)
    assert process.stdin is not None and process.stdout is not None
    try:
        for line in process.stdout:
            if line.startswith("listening on "):
                yield line.removeprefix("listening on ").strip()
                break
        else:
            raise SystemExit("the server in the image ended before it had started")
        process.stdin.close()
        assert process.wait(timeout=_WITHIN) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def _postgres(folder: Path) -> Iterator[str]:
    """The URL of a Postgres of its own, on a port of this machine: a container cannot have its socket."""
    *_, programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    folder.chmod(0o755)
    data = folder / "postgres"
    data.mkdir()
    # Postgres does not run as root.
    user = None
    if os.getuid() == 0:
        user = "postgres"
        shutil.chown(data, user)

    def start(program: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(programs / program), *arguments]
        return subprocess.Popen(command, cwd=data, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    made = start("initdb", "--pgdata", str(data), "--username", "interlock", "--auth", "trust", "--no-sync")
    assert made.wait(_WITHIN) == 0, "initdb failed"
    port = str(20_000 + os.getpid() % 12_000)
    server = start("postgres", "-D", str(data), "-h", "127.0.0.1", "-p", port, "-k", str(data), "-F")
    try:
        while start("pg_isready", "--host", "127.0.0.1", "--port", port).wait() != 0:
            assert server.poll() is None, "Postgres does not start"
        yield f"postgresql://interlock@127.0.0.1:{port}/postgres"
    finally:
        server.terminate()
        server.wait()


def _run(*command: str | Path) -> str:
    """What a command prints. Ends the program if it fails."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=_WITHIN, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    """See the usage above."""
    match sys.argv[1:]:
        case [folder, *binary] if len(binary) <= 1:
            artefacts = Path(folder).resolve()
            missing = [tool for tool in ("buildah", "mmdebstrap") if shutil.which(tool) is None]
            if missing:
                print(f"--  Containerfile was not tried: apt-get install {' '.join(missing)}")
                return
            smoke(artefacts, Path(binary[0]).resolve() if binary else artefacts / "interlock")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
