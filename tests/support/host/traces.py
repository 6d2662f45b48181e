"""What the watcher has left on a host: links, pins, rules and leases."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

from handlers.firewall.elements import SHARED
from handlers.firewall.remote import is_of_cluster
from tests.support.host.addresses import SUBNET
from tests.support.host.watched import Watched


class Traces(Watched):
    """A host on which what is there of sandboxes can be seen, without asking the watcher."""

    def pins(self) -> set[str]:
        """The names below the directory of pins."""
        directory = self.seen(self.netns_dir)
        return {path.name for path in directory.iterdir()} if directory.exists() else set()

    def pin_inode(self, name: str) -> int:
        """Number of the namespace that a pin leads to."""
        return self.seen(self.netns_dir / name).stat().st_ino

    def veths(self) -> set[str]:
        """The host ends of veth pairs that are the watcher's."""
        return {name for name in self.here.links() if name.startswith("netnsv")}

    def elements(self) -> list[str]:
        """The elements of the watcher's nftables sets and maps that are of one sandbox."""
        return [
            f"{entry['name']}: {json.dumps(element)}"
            for item in self.nft_list()
            for kind, entry in item.items()
            if kind in ("set", "map")
            and entry["table"] == "watcher"
            and entry["name"] not in SHARED
            and not is_of_cluster(entry["name"])
            for element in entry.get("elem", ())
            if not _goes_by_itself(element) and any(map(_of_a_sandbox, _leaves(element)))
        ]

    def leases(self) -> dict[str, str]:
        """The addresses that `leases.db` holds as taken, each with the container that has it."""
        file = self.state_dir / "leases.db"
        if not file.exists():
            return {}
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            return dict(
                database.execute("SELECT address, id FROM address WHERE sandbox IS NOT NULL")
            )

    def known(self) -> tuple[set[str], set[str]]:
        """What `leases.db` has: the containers, and the host ends of their links."""
        file = self.state_dir / "leases.db"
        with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
            members = database.execute("SELECT id FROM member").fetchall()
            links = database.execute("SELECT host_name FROM interface").fetchall()
        return {id_ for (id_,) in members}, {name for (name,) in links}

    def leftovers(self) -> list[str]:
        """What of any sandbox is on this host: veth pairs, pins, nftables elements, leases."""
        return [
            *sorted(self.veths()),
            *(f"pin {name}" for name in sorted(self.pins())),
            *self.elements(),
            *(f"lease {address} of {name}" for address, name in self.leases().items()),
        ]


def _goes_by_itself(element: object) -> bool:
    """Whether an element, which the kernel has made of a packet, has a time after which it goes."""
    return isinstance(element, Mapping) and "expires" in element.get("elem", {})


def _leaves(element: object) -> Iterator[object]:
    if isinstance(element, Mapping):
        for key, value in element.items():
            if key not in ("timeout", "expires", "comment", "packets", "bytes"):
                yield from _leaves(value)
    elif isinstance(element, list):
        for value in element:
            yield from _leaves(value)
    else:
        yield element


def _of_a_sandbox(leaf: object) -> bool:
    if isinstance(leaf, int):
        return True
    if not isinstance(leaf, str):
        return False
    if leaf.startswith("netnsv"):
        return True
    try:
        address = ip_address(leaf)
    except ValueError:
        return False
    subnet = ip_network(SUBNET)
    return address in subnet and address not in (subnet[0], subnet[1])
