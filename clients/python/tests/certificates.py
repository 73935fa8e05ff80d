"""Certificates for tests, made with the openssl program."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Pair:
    """A certificate and its private key, as PEM files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority with a directory of its own."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self.certificate = directory / "ca.pem"
        self._key = directory / "ca.key"
        _openssl(
            *("req", "-x509", "-days", "2", "-subj", "/CN=Test authority"),
            *("-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"),
            *_new_key(self._key),
            *("-out", str(self.certificate)),
        )

    def issue(self, name: str, *, names: str = "DNS:localhost,IP:127.0.0.1") -> Pair:
        """A certificate with these subject alternative names."""
        pair = Pair(self._directory / f"{name}.pem", self._directory / f"{name}.key")
        _openssl(
            *("req", "-x509", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", "basicConstraints=critical,CA:FALSE", "-addext", f"subjectAltName={names}"),
            *("-CA", str(self.certificate), "-CAkey", str(self._key)),
            *_new_key(pair.key),
            *("-out", str(pair.certificate)),
        )
        return pair


def _new_key(path: Path) -> tuple[str, ...]:
    return ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", str(path))


def _openssl(*arguments: str) -> None:
    program = shutil.which("openssl")
    assert program is not None, "openssl is missing, which Postgres of Debian brings along"
    subprocess.run([program, *arguments], check=True, capture_output=True, timeout=30)
