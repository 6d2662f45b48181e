"""Ids as long as runc takes them: more than a link's alias has room for."""

from __future__ import annotations

from typing import Final

from tests.support.host import Host
from tests.support.tampering import NOTHING, forget

LONG: Final = tuple(
    letter * size for letter, size in zip("abcdef", (216, 217, 246, 247, 254, 255), strict=True)
)


def test_ids_of_every_length_that_runc_takes(kept: Host) -> None:
    rows = {name: kept.attach(name) for name in LONG}
    assert kept.pins() == set(LONG)
    for name in LONG:
        kept.delete(name)
    for container in rows.values():
        kept.gone(container)


def test_without_its_memory_long_ids_keep_what_they_have(host: Host) -> None:
    """Though the link's alias has room for the beginning of the id alone, and two begin alike."""
    names = ("x" * 254 + "1", "x" * 254 + "2")
    for name in names:
        host.attach(name)
    before = host.leases()
    forget(host)
    host.watcher("sync")
    assert host.leases() == before
    assert host.watcher("sync").stdout == NOTHING
