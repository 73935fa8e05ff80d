"""Address, TLS and API key of a connection: each from an argument, or else from the environment."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import grpc

from interlock.address import Address, parse_address
from interlock.documents import described

log = logging.getLogger("interlock.client")

Pem: TypeAlias = "str | os.PathLike[str] | bytes"
"""The path of a PEM file, or the content of one as bytes."""

DEFAULT_ADDRESS = "127.0.0.1:50051"
_KEY = re.compile(r"[!-~]+")


class Access:
    """Address and credentials for one connection. Its `repr` shows no secret."""

    def __init__(
        self,
        address: str | None,
        *,
        namespace: str | None,
        api_key: str | None,
        ca: Pem | None,
        certificate: Pem | None,
        private_key: Pem | None,
        credentials: grpc.ChannelCredentials | None,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        """Reads missing arguments from the environment and checks all values; an empty variable counts as unset.

        Raises:
            ValueError: a value can never work, or two of them exclude each other.
            OSError: a file cannot be read.
        """

        def variable(name: str) -> str | None:
            return environment.get(name) or None

        self.address = address if address is not None else variable("INTERLOCK_SERVER") or DEFAULT_ADDRESS
        parsed = parse_address(self.address)
        self.target = parsed.target
        self.namespace = namespace if namespace is not None else variable("INTERLOCK_NAMESPACE")
        if credentials is not None:
            for name, given in (("ca", ca), ("certificate", certificate), ("private_key", private_key)):
                if given is not None:
                    raise ValueError(f"{name} and credentials are two ways to say the same: give one of them")
            if parsed.scheme == "http":
                raise ValueError(f"credentials need an address that begins with https://, not {self.address!r}")
            self.credentials: grpc.ChannelCredentials | None = credentials
        else:
            ca = ca if ca is not None else variable("INTERLOCK_CA")
            if certificate is None and private_key is None:
                certificate, private_key = variable("INTERLOCK_CERT"), variable("INTERLOCK_CERT_KEY")
            self.credentials = _credentials(self.address, parsed, ca, certificate, private_key)
        key = api_key if api_key is not None else variable("INTERLOCK_API_KEY")
        self.authorization = None if key is None else f"Bearer {_checked(key)}"
        if key is not None and self.credentials is None and not parsed.is_here:
            log.warning("the API key is sent unencrypted to %s: use an address that begins with https://", self.address)


def _credentials(
    address: str, parsed: Address, ca: Pem | None, certificate: Pem | None, private_key: Pem | None
) -> grpc.ChannelCredentials | None:
    """Credentials for the channel. None: plaintext."""
    if (certificate is None) != (private_key is None):
        missing = "private_key (INTERLOCK_CERT_KEY)" if private_key is None else "certificate (INTERLOCK_CERT)"
        raise ValueError(f"{missing} is missing: a client certificate goes with its private key")
    is_secure = parsed.scheme == "https" or (parsed.scheme not in ("", "http") and ca is not None)
    if not is_secure:
        for name, given in (("ca (INTERLOCK_CA)", ca), ("certificate (INTERLOCK_CERT)", certificate)):
            if given is not None:
                raise ValueError(f"{name} needs an address that begins with https://, not {address!r}")
        return None
    return grpc.ssl_channel_credentials(
        root_certificates=None if ca is None else _pem(ca, "ca", b"CERTIFICATE"),
        private_key=None if private_key is None else _pem(private_key, "private_key", b"PRIVATE KEY"),
        certificate_chain=None if certificate is None else _pem(certificate, "certificate", b"CERTIFICATE"),
    )


def _pem(given: Pem, parameter: str, kind: bytes) -> bytes:
    """The content of a PEM file."""
    if not isinstance(given, str | bytes | os.PathLike):
        raise TypeError(f"{parameter} is the path of a PEM file, or its content as bytes, not {described(given)}")
    content = given if isinstance(given, bytes) else Path(given).read_bytes()
    if kind + b"-----" not in content:
        where = "" if isinstance(given, bytes) else f": {os.fspath(given)!r}"
        raise ValueError(f"{parameter} holds no {kind.decode().lower()} in PEM{where}")
    return content


def _checked(key: str) -> str:
    """The key, if it can be sent. Errors do not show it."""
    if not isinstance(key, str):
        raise TypeError(f"api_key is a text, not {described(key)}")
    if _KEY.fullmatch(key.strip()) is None:
        raise ValueError("api_key (INTERLOCK_API_KEY) is empty or has a character that no key has, such as a space")
    return key.strip()
