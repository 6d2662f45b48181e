"""`watcher-cluster.service` as it is shipped, in systemd's hands, beside a real etcd."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.cluster.hosts import NETWORK
from tests.support.cluster.unit import NAME, unmasked
from tests.support.etcd import Etcd
from tests.support.host import BEYOND
from tests.support.host.booted import BootedHost
from tests.support.processes import Done
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


AS: Final = """
import grp, os, sys
import aiohttp, watcher.cli, watcher.config.load, watcher.commands.hosts
import watcher.cluster.etcd.client, watcher.cluster.registry.removal
os.setgroups([grp.getgrnam(sys.argv.pop(1)).gr_gid])
os.setgid(65534)
os.setuid(65534)
watcher.cli.main(sys.argv[1:])
"""
"""Runs `watcher` as a user of a group, who may not read where it is."""


def run_as(unit: BootedHost, group: str, *args: str) -> Done:
    _, *words = unit.watcher_command(*args)
    python = (sys.executable, "-c", AS, group)
    return unit.command(*python, *words, check=False, env=unit.watcher_env)


def test_members_of_the_group_see_the_hosts_and_remove_none(unit: BootedHost, etcd: Etcd) -> None:
    eventually(lambda: unit.attach("web"), what="a container with an address of a block")
    silent = "/watcher/v1/hosts/b", '{"incarnation": "1", "address": "192.0.2.99"}'
    etcd.put(*silent)
    eventually(lambda: "silent" in unit.watcher("hosts", "ls").stdout, what="a second host")
    for option in ((), ("--json",)):
        seen = run_as(unit, "watcher", "hosts", "ls", *option)
        assert (seen.returncode, seen.stderr) == (0, "")
        assert seen.stdout == unit.watcher("hosts", "ls", *option).stdout
    other = run_as(unit, "nogroup", "hosts", "ls")
    assert (other.returncode, other.stdout) == (1, "")
    assert "hosts.sock is for root and the group `watcher`; be root, or" in other.stderr

    before = etcd.under("/watcher/v1/hosts/")
    for host, why in (
        (("b",), "the password file"),
        (("a",), "whether the service of this host runs"),
        (("a", "--force"), "the password file"),
    ):
        refused = run_as(unit, "watcher", "hosts", "rm", *host)
        assert (refused.returncode, refused.stdout) == (1, "")
        (line,) = refused.stderr.splitlines()
        assert why in line
        assert "Permission denied" in line
        assert line.endswith("; run as root")
    assert etcd.under("/watcher/v1/hosts/") == before

    unit.booted.command("systemctl", "stop", NAME)
    away = run_as(unit, "watcher", "hosts", "ls")
    assert (away.returncode, away.stdout) == (1, "")
    assert "no `watcher cluster` serves" in away.stderr
    assert away.stderr.endswith("start it, e.g. `systemctl start watcher-cluster`\n")
    unit.delete("web")
