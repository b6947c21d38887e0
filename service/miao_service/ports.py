"""Ports: whether one is free, said in one clear sentence, and one held for several processes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from miao_service.settings import parse_address


class BindError(OSError):
    """The address cannot be listened on."""


def check_free(listen: str) -> int:
    """A port that could be listened on this moment; BindError if there is none."""
    family, address = _resolve(listen)
    with socket.socket(family) as probe:
        # Past connections on the port do not count, a listener does.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return _bind(probe, address, listen)


@contextlib.contextmanager
def reserved(listen: str) -> Iterator[int]:
    """A port that is free now and stays ours, though nothing listens here.

    Others may listen on it with SO_REUSEPORT.
    """
    port = check_free(listen)
    family, address = _resolve(listen)
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(holder, (address[0], port, *address[2:]), listen)
        yield port


def _resolve(listen: str) -> tuple[socket.AddressFamily, tuple[object, ...]]:
    host, port = parse_address(listen)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise BindError(f"cannot listen on {listen}: the host is not known") from error
    return found[0][0], found[0][4]


def _bind(bound: socket.socket, address: tuple[object, ...], listen: str) -> int:
    try:
        bound.bind(address)
    except OSError as error:
        raise BindError(f"cannot listen on {listen}: {error.strerror}") from error
    return int(bound.getsockname()[1])
