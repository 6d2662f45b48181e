"""A link is ours by its host end alone, whatever a container marks, names or moves inside."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing

import pytest

from tests.support.host import BEYOND, GATEWAY, UPLINK, Host, Place
from tests.support.host.watched import toml
from tests.support.tampering import MARK, forget, index, named_namespace, powerful
from tests.support.traffic import Answer


def pretend(place: Place, number: int, name: str = "eth0") -> None:
    """Inside: a veth pair with our mark, of which `name` says that its peer has that `number`."""
    place.run(
        *("ip", "link", "add", "end", "index", str(number), "group", MARK, "type", "veth"),
        *("peer", "name", name, "group", MARK),
    )


def test_a_link_with_the_number_of_a_victims_is_not_taken_for_it(kept: Host) -> None:
    """The thief is in a namespace of the administrator's, where the watcher has made nothing."""
    web = kept.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    lab = named_namespace(kept, "lab")
    kept.run("thief", netns_path=kept.netns_dir / "lab", edit=powerful)
    pretend(lab, index(kept, web.veth))
    lab.run("ip", "address", "add", "172.19.0.66/16", "dev", "eth0")
    before = kept.ls()["web"], web.place.picture()
    for _ in range(2):
        kept.watcher("sync")
        assert (kept.ls()["web"], web.place.picture()) == before
        assert kept.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
        assert set(kept.leases().values()) == {"web"}
        assert kept.status("thief") == "ignored"
    assert kept.pin_inode("web") == web.place.inode


def test_without_its_memory_such_a_link_is_not_taken_for_it_either(host: Host) -> None:
    web = host.attach("web")
    thief = host.attach("thief", edit=powerful)
    before = host.leases()
    pretend(thief.place, index(host, web.veth), name="fake")
    thief.place.run("ip", "address", "add", f"{web.address}/16", "dev", "fake")
    forget(host)
    host.watcher("sync")
    assert host.leases() == before
    assert host.veths() == {web.veth, thief.veth}


def test_without_its_memory_an_address_is_whose_the_guard_says_it_is(host: Host) -> None:
    """The thief, who is looked at first, has put the victim's in place of its own."""
    web, thief = host.attach("web"), host.attach("thief", edit=powerful)
    before = host.leases()
    thief.place.run("ip", "address", "flush", "dev", "eth0")
    thief.place.run("ip", "address", "add", f"{web.address}/16", "dev", "eth0")
    forget(host)
    host.watcher("sync")
    assert host.leases() == before
    assert [f"{address}/16" for address in before if before[address] == "thief"] == (
        thief.place.addresses()
    )


@pytest.mark.parametrize("same", [False, True])
def test_a_pid_that_comes_again_takes_no_link_from_who_has_outlived_it(
    host: Host, *, same: bool
) -> None:
    """The pid in the name of `old`'s link is by now that of `new`: made so by hand.

    In another root, a container may have the `same` id as well.
    """
    other = host.base / "other"
    host.configure(f"[[root]]\npath = {toml(str(other))}\n")
    old, name = host.attach("old"), "old" if same else "new"
    host.bundle(name)
    host.launch("create", name, root=other)
    pid = json.loads(host.runc("state", name, root=other).stdout)["pid"]
    taken = f"netnsv0-{pid}"
    host.command("ip", "link", "set", old.veth, "down")
    host.command("ip", "link", "set", old.veth, "name", taken, "up")
    with closing(sqlite3.connect(host.state_dir / "leases.db")) as store, store:
        store.execute("UPDATE interface SET host_name = ?", (taken,))
    before = index(host, taken)
    host.watcher("sync", check=False)
    rows = [row for row in json.loads(host.watcher("ls", "--json").stdout) if row["pid"] == pid]
    assert rows[0]["status"] == "failed"
    assert "old" in rows[0]["reason"]
    assert index(host, taken) == before
    host.here.serve(tcp=(7,))
    assert old.reach(GATEWAY, 7) is not None
    host.runc("delete", "--force", name, root=other)


def test_a_link_of_its_own_in_place_of_ours_hurts_nobody_else(host: Host) -> None:
    web = host.attach("web")
    thief = host.attach("thief", edit=powerful)
    address = thief.address
    thief.place.run("ip", "link", "set", "eth0", "down")
    thief.place.run("ip", "link", "set", "eth0", "name", "mine")
    thief.place.run("ip", "link", "add", "eth0", "group", MARK, "type", "bridge")
    thief.place.run("ip", "address", "add", f"{address}/16", "dev", "eth0")
    web.place.run("ip", "address", "flush", "dev", "eth0")
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert "[thief]" in done.stderr
    assert "eth0 that is not ours" in done.stderr
    assert host.ls()["web"]["address"] == [web.address]
    assert set(host.leases().values()) == {"web", "thief"}
