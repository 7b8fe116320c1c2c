"""Hosts with network namespaces of their own on a bridge, one of which can be cut off (root)."""

import contextlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator

from flink_cluster import Place


def missing() -> str | None:
    """Why there can be no namespaces here; None if there can."""
    if os.geteuid():
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command ip (package iproute2)"
    return None


class Network:
    """A bridge with an address, and hosts behind it.

    Attributes:
        address: of this side.
        places: of the hosts.
    """

    def __init__(self, num_hosts: int):
        self._name = f"dm{secrets.token_hex(3)}"  # of an interface: 15 characters
        # Set aside for trying networks out (RFC 2544), and so in use nowhere.
        net = f"198.18.{secrets.randbelow(256)}"
        self.address = f"{net}.1"
        self._hosts = [f"{self._name}h{i}" for i in range(num_hosts)]
        self.places = [
            Place(f"{net}.{i + 2}", ("ip", "netns", "exec", host))
            for i, host in enumerate(self._hosts)
        ]

    def start(self) -> None:
        _ip("link", "add", self._name, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")
        for host, place in zip(self._hosts, self.places, strict=True):
            _ip("netns", "add", host)
            peer = ("type", "veth", "peer", "name", "eth0", "netns", host)
            _ip("link", "add", host, *peer)
            _ip("link", "set", host, "master", self._name, "up")
            _ip("-n", host, "link", "set", "lo", "up")
            _ip("-n", host, "address", "add", f"{place.address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")

    def cut(self, host: int, seconds: float) -> None:
        """Nothing comes from or to a host for so long; what runs there talks among itself."""
        _ip("link", "set", self._hosts[host], "down")
        try:
            time.sleep(seconds)
        finally:
            _ip("link", "set", self._hosts[host], "up")

    def stop(self) -> None:
        for host in self._hosts:
            for command in (("link", "del", host), ("netns", "del", host)):
                with contextlib.suppress(subprocess.CalledProcessError):
                    _ip(*command)
        with contextlib.suppress(subprocess.CalledProcessError):
            _ip("link", "del", self._name)


@contextlib.contextmanager
def network(num_hosts: int) -> Iterator[Network]:
    made = Network(num_hosts)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=30)
