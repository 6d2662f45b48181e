"""Networks to connect containers to, and what is seen of that inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.support.host import GATEWAY

if TYPE_CHECKING:
    from tests.support.host import Container, Host

FRONT: Final = '[network.front]\nbridge = "front0"\nsubnets = ["172.21.0.0/24", "fd00:21::/64"]\n'
BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24", "fd00:22::/64"]\n'
INNER: Final = '[network.inner]\nbridge = "inner0"\nsubnets = ["172.23.0.0/24"]\ninternal = true\n'
NOTHING_TO_DO: Final = "nothing to do\n"
PLAIN_RULES: Final = [0, 32766, 32767]
"""The priorities of the routing rules of a namespace that has one network, or none."""


def server(host: Host, name: str, network: str) -> Container:
    """A container of one network with a server on port 80."""
    container = host.attach(name, annotations={"io.watcher.network": network})
    container.serve(tcp=(80,), udp=(80,))
    return container


def on(container: Container, interface: str, version: int = 4) -> str:
    """The address of an interface."""
    found = [
        address.split("/")[0]
        for address in container.place.addresses(interface)
        if (":" in address) == (version == 6)
    ]
    assert len(found) == 1, found
    return found[0]


def defaults(container: Container, version: int = 4) -> list[tuple[str, str]]:
    """Gateway and interface of each default route of the main table."""
    routes = container.place.ip(f"-{version}", "route")
    return [(r["gateway"], r["dev"]) for r in routes if r["dst"] == "default"]


def rules(container: Container, version: int = 4) -> list[int]:
    """The priorities of the routing rules inside."""
    return [rule["priority"] for rule in container.place.ip(f"-{version}", "rule")]


def tables(container: Container) -> list[str]:
    """The routes of all tables of policy routes."""
    return [
        f"{route['table']} {route['dst']}"
        for version in (4, 6)
        for route in container.place.ip(f"-{version}", "route", "show", "table", "all")
        if str(route.get("table", "")) in [str(number) for number in range(100, 110)]
    ]


def refused(host: Host, *args: str, status: int = 1) -> str:
    """What `watcher ARGS` says in its one line, as it fails."""
    done = host.watcher(*args, check=False)
    assert done.returncode == status, done
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line.removeprefix("watcher: ")


def is_right(host: Host) -> bool:
    """Neither a preview nor a sync finds anything to do."""
    assert host.watcher("sync", "--dry-run").stdout == NOTHING_TO_DO
    assert host.watcher("sync").stdout == NOTHING_TO_DO
    return True


def as_never_connected(container: Container) -> None:
    """Nothing inside is left of a second network."""
    assert container.place.links() == {"lo", "eth0"}
    assert rules(container) == PLAIN_RULES
    assert rules(container, 6) in ([0, 32766], PLAIN_RULES)
    assert tables(container) == []
    assert defaults(container) == [(GATEWAY, "eth0")]
