"""The interface of a contender: a namespace to begin with, and timed attach and detach."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path

from bench.native import Sleepers

type Times = dict[str, float]
"""Seconds by the name of a step; `all` is the total."""

FIRST_PORT = 20_000
"""Sandbox number `n` publishes its port 80 as this and `n`."""


class Contender:
    """The common part of all contenders: sandboxes by number, each a sleeping process.

    Args:
        base: the directory of this run, with the compiled programs in it.
        directory: a directory for its own.
    """

    def __init__(self, base: Path, directory: Path) -> None:
        self.directory = directory
        self.programs = base
        self._sleepers = Sleepers(base)
        self.pids: dict[int, int] = {}

    def close(self) -> None:
        """End everything that was started."""
        self._sleepers.close()

    def prepare(self, number: int) -> None:
        """Make the empty namespace number `number`."""
        self.pids[number] = self._sleepers.new()

    def discard(self, number: int) -> None:
        """End that namespace."""
        self._sleepers.end(self.pids.pop(number))

    def attach(self, number: int) -> Times:
        """Give namespace `number` its network, and publish its port."""
        raise NotImplementedError

    def detach(self, number: int) -> Times:
        """Undo :meth:`attach`."""
        raise NotImplementedError


def name_of(number: int) -> str:
    """The container id of sandbox `number`."""
    return f"sandbox-{number}"


def address_of(number: int) -> str:
    """An address for sandbox `number` of 172.19.0.0/16, for contenders that need one."""
    return str(IPv4Address("172.19.0.2") + number)


def mac_of(number: int) -> str:
    """A MAC that goes with it."""
    return "02:42:" + IPv4Address(address_of(number)).packed.hex(":")
