"""The address of a server, checked before gRPC takes it for something else.

Without these checks gRPC takes `http://host:port` for a name to be resolved, and `host` for `host:443`, and calls fail
only when their time is over.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import unquote

from interlock.documents import described

_EXAMPLE = '"127.0.0.1:50051"'
# What gRPC resolves by itself. The first have ports.
_WITH_PORTS = ("dns", "ipv4", "ipv6")
_WITHOUT_PORTS = ("unix", "unix-abstract", "vsock", "xds", "google-c2p")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*):(?!\d+$)", re.IGNORECASE)


def check_address(address: str) -> str:
    """The address, if it can be one.

    Raises:
        TypeError: it is no text.
        ValueError: it is not HOST:PORT, nor one of gRPC's own kinds of names.
    """
    if not isinstance(address, str):
        raise TypeError(f"the address is a text such as {_EXAMPLE}, not {described(address)}")
    scheme = _SCHEME.match(address)
    # A bracket or a second colon makes it an IPv6 address.
    name = scheme[1].lower() if scheme is not None else ""
    if name in ("http", "https") or ("://" in address and name not in (*_WITH_PORTS, *_WITHOUT_PORTS)):
        rest = re.sub(r"^:/*", "", address[len(name) :]).partition("/")[0]
        example = f'"{rest}"' if _fault(rest) is None else f"host and port, such as {_EXAMPLE}"
        tls = ", and TLS by `credentials`" if name in ("https", "grpcs") else ""
        raise ValueError(f"the address {address!r} begins with {name}:, which gRPC does not know: write {example}{tls}")
    if name in _WITHOUT_PORTS:
        return address
    targets = address
    if name in _WITH_PORTS:
        # As in `dns://authority/host:port`.
        targets = unquote(re.sub(r"^//[^/]*/", "", address[len(name) + 1 :]))
    for target in targets.split(",") if name in ("ipv4", "ipv6") else [targets]:
        if (fault := _fault(target)) is not None:
            raise ValueError(f"the address {address!r} {fault}")
    return address


def _is_ipv6(text: str) -> bool:
    """Whether it is such an address, without brackets."""
    try:
        return ipaddress.ip_address(text).version == 6
    except ValueError:
        return False


def _fault(target: str) -> str | None:
    """What is wrong with HOST:PORT. None: nothing."""
    host, colon, port = target.rpartition(":")
    fault = None
    if re.search(r"[\s/@?#]", target):
        fault = f"has a character that no host has: write host and port, such as {_EXAMPLE}"
    elif "," in target:
        fault = 'is a list: write "ipv4:" or "ipv6:" and addresses with ports, not names'
    elif _is_ipv6(target):
        fault = f'is an IPv6 address without a port: write "[{target}]:50051", if that is the port of the server'
    elif not colon or target.endswith("]"):
        fault = f'has no port: write "{target or "127.0.0.1"}:50051", if that is the port of the server'
    elif not host:
        fault = f'has no host: write "127.0.0.1:{port}" for a server on this machine'
    elif ":" in host and not (host.startswith("[") and host.endswith("]")):
        fault = f'is an IPv6 address without brackets: write "[{host}]:{port}"'
    elif not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        fault = f"has no port from 1 to 65535 after its colon: write host and port, such as {_EXAMPLE}"
    return fault
