"""Hosts with sandboxes that are held to lists of destinations.

Few of them are real: the others are only what the firewall has of them, which is all that a packet
or an attach comes upon.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from bench.contenders.packets import OfWatcher
from bench.contenders.program import Program
from handlers.firewall.classids import classid
from handlers.firewall.egress import fields
from handlers.kernel.nft import Element, Nft, commands
from watcher.model.policy.access import AccessList
from watcher.model.policy.entries import parse_list

ENTRIES: Final = 20
"""Entries of a list."""

_FIRST: Final = 1_000_000
"""The number of the first list that no real sandbox is held to."""

_FAR: Final = "192.0.2.1,172.19.0.1"
"""Whom the sandboxes are to reach."""


def entries(number: int) -> str:
    """A list like no other: `ENTRIES` prefixes, each with a port, of which two are for all."""
    first = int(IPv4Address("100.0.0.0"))
    base = first + number * 256 * ENTRIES
    some = (f"{IPv4Address(base + 256 * n)}/24:{n + 1}/tcp" for n in range(ENTRIES - 2))
    return ",".join((_FAR, *some))


def fill(sandboxes: int, lists: int) -> None:
    """Add what the firewall has of so many sandboxes, held to so many lists in turn."""
    nft = Nft()
    boxes, addresses = [], []
    for number in range(lists):
        access = AccessList("egress", (parse_list(entries(number), "egress"),))
        id_ = classid(_FIRST + number)
        boxes += [Element("inet", "to4", (id_, *fields(box))) for box in access.boxes(4)]
    for number in range(sandboxes):
        address = str(IPv4Address("10.0.0.0") + number)
        value = (classid(_FIRST + number % lists),)
        addresses.append(Element("inet", "limited4", (address, address)))
        addresses.append(Element("inet", "egress4", (address,), value))
    nft.run(commands("add", sorted((*boxes, *addresses))))


class Sending(OfWatcher):
    """Two real sandboxes that exchange packets, and others.

    Args:
        held: the number of the one that is held to a list; -1 for neither.
        sandboxes, lists: how many there are beside.
    """

    def __init__(
        self, base: Path, directory: Path, held: int = -1, sandboxes: int = 0, lists: int = 0
    ) -> None:
        self._held = held
        super().__init__(base, directory)
        if lists:
            fill(sandboxes, lists)

    def asked(self, number: int) -> dict[str, str]:
        """With a list, if it is the one."""
        asked = super().asked(number)
        return asked | ({"io.watcher.egress": entries(0)} if number == self._held else {})


class Attaching(Program):
    """Sandboxes that come and go, held to lists.

    Args:
        lists: `one` that is there already; a `new` one each.
        sandboxes, others: how many there are beside, and how many lists.
        subnets: of their network, if not the usual one.
    """

    def __init__(
        self, base: Path, directory: Path, lists: str,
        sandboxes: int = 0, others: int = 0, subnets: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(base, directory, subnets=subnets)
        self._lists = lists
        self.prepare(0)
        self.attach(0)
        if others:
            fill(sandboxes, others)

    def asked(self, number: int) -> dict[str, str]:
        """Its list."""
        return {"io.watcher.egress": entries(0 if self._lists == "one" else number)}
