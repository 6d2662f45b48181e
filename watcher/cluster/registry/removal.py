"""Gives back what a host has in the registry that is gone for good (`watcher hosts rm`).

Its own key goes first. From then on nothing is taken in its name, as each transaction of a host
wants that key as it was. Then go its endpoints, blocks and claims. Whatever is cut off: to remove
the host once more finishes it, as its endpoints have addresses of the blocks and claims.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.cluster.etcd.requests import absent, delete, delete_range, modified_at
from watcher.cluster.registry.changes import TOGETHER
from watcher.cluster.registry.keys import Keys, Part
from watcher.cluster.registry.picture import Picture
from watcher.model.errors import WatcherError, quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.cluster.etcd.client import Etcd
    from watcher.cluster.registry.picture import Entry
    from watcher.cluster.registry.records import BlockRecord, ClaimRecord

_TRIES: Final = 8


class NoSuchHost(WatcherError):
    """The registry has nothing of a host of that name."""


class StillAlive(WatcherError):
    """The host is heard of, so that it is not gone."""


class GivenBack(Struct, frozen=True):
    """What a host had that nobody has any more."""

    blocks: tuple[Part, ...]
    claims: tuple[Part, ...]


async def read_picture(etcd: Etcd, keys: Keys) -> Picture:
    """The registry as it is now; EtcdError as the client raises it."""
    picture = Picture(keys, lambda _key, _reason: None)
    for table in ("addresses", "alive", "blocks", "claims", "hosts", "networks"):
        async for page in etcd.pages(f"{keys.all}{table}/"):
            picture.revision, picture.cluster_id = page.revision, page.cluster_id
            for kv in page.kvs:
                picture.put(kv)
    for kv in (await etcd.range(keys.layout)).kvs:
        picture.put(kv)
    return picture


async def remove_host(etcd: Etcd, keys: Keys, name: str, *, force: bool = False) -> GivenBack:
    """Remove a host.

    Args:
        force: also if it is alive: it stops to lease when it hears of it, and not before.

    Raises:
        NoSuchHost, StillAlive: see there.
        EtcdError: as the client raises it.
    """
    for _ in range(_TRIES):
        picture = await read_picture(etcd, keys)
        _refuse(picture, name, force=force)
        if await _remove_key(etcd, keys, picture, name, force=force):
            break
    else:
        raise StillAlive(
            f"host {quoted(name)} changes all the time", "stop `watcher cluster` there"
        )
    await etcd.txn([absent(keys.host(name))], [delete_range(*keys.endpoints(name))])
    blocks = await _give_back(
        etcd, {keys.block(p): e.modified for p, e in _of(picture.blocks, name)}
    )
    claims = await _give_back(
        etcd, {keys.claim(p): e.modified for p, e in _of(picture.claims, name)}
    )
    return GivenBack(
        tuple(part for part, _ in _of(picture.blocks, name) if keys.block(part) in blocks),
        tuple(part for part, _ in _of(picture.claims, name) if keys.claim(part) in claims),
    )


def _refuse(picture: Picture, name: str, *, force: bool) -> None:
    of_it = name in picture.hosts or name in picture.alive
    if not of_it and not _of(picture.blocks, name) and not _of(picture.claims, name):
        near = get_close_matches(name, picture.hosts, 1)
        remedy = f"did you mean {quoted(near[0])}?" if near else "see `watcher hosts ls`"
        raise NoSuchHost(f"there is no host {quoted(name)} in the cluster", remedy)
    if name in picture.alive and not force:
        raise StillAlive(
            f"host {quoted(name)} is alive",
            "stop it and wait until `watcher hosts ls` shows it as silent, or write --force",
        )


async def _remove_key(etcd: Etcd, keys: Keys, picture: Picture, name: str, *, force: bool) -> bool:
    """Delete a host's own keys, if it is as the picture has it."""
    entry = picture.hosts.get(name)
    compares = [modified_at(keys.host(name), 0 if entry is None else entry.modified)]
    if not force:
        compares.append(absent(keys.alive(name)))
    then = [delete(keys.host(name)), delete(keys.alive(name))]
    then += [
        delete(keys.address(address))
        for address, of in picture.addresses.items() if of.record == name
    ][: TOGETHER - len(then)]  # fmt: skip
    return (await etcd.txn(compares, then)).succeeded


def _of[R: (BlockRecord, ClaimRecord)](
    table: Mapping[Part, Entry[R]], name: str
) -> list[tuple[Part, Entry[R]]]:
    return [(p, e) for p, e in table.items() if e.record is not None and e.record.host == name]


async def _give_back(etcd: Etcd, keys: Mapping[str, int]) -> set[str]:
    """Delete keys that are as they were; returns those that were deleted.

    One that has changed is another host's by now, or that of a later incarnation.
    """
    done: set[str] = set()
    each = list(keys.items())
    for begin in range(0, len(each), TOGETHER):
        some = each[begin : begin + TOGETHER]
        if await _deleted(etcd, some):
            done |= {key for key, _ in some}
            continue
        for one in some:
            if await _deleted(etcd, [one]):
                done.add(one[0])
    return done


async def _deleted(etcd: Etcd, some: list[tuple[str, int]]) -> bool:
    compares = [modified_at(key, modified) for key, modified in some]
    return (await etcd.txn(compares, [delete(key) for key, _ in some])).succeeded
