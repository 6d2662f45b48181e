"""`/etc/resolv.conf` under the unit: what it takes to mount it, and what the unit may not do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.support.bundles import FIRST_MAPPED_ID
from tests.support.resolv_confs import OURS, READ, link, linked, remove, rooted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host.booted import BootedHost


def give_away(root: Path) -> None:
    """Leaves no `/etc/resolv.conf` in a root that belongs to root of a user namespace."""
    remove(root)
    for directory in (root, root / "etc"):
        os.chown(directory, FIRST_MAPPED_ID, FIRST_MAPPED_ID)


def test_it_is_placed_and_made_by_what_the_unit_may_do(unit: BootedHost) -> None:
    unit.bundle("plain", READ)
    assert unit.launch("run", "plain").stdout == OURS
    assert unit.command("stat", "-c", "%a", "/run/watcher/resolv/default.conf").stdout == "644\n"
    stub = linked("../run/systemd/resolve/stub-resolv.conf")
    for name, bundle in (
        ("missing", rooted(unit, "missing", remove)),
        ("link", rooted(unit, "link", lambda root: link(root, stub))),
        ("users", rooted(unit, "users", lambda _: None, user_namespace=True)),
    ):
        assert unit.run_to_end(name, READ, **bundle).stdout == OURS, name
    made = unit.base / "root-link/run/systemd/resolve/stub-resolv.conf"
    assert made.stat().st_mode & 0o777 == 0o644
    assert unit.unit.warnings() == []


def test_nothing_is_made_in_a_root_that_only_its_owner_may_write(unit: BootedHost) -> None:
    bundle = rooted(unit, "owned", give_away, user_namespace=True)
    unit.run_to_end("owned", ("true",), **bundle)
    unit.unit.logged("no resolv.conf", "none can be made: Permission denied", level="warning")
    assert not (unit.base / "root-owned/etc/resolv.conf").exists()
