"""`watcher-cluster.service` as it is shipped, on a host that is in no cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.booted import passes_analyze
from tests.support.cluster.unit import NAME, UNIT, unmasked
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.host.booted import BootedHost


def test_the_unit_passes_systemd_analyze(tmp_path: Path) -> None:
    passes_analyze(UNIT, 14, tmp_path)


def test_without_a_cluster_it_ends_well_at_once_and_stays_ended(unit: BootedHost) -> None:
    booted = unit.booted
    with unmasked(booted):
        unit.unit.start()
        eventually(lambda: booted.show("ExecMainExitTimestamp", NAME) != "", what="its end")
        shown = ("ActiveState", "Result", "ExecMainStatus", "NRestarts")
        assert [booted.show(key, NAME) for key in shown] == ["inactive", "success", "0", "0"]
        said = (
            booted.command("journalctl", "--sync"),
            booted.command("journalctl", "--no-pager", "--output=cat", f"--unit={NAME}"),
        )
        assert "this host is in no cluster" in said[1].stdout
