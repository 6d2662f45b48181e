"""The table `bridge watcher`, the guard of earlier versions: whoever finds it takes it away.

A whole upgrade from a release is in `tests/deploy/test_upgrade.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.guard.test_kernel import lacking

if TYPE_CHECKING:
    from tests.support.host import Host

__all__ = ["lacking"]

OLD: Final = "add table bridge watcher; add set bridge watcher macs { type ifname . ether_addr; }"


def has_old_table(host: Host) -> bool:
    return "table bridge watcher" in host.command("nft", "list", "tables").stdout


def test_sync_takes_it_away_once_every_link_is_guarded(host: Host) -> None:
    web = host.attach("web", ports="8080:80")
    host.command("nft", OLD)
    host.command("tc", "qdisc", "delete", "dev", web.veth, "ingress")
    repairs = ["attached " + web.veth, "made the nftables table"]
    dry = host.watcher("sync", "--dry-run").stdout.splitlines()
    assert [line.partition(" [")[0].partition(":")[0] for line in dry] == repairs
    assert has_old_table(host)
    host.watcher("sync")
    assert not has_old_table(host)
    assert "bpf" in host.command("tc", "filter", "show", "dev", web.veth, "ingress").stdout
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_it_stays_while_a_link_cannot_be_guarded(lacking: Host) -> None:
    guarded = lacking.program
    lacking.program = (guarded / "watcher").resolve().parent
    web = lacking.attach("web")
    lacking.command("nft", OLD)
    lacking.command("tc", "qdisc", "delete", "dev", web.veth, "ingress")
    lacking.program = guarded
    done = lacking.watcher("sync", check=False)
    assert done.returncode == 1
    assert "the tables of the earlier version stay" in done.stderr
    assert has_old_table(lacking)


def test_down_takes_it_away(host: Host) -> None:
    host.attach("web")
    host.command("nft", OLD)
    host.delete("web")
    host.watcher("down")
    assert host.command("nft", "list", "tables").stdout == ""
