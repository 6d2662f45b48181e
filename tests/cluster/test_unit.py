"""`watcher-cluster.service` as it is shipped, in systemd's hands, beside a real etcd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cluster.hosts import NETWORK
from tests.support.cluster.unit import NAME, unmasked
from tests.support.etcd import Etcd
from tests.support.host import BEYOND
from tests.support.host.booted import BootedHost
from tests.support.waiting import eventually


@pytest.fixture
def booted() -> Iterator[BootedHost]:
    """A host with the unit, and an etcd on the machine beyond."""
    with BootedHost() as host, unmasked(host.booted):
        yield host


@pytest.fixture
def etcd(booted: BootedHost) -> Etcd:
    return Etcd((booted.beyond, BEYOND), tls=True, auth=True)


@pytest.fixture
def unit(booted: BootedHost, etcd: Etcd) -> Iterator[BootedHost]:
    with booted.lent(f'{NETWORK}\n[cluster]\nhost = "a"\nttl = 5\n{etcd.config()}'):
        yield booted


def owners(etcd: Etcd) -> list[str]:
    """Who has the blocks that are taken."""
    return [json.loads(value)["host"] for value in etcd.under("/watcher/v1/blocks/").values()]


def is_another(unit: BootedHost, before: str) -> bool:
    return unit.booted.show("MainPID", NAME) not in ("0", before)


def test_a_host_takes_blocks_by_a_process_that_may_do_nothing_else(
    unit: BootedHost, etcd: Etcd
) -> None:
    run = unit.booted.command
    web = eventually(lambda: unit.attach("web"), what="a container with an address of a block")
    assert set(owners(etcd)) == {"a"}
    assert web.place.addresses()

    pid = unit.booted.show("MainPID", NAME)
    status = dict(
        line.split(":\t") for line in run("cat", f"/proc/{pid}/status").stdout.splitlines()
    )
    assert {status[f"Cap{key}"] for key in ("Eff", "Prm", "Inh", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert status["Uid"].split() == ["0"] * 4  # for files that only root may read
    inside = ("nsenter", f"--target={pid}", "--mount", "--", "setpriv", "--bounding-set=-all")
    tried = "touch /etc/x /var/x /run/x /run/watcher/x 2>/dev/null; cat /var/lib/watcher/* || true"
    assert run(*inside, "sh", "-c", tried).stdout == ""
    listening = run("ss", "--listening", "--tcp", "--udp", "--processes", "--no-header").stdout
    assert f"pid={pid}," not in listening
    assert run("stat", "--format=%a %G", "/run/watcher/cluster").stdout == "755 watcher\n"
    unit.delete("web")


def test_it_is_back_after_a_kill_and_its_host_goes_on_without_it(
    unit: BootedHost, etcd: Etcd
) -> None:
    eventually(lambda: unit.attach("web"))
    before, blocks = unit.booted.show("MainPID", NAME), set(etcd.under("/watcher/v1/blocks/"))
    unit.booted.command("systemctl", "kill", "--signal=KILL", NAME)
    eventually(lambda: is_another(unit, before), what="another process")
    unit.booted.command("systemctl", "stop", NAME)
    assert unit.booted.show("Result", NAME) == "success"
    unit.attach("meanwhile")
    unit.unit.restart()  # which starts what it wants
    eventually(lambda: is_another(unit, before), what="another process")
    unit.attach("later")
    assert set(etcd.under("/watcher/v1/blocks/")) >= blocks
    for name in ("web", "meanwhile", "later"):
        unit.delete(name)


def test_files_that_others_may_read_are_refused_and_named(unit: BootedHost, etcd: Etcd) -> None:
    Path(etcd.password_file).chmod(0o644)
    unit.booted.command("systemctl", "restart", NAME)

    def said() -> str:
        unit.booted.command("journalctl", "--sync")
        journal = ("journalctl", "--no-pager", "--output=cat", f"--unit={NAME}")
        text = unit.booted.command(*journal).stdout
        assert etcd.password_file in text, text
        return text

    assert "secret of watcher" not in eventually(said)
