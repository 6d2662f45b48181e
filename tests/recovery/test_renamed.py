"""A link of the watcher's that somebody has renamed gets its name back, and nobody else's does."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.host import BEYOND, GATEWAY, SUBNET, UPLINK, Host, HostMaker
from tests.support.tampering import NOTHING, index, powerful
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO

RENAMINGS: Final = {
    "host end": "link set {web} name eth7",
    "host end with its name beside": (
        "link set {web} name eth7\nlink property add dev eth7 altname {web}"
    ),
    "bridge": "link set netns0 name lan0",
    "bridge and host end": "link set netns0 name lan0\nlink set {web} name eth7",
    "two host ends, exchanged": (
        "link set {web} name eth7\nlink set {other} name {web}\nlink set eth7 name {other}"
    ),
}


@pytest.mark.parametrize("renaming", RENAMINGS)
def test_sync_gives_the_name_back(host: Host, renaming: str) -> None:
    host.run("web", ports="8080:80").serve(tcp=(80,))
    host.run("other", ports="8081:80").serve(tcp=(80,))
    web, other = host.attached("web"), host.attached("other")
    names = (web.veth, other.veth, "netns0")
    before = [index(host, name) for name in names]
    lines = RENAMINGS[renaming].format(web=web.veth, other=other.veth)
    host.command("ip", "-batch", "-", stdin=lines)

    dry = host.watcher("sync", "--dry-run").stdout
    assert "eth7" in dry or "lan0" in dry or "was not its other end" in dry
    assert "missing" not in dry
    host.watcher("sync")
    assert host.watcher("sync").stdout == NOTHING
    assert [index(host, name) for name in names] == before
    assert host.here.links() == {"lo", "uplink", *names}
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert host.beyond.reach(UPLINK, 8081) == Answer("other", BEYOND)


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_a_renamed_link_of_an_internal_network_lets_nothing_out(
    make_host: HostMaker, mode: str
) -> None:
    host = make_host(f'[network.default]\ninternal = true\nmode = "{mode}"\n')
    host.beyond.serve(tcp=(80,))
    host.beyond.run("ip", "route", "add", SUBNET, "via", UPLINK)
    host.command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    host.run("web").serve(tcp=(80,))
    host.watcher("sync")
    web = host.container("web")
    hop = {"bridge": GATEWAY, "routed": "169.254.1.1"}[mode]
    web.place.run("ip", "route", "replace", BEYOND, "via", hop)
    host.command("ip", "link", "set", "netns0" if mode == "bridge" else web.veth, "name", "lan0")
    assert web.reach(BEYOND, 80, timeout=LATENCY_FREE_NO) is None
    assert host.beyond.reach(web.address, 80, timeout=LATENCY_FREE_NO) is None


def test_a_name_that_another_link_has_meanwhile_is_reported(host: Host) -> None:
    web = host.attach("web")
    ours, bridge = index(host, web.veth), index(host, "netns0")
    for name in (web.veth, "netns0"):
        host.command("ip", "link", "set", name, "name", f"x{name}"[:15])
        host.command("ip", "link", "add", name, "type", "bridge")
    theirs = index(host, web.veth)
    told = host.watcher("sync", check=False).stderr
    assert "the network's bridge is called xnetns0 now" in told
    host.command("ip", "link", "delete", "netns0")
    told = host.watcher("sync", check=False).stderr
    assert f"of another link ({web.veth}, number {theirs}); rename or delete that one" in told
    assert index(host, web.veth) == theirs
    host.command("ip", "link", "delete", web.veth)
    host.watcher("sync")
    assert (index(host, web.veth), index(host, "netns0")) == (ours, bridge)


def test_a_renamed_link_goes_with_its_sandbox(host: Host) -> None:
    web = host.attach("web")
    kept = host.base / "kept"  # by which the namespace outlives the container
    host.command("sh", "-ec", f"touch {kept}; mount --bind /proc/{web.pid}/ns/net {kept}")
    host.command("ip", "link", "set", web.veth, "name", "eth7")
    host.delete("web")
    assert "deleted veth eth7" in host.watcher("sync").stdout
    assert host.here.links() == {"lo", "uplink", "netns0"}


def test_down_removes_what_was_renamed(host: Host) -> None:
    web = host.attach("web")
    host.command("ip", "link", "set", web.veth, "name", "eth7")
    host.command("ip", "link", "set", "netns0", "name", "lan0")
    host.watcher("down")
    assert host.here.links() == {"lo", "uplink"}


def test_nobody_gets_the_link_of_another_by_what_is_inside(host: Host) -> None:
    """A device inside says that its other end is any link of the host."""
    victim = host.attach("victim")
    thief = host.attach("thief", edit=powerful)
    of_victim = index(host, victim.veth)
    host.command("ip", "link", "add", "mine0", "type", "veth", "peer", "name", "mine1")
    host.command("ip", "link", "set", victim.veth, "name", "eth7")
    for wanted in (of_victim, index(host, "mine0")):
        thief.place.run(
            "ip",
            "-batch",
            "-",
            stdin=f"""link set eth0 down
link set eth0 name real0
link add claim0 index {wanted} type bridge
link add eth0 link claim0 type macvlan
""",
        )
        host.watcher("sync", check=False)
        assert index(host, victim.veth) == of_victim
        assert "mine0" in host.here.links()
        thief.place.run("ip", "-batch", "-", stdin="link delete claim0\nlink set real0 name eth0")
        host.watcher("sync")
        host.command("ip", "link", "set", victim.veth, "name", "eth7")
