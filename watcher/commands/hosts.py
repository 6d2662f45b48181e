"""`watcher hosts ls` and `watcher hosts rm HOST`."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

from watcher.checks.cluster.reached import reached
from watcher.cluster.asking import client
from watcher.cluster.endpoints.reading import NoHosts
from watcher.cluster.known import (
    KnownHost,
    KnownHosts,
    counted,
    from_picture,
    from_socket,
    from_store,
)
from watcher.clustering.identity import host_name
from watcher.commands.output import print_json, print_table
from watcher.locks.serving import serving
from watcher.model.cluster import block_prefix, claim_of, is_claim
from watcher.model.errors import WatcherError, message_of, printable, quoted
from watcher.store.reading import read_store

if TYPE_CHECKING:
    from watcher.cluster.registry.keys import Part
    from watcher.config.settings import Config

HEADER: Final = ("HOST", "ADDRESS", "STATE", "BLOCKS", "CLAIMS", "REACHED")


def run(config: Config, options: argparse.Namespace) -> int:
    """Print the hosts, or remove one.

    Raises:
        WatcherError: this host has no cluster; there is no such host, or it lives.
    """
    if not config.cluster.etcd:
        raise WatcherError(
            "this host is in no cluster", 'write etcd = ["https://…:2379"] below [cluster]'
        )
    if options.action == "rm":
        return _remove(config, options.host, force=options.force)
    return _list(config, options)


def _list(config: Config, options: argparse.Namespace) -> int:
    """Print a row for each host; 1 if what is printed is not of now."""
    known, problem = _known(config)
    ways = reached(config.networks.values(), known.hosts.values())
    if options.json:
        print_json([_as_json(host, ways) for host in known.hosts.values()])
    else:
        print_table(HEADER, [_row(host, ways) for host in known.hosts.values()])
    if problem:
        sys.stdout.flush()
        sys.stderr.write(printable(f"watcher: {problem}") + "\n")
    return int(not known.connected)


def _known(config: Config) -> tuple[KnownHosts, str]:
    """The hosts, and why they are not as they are now, or what is wrong; empty: nothing is."""
    try:
        known = from_socket(config.run_dir)
    except NoHosts as error:
        return _without_cluster(config, error)
    if not known.connected:
        return known, f"etcd does not answer, and this is what it said last: {known.problem}"
    return known, known.problem


def _without_cluster(config: Config, error: WatcherError) -> tuple[KnownHosts, str]:
    """What etcd says, or else what the service was told last."""
    from watcher.cluster.registry.keys import Keys
    from watcher.cluster.registry.removal import read_picture

    async def read() -> KnownHosts:
        async with client(config.cluster) as etcd:
            return from_picture(config, await read_picture(etcd, Keys(config.cluster.prefix)))

    try:
        return asyncio.run(read()), str(error)
    except WatcherError as other:
        try:
            with read_store(config) as store:
                known = from_store(config, store)
        except WatcherError as third:
            what = f"{error.what}; {other.what}; {third.what}"
            raise WatcherError(what, error.remedy) from None
        last = f"{error.what}, and {other.what}: this is what the service was told last"
        return known, f"{last}; {error.remedy}"


def _remove(config: Config, name: str, *, force: bool) -> int:
    """Give back what a host has, and print that.

    A command that is cut off leaves something of it; the next one gives that back.
    """
    if not force and name == host_name(config.cluster) and _is_served():
        raise WatcherError(
            f"{quoted(name)} is this host, whose service leases from its blocks",
            "stop it first, e.g. `systemctl stop watcher`, or write --force",
        )
    etcd = client(config.cluster)
    from watcher.cluster.registry.keys import Keys
    from watcher.cluster.registry.removal import GivenBack, remove_host

    async def remove() -> GivenBack:
        async with etcd:
            return await remove_host(etcd, Keys(config.cluster.prefix), name, force=force)

    back = asyncio.run(remove())
    for line in (*_lines(config, "block", back.blocks), *_lines(config, "claim", back.claims)):
        print(printable(line))  # noqa: T201
    print(printable(f"removed host {name}"))  # noqa: T201
    return 0


def _is_served() -> bool:
    """Whether this host's service runs. Raises: WatcherError: that is unknown."""
    try:
        return serving() is not None
    except OSError as error:
        raise WatcherError(
            f"it cannot be told whether the service of this host runs: {message_of(error)}",
            "run as root",
        ) from None


def _lines(config: Config, what: str, parts: Iterable[Part]) -> list[str]:
    lines = []
    for part in sorted(parts, key=lambda one: (one.network, one.version, one.first)):
        network = config.networks.get(part.network)
        length = network and block_prefix(claim_of(part.address), network.block)
        if what == "block" and length and part.begins(length):
            lines.append(f"gave back {what} {part.prefix(length)} of {part.network}")
        else:
            lines.append(f"gave back {what} {part.address} of {part.network}")
    return lines


def _as_json(host: KnownHost, ways: Mapping[str, tuple[str, ...]]) -> dict[str, object]:
    return {
        "host": host.name,
        "address": "" if host.address is None else str(host.address),
        "state": host.state,
        "blocks": {
            network: [str(prefix) for prefix in prefixes if not is_claim(prefix)]
            for network, prefixes in sorted(host.blocks.items())
        },
        "claims": {
            network: [str(prefix.network_address) for prefix in prefixes if is_claim(prefix)]
            for network, prefixes in sorted(host.blocks.items())
        },
        "reached": list(ways.get(host.name, ())),
        "program": host.program,
    }


def _row(host: KnownHost, ways: Mapping[str, tuple[str, ...]]) -> list[str]:
    counts = {network: counted(prefixes) for network, prefixes in sorted(host.blocks.items())}
    return [
        host.name,
        "" if host.address is None else str(host.address),
        host.state,
        ",".join(f"{network}:{blocks}" for network, (blocks, _) in counts.items() if blocks),
        ",".join(f"{network}:{claims}" for network, (_, claims) in counts.items() if claims),
        ",".join(ways.get(host.name, ())),
    ]
