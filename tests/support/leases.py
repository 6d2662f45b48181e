"""Leases for tests: networks, containers, and what a store has of them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from ipaddress import IPv4Network, IPv6Network, ip_address
from pathlib import Path

from tests.support.paths import REPOSITORY
from watcher.model.container import Container, Namespace, Process
from watcher.model.network import Network
from watcher.model.request import PortMap
from watcher.model.sandbox import Sandbox
from watcher.store.leases import LeaseStore

DEFAULT = Network()
DUAL = Network(
    name="dual", subnets=(IPv6Network("fd00::/64"), IPv4Network("10.8.0.0/24")), interface="net0"
)
HTTP = PortMap("tcp", None, 8080, 80)
ROOT = "/run/runc"


def container(id: str, pid: int = 100, *, root: str = ROOT, **labels: str) -> Container:  # noqa: A002
    """A container with a pid and namespace of its own."""
    return Container(
        root, id, Process(pid, pid * 7), "/b", labels, Namespace.OWN, "", 4026532000 + pid
    )


def port(text: str | None, host_port: int = 8080, target: int = 80) -> PortMap:
    """A TCP port map of one address of the host, or of all."""
    return PortMap("tcp", None if text is None else ip_address(text), host_port, target)


def addresses(sandbox: Sandbox) -> list[str]:
    """The addresses of a sandbox's interfaces, with their prefix lengths."""
    return [str(address) for link in sandbox.interfaces for address in link.addresses]


def content(path: Path) -> list[Sandbox]:
    """What a reader finds in a store's file."""
    with LeaseStore.open(path, read_only=True) as copy:
        return copy.sandboxes()


def rows(store: LeaseStore, table: str) -> int:
    """How many rows a table of the file has."""
    with store._database.reading() as db:
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    return int(count)


def python(script: str, *arguments: object, prefix: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    """Starts a Python that imports this program, with `script` and its arguments."""
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
