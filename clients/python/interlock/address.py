"""The address of a server, checked before gRPC misreads it.

Without these checks gRPC reads `host` as `host:443` and any malformed address as a DNS name, and calls fail only at
their deadline.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

from interlock.documents import described

_EXAMPLE = '"127.0.0.1:50051"'
# Schemes that gRPC resolves by itself. Addresses of these have ports.
_WITH_PORTS = ("dns", "ipv4", "ipv6")
_WITHOUT_PORTS = ("unix", "unix-abstract", "vsock", "xds", "google-c2p")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(?!\d+$)", re.IGNORECASE)


# Schemes that gRPC does not know, with the default port of each.
_URLS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """A parsed address of one or more servers."""

    target: str
    """The target in the form of gRPC."""
    scheme: str
    """`http`, `https`, or a scheme of gRPC such as `ipv4`. Empty: host and port alone."""

    @property
    def is_here(self) -> bool:
        """Whether the address leads to this machine alone."""
        if self.scheme in ("unix", "unix-abstract"):
            return True
        targets = self.target.removeprefix(f"{self.scheme}:").split(",")
        hosts = [target.rpartition("/")[2].rpartition(":")[0].strip("[]") for target in targets]
        return all(host == "localhost" or _is_loopback(host) for host in hosts)


def parse_address(address: str) -> Address:
    """Parses an http or https URL, HOST:PORT, or a name in a scheme of gRPC.

    Raises:
        TypeError: the address is not a str.
        ValueError: the address has none of these forms.
    """
    if not isinstance(address, str):
        raise TypeError(f"the address is a text such as {_EXAMPLE}, not {described(address)}")
    scheme = _SCHEME.match(address)
    # A bracket or a second colon makes it an IPv6 address.
    name = scheme[1].lower() if scheme is not None else ""
    if name in _URLS and "://" in address:
        target = re.sub(r"/$", "", address[len(name) + 3 :])
        if target and not _is_ipv6(target) and re.search(r":\d+$", target) is None:
            target = f"{target}:{_URLS[name]}"
        if (fault := _fault(target, f"{name}://")) is not None:
            raise ValueError(f"the address {address!r} {fault}")
        return Address(target, name)
    if name in _URLS or ("://" in address and name not in (*_WITH_PORTS, *_WITHOUT_PORTS)):
        rest = re.sub(r"^:/*", "", address[len(name) :]).partition("/")[0]
        example = f'"{rest}"' if _fault(rest) is None else f"host and port, such as {_EXAMPLE}"
        tls = f', or "https://{rest}" for TLS' if name in ("https", "grpcs") and _fault(rest) is None else ""
        raise ValueError(
            f"the address {address!r} begins with {name}:, which is no kind of address: write {example}{tls}"
        )
    if name in _WITHOUT_PORTS:
        return Address(address, name)
    targets = address
    if name in _WITH_PORTS:
        # As in `dns://authority/host:port`.
        targets = unquote(re.sub(r"^//[^/]*/", "", address[len(name) + 1 :]))
    for target in targets.split(",") if name in ("ipv4", "ipv6") else [targets]:
        if (fault := _fault(target)) is not None:
            raise ValueError(f"the address {address!r} {fault}")
    return Address(address, name if name in _WITH_PORTS else "")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_ipv6(text: str) -> bool:
    """Whether the text is an IPv6 address, without brackets."""
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _fault(target: str, start: str = "") -> str | None:
    """The fault of a HOST:PORT, with a correct example that begins with `start`. None: no fault."""
    host, colon, port = target.rpartition(":")
    fault = None
    if re.search(r"[\s/@?#]", target):
        fault = f"has a character that no host has: write host and port, such as {_EXAMPLE}"
    elif "," in target:
        fault = 'is a list: write "ipv4:" or "ipv6:" and addresses with ports, not names'
    elif _is_ipv6(target):
        fault = f'is an IPv6 address without a port: write "{start}[{target}]:50051", if that is the port of the server'
    elif not colon or target.endswith("]"):
        fault = f'has no port: write "{start}{target or "127.0.0.1"}:50051", if that is the port of the server'
    elif not host:
        fault = f'has no host: write "{start}127.0.0.1:{port}" for a server on this machine'
    elif ":" in host and not (host.startswith("[") and host.endswith("]")):
        fault = f'is an IPv6 address without brackets: write "{start}[{host}]:{port}"'
    elif not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        fault = f"has no port from 1 to 65535 after its colon: write host and port, such as {_EXAMPLE}"
    return fault
