"""The lines of `hosts.sock` about hosts, by what etcd has."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from watcher.cluster.endpoints.lines import HostLine
from watcher.cluster.registry.records import subnets_of
from watcher.model.cluster import block_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Literal

    from watcher.cluster.registry.picture import Picture


def host_lines(picture: Picture, this: str) -> Iterator[HostLine]:
    """Each host; `this` is the name of this one."""
    lengths = {
        (name, version): block_prefix(subnet, entry.record.block)
        for name, entry in picture.networks.items()
        if entry.record is not None
        for version, subnet in subnets_of(entry.record).items()
    }
    blocks: defaultdict[str, defaultdict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for part, block in picture.blocks.items():
        length = lengths.get((part.network, part.version))
        if block.record is not None and length is not None and part.begins(length):
            text = picture.texts.get(part)
            if text is None:
                text = picture.texts[part] = f"{part.address}/{length}"
            blocks[block.record.host][part.network].append(text)
    for part, claim in picture.claims.items():
        if claim.record is not None and claim.record.counts:
            single = part.address.max_prefixlen
            blocks[claim.record.host][part.network].append(f"{part.address}/{single}")
    for name, entry in picture.hosts.items():
        if entry.record is not None:
            state: Literal["this", "alive", "silent"] = (
                "this" if name == this else "alive" if name in picture.alive else "silent"
            )
            of_host = {n: tuple(sorted(p)) for n, p in sorted(blocks[name].items())}
            yield HostLine(name, entry.record.address, state, of_host, entry.record.program)
