"""What `watcher inspect` tells of a container and DNS: what it is called, and who it asks."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from handlers.kernel import mounts
from handlers.resolv_conf import DIRECTORY
from watcher.feed.lines import ContainerPart
from watcher.observe.naming import Naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from watcher.commands.status import Entry
    from watcher.config.settings import Config
    from watcher.model.network import Network


def resolving(config: Config, entry: Entry) -> dict[str, object]:
    """As JSON: `names` that others ask for, and what the container itself gets.

    The names are there if a network of it has names, whether or not the name service runs.
    """
    networks = _networks(config, entry)
    asks, servers = _asked(config, entry, networks)
    return {
        "names": list(_names(config, entry, networks)),
        "hostname": entry.member.asked.hostname if entry.member else "",
        "asks": asks,
        "servers": servers,
        "resolv_conf": _resolv_conf(config.run_dir, entry.pid) if entry.pid else None,
    }


def _networks(config: Config, entry: Entry) -> list[Network]:
    """Its networks that have names."""
    names = entry.sandbox.networks if entry.sandbox else ()
    known = [config.networks[name] for name in dict.fromkeys(names) if name in config.networks]
    return [network for network in known if network.named]


def _names(config: Config, entry: Entry, networks: Sequence[Network]) -> Iterator[str]:
    if not networks:
        return
    part = ContainerPart(entry.root, entry.id, names=entry.names)
    for raw in Naming(config.roots).names_of(part):
        name = raw.decode()
        yield name
        yield f"{name}.{config.names.domain}"
        for network in networks:
            yield f"{name}.{network.name.lower()}.{config.names.domain}"


def _asked(config: Config, entry: Entry, networks: Sequence[Network]) -> tuple[str, list[str]]:
    """Who is asked for what is no name of ours: where that is said, and the servers."""
    if not networks:
        return "", []
    if all(network.internal for network in networks):
        return "nobody: its networks are internal", []
    members = entry.sandbox.members if entry.sandbox else ()
    own = next((member.asked.dns for member in members if member.asked.dns), None)
    if own and networks[0].guard:
        return "io.watcher.dns", [str(server) for server in own]
    if config.names.servers:
        return "[names] servers", [str(server) for server in config.names.servers]
    return "the host's resolv.conf", []


def _resolv_conf(run_dir: str, pid: int) -> str | None:
    """The file of ours that is mounted in the container; `None` if none is.

    Source: proc_pid_mountinfo(5). Where in the container it is mounted depends on what its
    `/etc/resolv.conf` leads to.
    """
    directory = f"{run_dir}/{DIRECTORY}"
    with suppress(OSError):
        own = mounts.mount_of(directory)
        real = str(Path(directory).resolve())
        inside = f"{own.root.rstrip('/')}{real.removeprefix(own.point.rstrip('/'))}/"
        for line in Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines():
            mount = mounts.parse(line)
            if mount.device == own.device and mount.root.startswith(inside):
                return f"{directory}/{mount.root.removeprefix(inside)}"
    return None
