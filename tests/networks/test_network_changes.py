"""Networks that cannot be, or cannot be any more: each is found at the start or at the request."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.support.host import BEYOND, GATE_OFF, GATEWAY, UPLINK, Host
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

if TYPE_CHECKING:
    from tests.support.host import HostMaker

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
BACK = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'


def refused(host: Host, *words: str) -> None:
    """Whatever starts says so in one line, and exits 2; nothing is made."""
    before = host.here.links()
    for command in ("sync", "run"):
        done = host.watcher(command, check=False)
        assert done.returncode == 2, done
        (line,) = done.stderr.splitlines()
        for word in words:
            assert word in line
    assert host.here.links() == before


# --- at the start: what the file itself says -------------------------------------------------


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (BACK.replace("172.22.0.0/24", "172.19.8.0/24"), ("overlaps 172.19.0.0/16",)),
        (
            DUAL + BACK.replace('"172.22.0.0/24"', '"fd00:19::/48"'),
            ("network.back.subnets", "overlaps fd00:19::/64"),
        ),
        ('[network.default]\nsubnets = ["172.19.0.0/31"]\n', ("172.19.0.0/31", "no room")),
        ('[network.default]\nsubnets = ["fd00::/127"]\n', ("fd00::/127", "no room")),
        ('[network.default]\nbridge = "sixteen-letters-"\n', ("not an interface's name",)),
        ('[network.default]\ninterface = "sixteen-letters-"\n', ("not an interface's name",)),
        (
            '[network.default]\nroutes = [{ to = "10.0.0.0/8", via = "172.20.0.9" }]\n',
            ("172.20.0.9", "no neighbour", "172.19.0.0/16"),
        ),
    ],
)
def test_a_configuration_that_cannot_be(
    make_host: HostMaker, config: str, words: tuple[str, ...]
) -> None:
    refused(make_host(config), "watcher.toml:", *words)


# --- at the start: what the host says --------------------------------------------------------


def test_a_bridge_that_is_something_else(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.command(*["ip", "link", "add", "netns0", "type", "veth", "peer", "name", "other"])
    refused(host, "network.default.bridge = netns0", "no bridge but of kind veth")


def test_ipv6_that_is_turned_off(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.command("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    refused(host, "fd00:19::/64", "IPv6 is turned off")


def test_a_route_that_appears_while_sandboxes_work_stops_nobody(make_host: HostMaker) -> None:
    host = make_host()
    web = host.attach("web")
    web.serve(tcp=(80,))
    host.command("ip", "route", "add", "172.19.5.0/24", "via", "192.0.2.1")
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert host.here.reach(web.address, 80) == Answer("web", GATEWAY)


# --- at the request --------------------------------------------------------------------------


def test_a_bridge_that_becomes_something_else(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    host.service()
    veth = "ip link add netns0 type veth peer name other"
    # Again if the service has put the bridge back in between.
    host.command("sh", "-c", f"until ip link del netns0; {veth}; do :; done")
    host.run("web")
    reason = host.fails("web")
    assert "netns0 of network default is no bridge but veth" in reason
    assert len(reason.splitlines()) == 1
    host.command("ip", "link", "del", "netns0")
    host.attached("web")


def test_an_address_outside_of_the_subnets(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF + BACK)
    for name, networks, address in (
        ("one", "default", "172.22.0.7"),
        ("two", "default,back", "10.0.0.7"),
        ("three", "default", GATEWAY),
        ("four", "default", "172.19.255.255"),
        ("five", "default", "fd00:19::7"),
    ):
        host.run(name, annotations={"io.watcher.network": networks, "io.watcher.ip": address})
        reason = host.fails(name)
        assert f'io.watcher.ip = "{address}"' in reason
        assert len(reason.splitlines()) == 1
        host.delete(name)
    assert host.leftovers() == []


def test_a_subnet_without_room_left(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF + BACK.replace("/24", "/30"))
    host.attach("first", annotations={"io.watcher.network": "back"})
    host.run("second", annotations={"io.watcher.network": "default,back"})
    reason = host.fails("second")
    assert "172.22.0.0/30" in reason
    assert set(host.leases().values()) == {"first"}, "nor is its address of the other network"
    host.delete("first")
    host.watcher("sync")
    assert host.status("second") == "attached"


# --- while it is in use ----------------------------------------------------------------------


def test_a_network_that_is_removed_while_in_use_goes_on(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF + BACK)
    db = host.run("db", ports="8080:80", annotations={"io.watcher.network": "back"})
    host.watcher("sync")
    db.serve(tcp=(80,))
    host.configure(GATE_OFF)
    host.service()
    assert host.status("db") == "attached"
    assert host.beyond.reach(UPLINK, 8080) == Answer("db", BEYOND)
    (row,) = (
        r for r in json.loads(host.watcher("network", "ls", "--json").stdout) if r["name"] == "back"
    )
    assert (row["configured"], row["exists"], row["sandboxes"]) == (False, True, 1)

    host.command("nft", "flush", "ruleset")
    host.watcher("sync")
    assert host.beyond.reach(UPLINK, 8080) == Answer("db", BEYOND), "it is kept right"
    host.run("late", annotations={"io.watcher.network": "back"})
    assert 'io.watcher.network = "back": there is no such network' in host.fails("late")
    host.delete("db")
    host.gone(db)
    host.delete("late")
    host.watcher("network", "rm", "back")
    assert "back0" not in host.here.links()


@pytest.mark.parametrize("bridge", ["back0", "front0"])
def test_a_network_in_use_cannot_be_renamed(make_host: HostMaker, bridge: str) -> None:
    """Each name has leases of its own: the next container would get the address of the first."""
    host = make_host(BACK)
    db = host.attach("db", annotations={"io.watcher.network": "back"})
    host.configure(BACK.replace("back", "front").replace("front0", bridge))
    refused(host, "network back", "172.22.0.0/24" if bridge == "front0" else "back0", "db")
    host.configure(BACK)
    assert host.watcher("sync").stdout == "nothing to do\n"
    host.delete("db")
    host.gone(db)

    host.configure(BACK.replace("back", "front").replace("front0", bridge))
    web = host.attach("web", annotations={"io.watcher.network": "front"})
    host.watcher("network", "rm", "back")
    assert bridge in host.here.links()
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert web.address.startswith("172.22.")
    host.delete("web")
    host.watcher("sync")
    host.watcher("network", "rm", "front")
    assert bridge not in host.here.links()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ('subnets = ["172.20.0.0/16"]', ("network.default.subnets", "172.19.0.0/16", "web")),
        ('subnets = ["172.19.0.0/24"]', ("network.default.subnets", "172.19.0.0/16", "web")),
        ('bridge = "other0"', ("network.default.bridge", "netns0", "web")),
    ],
)
def test_a_change_that_its_sandboxes_rule_out(
    host: Host, change: str, words: tuple[str, ...]
) -> None:
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    host.configure(f"[network.default]\n{change}\n")
    refused(host, *words, "change it back, or stop them first")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    host.configure()
    assert host.watcher("sync").stdout == "nothing to do\n"


@pytest.mark.parametrize("rebooted", [False, True])
@pytest.mark.parametrize("change", ['subnets = ["172.20.0.0/16"]', 'bridge = "other0"'])
def test_a_change_whose_sandboxes_have_ended_while_nobody_watched(
    host: Host, change: str, rebooted: bool
) -> None:
    gone = host.attach("gone", ports="8080:80")
    host.kill("gone")
    host.delete("gone")
    if rebooted:
        host.nft("flush", "ruleset")
        for link in ("netns0", gone.veth):
            host.command("ip", "link", "delete", link, check=False)
    host.configure(f"[network.default]\n{change}\n")
    service = host.service()
    service.logged("detached", "gone")
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    host.gone(gone)
    assert [one["id"] for one in json.loads(host.watcher("ls", "--json").stdout)] == ["web"]
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


@pytest.mark.parametrize(
    "change", ["isolate = true", "masquerade = false", "guard = false", "internal = true"]
)
def test_a_change_of_policy_holds_from_the_next_start(host: Host, change: str) -> None:
    web, client = host.attach("web"), host.attach("client")
    web.serve(tcp=(80,))
    host.beyond.serve(tcp=(80,))
    assert client.reach(web.address, 80) is not None
    host.configure(f"[network.default]\n{change}\n")
    assert host.watcher("sync").stdout != "nothing to do\n"
    assert host.watcher("sync").stdout == "nothing to do\n"
    if change == "isolate = true":
        assert client.reach(web.address, 80, timeout=LATENCY_FREE_NO) is None
    else:
        assert client.reach(web.address, 80) is not None


def test_after_its_sandboxes_a_subnet_may_change(host: Host) -> None:
    web = host.attach("web")
    host.delete("web")
    host.gone(web)
    host.configure('[network.default]\nsubnets = ["172.20.0.0/16"]\n')
    web = host.attach("web")
    web.serve(tcp=(80,))
    assert web.address.startswith("172.20.")
    assert "172.20.0.1/16" in host.here.addresses("netns0")
    assert host.here.reach(web.address, 80) == Answer("web", "172.20.0.1")
