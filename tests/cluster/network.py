"""A network of hosts on this machine, each a network namespace on one bridge.

The program that makes it runs in a namespace of its own (`unshare`), which is the network's
switch and where callers are. Nothing of it is seen by, or left on, the machine: namespaces
end with the last process in them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from miao_worker import cli
from tests.chaos.process import Host
from tests.forked_worker import Main

SWITCH_ADDRESS = "10.77.0.254"
_BRIDGE = "switch"
_PROGRAMS = ("ip", "nsenter", "unshare")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET
# As root of the machine; as anybody, where user namespaces are allowed.
_WAYS = (("unshare", "--net"), ("unshare", "--net", "--map-root-user"))


class NamespaceHost(Host):
    """A host: its namespace lives as long as a process that does nothing does."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,  # ends with this process
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        self._holder.stdout.readline()
        self._place = f"/proc/{self._holder.pid}/ns/net"
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", self._pid)
        _ip("link", "set", name, "master", _BRIDGE, "up")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self.run("ip", "link", "set", device, "up")

    @property
    def _pid(self) -> str:
        return str(self._holder.pid)

    @property
    def worker_main(self) -> Main:
        return functools.partial(_work_in, self._place)

    def command(self, command: Sequence[str]) -> list[str]:
        return [str(shutil.which("nsenter")), f"--net={self._place}", "--", *command]

    def run(self, *command: str) -> None:
        """Run a command there, to its end."""
        subprocess.run(self.command(command), check=True)

    def cut(self) -> None:
        """Pull its cable: nothing comes or goes, and nobody is told."""
        _ip("link", "set", self.name, "down")

    def join(self) -> None:
        """Put its cable back."""
        _ip("link", "set", self.name, "up")

    def deafen(self, to: NamespaceHost) -> None:
        """Let nothing that is sent to another host arrive; what comes from there still does."""
        self.run("ip", "route", "add", "blackhole", f"{to.address}/32")

    def undeafen(self, to: NamespaceHost) -> None:
        self.run("ip", "route", "delete", "blackhole", f"{to.address}/32")

    def close(self) -> None:
        self._holder.kill()
        self._holder.communicate()


@contextmanager
def network(names: Sequence[str]) -> Iterator[dict[str, NamespaceHost]]:
    """Hosts of these names, all of which reach each other and are reached from here."""
    _ip("link", "set", "lo", "up")
    _ip("link", "add", _BRIDGE, "type", "bridge")
    _ip("address", "add", f"{SWITCH_ADDRESS}/24", "dev", _BRIDGE)
    _ip("link", "set", _BRIDGE, "up")
    hosts: dict[str, NamespaceHost] = {}
    try:
        for number, name in enumerate(names, start=1):
            hosts[name] = NamespaceHost(name, f"10.77.0.{number}")
        yield hosts
    finally:
        for host in hosts.values():
            host.close()
        _ip("link", "delete", _BRIDGE)


def in_own_namespace(command: Sequence[str]) -> list[str]:
    """The command that runs this one in a namespace of its own, where it may make a network.

    Raises OSError with the reason where this machine does not allow that.
    """
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise OSError(f"there is no {', '.join(missing)}")
    trial = ["ip", "link", "add", "trial", "type", "bridge"]
    for way in _WAYS:
        tried = subprocess.run([*way, *trial], capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return [*way, *command]
    raise OSError(f"no network namespaces can be made here: {tried.stderr.strip()}")


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _work_in(place: str, arguments: list[str]) -> int:
    """Be a worker in this namespace: all threads and processes that come are there too."""
    namespace = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(namespace, _NEW_NETWORK):
        number = ctypes.get_errno()
        sys.exit(f"{place} cannot be entered: {os.strerror(number)}")
    os.close(namespace)
    return cli.main(arguments)
