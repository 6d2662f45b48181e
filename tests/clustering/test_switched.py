"""A network that becomes one of many hosts, that of one host again, or is configured no more."""

from __future__ import annotations

import signal

from tests.support.clustering import CONFIG, Registry, own, peer, theirs
from tests.support.host import Host, HostMaker
from tests.support.waiting import eventually

BLOCK, SECOND, OTHER = "10.9.4.0/28", "10.9.7.16/28", "10.9.8.0/28"
ALONE = '[network.default]\nmode = "routed"\nsubnets = ["10.9.0.0/16"]\n'
WIDE = CONFIG.replace("[network.default]", '[network.wide]\nbridge = "wide0"')
IN_WIDE = {"io.watcher.network": "wide"}


def to_others(host: Host) -> set[str]:
    """The destinations of the routes that a cluster makes, and what else it makes."""
    found = {route["dst"] for route in host.ip("route", "show", "proto", "119")}
    links = {link["ifname"] for link in host.ip("link", "show")}
    own = {a["local"] for a in host.ip("address", "show", "netns0")[0]["addr_info"]
           if a["prefixlen"] == 32} if "netns0" in links else set()  # fmt: skip
    return found | {name for name in links if name.startswith("netnsx")} | own - {"10.9.0.1"}


def test_a_network_that_was_one_hosts_and_becomes_it_again(make_host: HostMaker) -> None:
    host = make_host(ALONE)
    with host.service():
        before = host.attach("before")
        assert before.address == "10.9.0.2"
        host.kill("before")
        host.gone(before)
        host.delete("before")
    host.configure(CONFIG)
    with host.service(), Registry(host.run_dir) as registry:
        registry.whole(own("10.9.0.0/28"), own(BLOCK), peer("b", "192.0.2.2"), theirs(OTHER, "b"))
        eventually(lambda: registry.blocks().get("10.9.0.0/28") == "held")
        assert "10.9.0.0/16" in to_others(host)
        again = [host.attach(name) for name in ("before", "next")]
        assert "10.9.0.2" in to_others(host)
        assert all(one.address.startswith(("10.9.0.", "10.9.4.")) for one in again)
        assert "10.9.0.2" not in [one.address for one in again]  # it is the host's own
        host.configure(ALONE)
    started = host.watcher("sync", check=False)
    assert "network.default.cluster was changed from True while 2 sandboxes use it" in (
        started.stderr
    )
    for name in ("before", "next"):
        host.kill(name)
        host.delete(name)
    host.configure(CONFIG)
    host.watcher("sync")
    host.configure(ALONE)
    with host.service():
        assert to_others(host) == set()
        assert host.attach("after").address
        assert "cluster" not in host.watcher("check", check=False).stdout


def test_containers_of_a_network_that_is_configured_no_more_reach_others(
    make_host: HostMaker,
) -> None:
    host = make_host(WIDE)
    service = host.service()
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK, "wide"))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
        web = host.attach("web", annotations=IN_WIDE)
        registry.tell(own(SECOND, "wide"))
        eventually(lambda: registry.blocks() == {BLOCK: "held", SECOND: "held"})
        host.configure("".join(CONFIG.partition("[cluster]")[1:]))
        service.signal(signal.SIGHUP)
        eventually(lambda: registry.blocks() == {BLOCK: "held", SECOND: "leaving"})
        assert registry.wanted("wide") == 0
        registry.take_back(own(SECOND, "wide"))
        host.kill("web")
        host.gone(web)
        eventually(lambda: registry.blocks() == {BLOCK: "leaving"})
        registry.take_back(own(BLOCK, "wide"))
        eventually(lambda: registry.wanted("wide") == -1 and not registry.blocks())
