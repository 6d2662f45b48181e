"""What the registry says is entered into the lease store, and containers get addresses of it."""

from __future__ import annotations

import socket
import subprocess
from typing import Final

from tests.support.bundles import FOREVER
from tests.support.clustering import (
    CONFIG,
    Registry,
    asked,
    own,
    peer,
    refused,
    theirs,
)
from tests.support.host import UPLINK, Host, HostMaker
from tests.support.reading import Reading
from tests.support.traffic import make_socket
from tests.support.waiting import eventually
from watcher.cluster.protocol import Removed, Row, StatusRow
from watcher.store.leases import LeaseStore

CLAIM = "10.9.200.7/32"
FIXED = {"io.watcher.ip": "10.9.200.7"}
BLOCK, SECOND = "10.9.4.0/28", "10.9.7.16/28"
VXLAN: Final = 4789
"""Its port, by default."""


def test_a_container_gets_an_address_of_a_block(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    host.service()
    with Registry(host.run_dir) as registry:
        eventually(lambda: registry.wanted() == 1)
        registry.whole(own(BLOCK))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
        assert registry.wanted() == 0
        names = [f"c{n}" for n in range(8)]
        for name in names:
            host.attach(name)
        addresses = {host.container(name).address for name in names}
        assert addresses == {f"10.9.4.{n}" for n in range(1, 9)}  # .0 is the host's
        eventually(lambda: registry.wanted() == 1)  # ahead of need
        registry.tell(own(SECOND))
        eventually(lambda: registry.blocks() == {BLOCK: "held", SECOND: "held"})
        eventually(lambda: registry.wanted() == 0)


def test_an_empty_block_is_given_back_and_none_comes_and_goes(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    host.service()
    third = "10.9.9.0/28"
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK), own(SECOND), own(third))
        eventually(lambda: sorted(registry.blocks().values()) == ["held", "held", "leaving"])
        leaving = next(prefix for prefix, state in registry.blocks().items() if state == "leaving")
        registry.take_back(own(leaving))
        eventually(lambda: set(registry.blocks()) == {BLOCK, SECOND, third} - {leaving})
        assert registry.wanted() == 0


def test_a_service_that_is_killed_finishes_what_was_begun(make_host: HostMaker) -> None:
    """Both sides only tell what there is, so it does not matter which step came last."""
    host = make_host(CONFIG)
    service = host.service()
    third = "10.9.9.0/28"
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK), own(SECOND), own(third))
        eventually(lambda: "leaving" in registry.blocks().values())
        incarnation = registry.host()
        leaving = next(prefix for prefix, state in registry.blocks().items() if state == "leaving")
    service.kill9()
    host.service()
    left = [own(prefix) for prefix in (BLOCK, SECOND, third) if prefix != leaving]
    with Registry(host.run_dir) as registry:
        eventually(lambda: len(registry.blocks()) == 3)
        assert registry.host() == incarnation
        registry.whole(*left)
        eventually(lambda: leaving not in registry.blocks())


def waiting(host: Host, registry: Registry, *more: Row) -> subprocess.Popen[str]:
    """A start of `web` with the fixed address, which waits for its claim."""
    registry.whole(own(BLOCK), *more)
    eventually(lambda: registry.blocks() == {BLOCK: "held"})
    host.bundle("web", annotations=FIXED)
    runc = host.launching("run", "web", "--detach")
    eventually(lambda: registry.blocks().get(CLAIM) == "wanted")
    return runc


def test_a_fixed_address_waits_for_its_claim(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    host.service()
    with Registry(host.run_dir) as registry:
        runc = waiting(host, registry)
        registry.tell(own(CLAIM))
        host.launched(runc, "web")
        assert host.attached("web").address == "10.9.200.7"
        eventually(lambda: registry.blocks()[CLAIM] == "held")
        host.delete("web")
        eventually(lambda: registry.blocks()[CLAIM] == "leaving")
        registry.take_back(own(CLAIM))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})


def test_containers_keep_what_they_have_without_the_lease_store(make_host: HostMaker) -> None:
    """Fixed addresses as well, before it is known again which blocks the host has."""
    host = make_host(CONFIG)
    service = host.service()
    with Registry(host.run_dir) as registry:
        runc = waiting(host, registry)
        registry.tell(own(CLAIM))
        host.launched(runc, "web")
        host.attach("any")
        host.attach("inside", annotations={"io.watcher.ip": "10.9.4.9"})
        eventually(lambda: registry.blocks() == {BLOCK: "held", CLAIM: "held"})
    names = ("any", "inside", "web")
    links = {name: host.container(name).place.ip("link", "show", "eth0") for name in names}
    service.kill9()
    for path in host.state_dir.glob("leases.db*"):
        path.unlink()
    host.service()
    for name in names:
        assert host.attached(name).place.ip("link", "show", "eth0") == links[name]
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK), own(CLAIM))
        eventually(lambda: registry.blocks() == {BLOCK: "held", CLAIM: "held"})
        host.delete("web")
        eventually(lambda: registry.blocks()[CLAIM] == "leaving")


def test_a_claim_that_is_refused_says_why(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    host.service()
    with Registry(host.run_dir) as registry:
        runc = waiting(host, registry)
        registry.tell(refused(CLAIM, "host b has it"))
        refuse = host.launched(runc, "web", check=False)
        assert "10.9.200.7 of network default cannot be claimed: host b has it" in refuse.stderr
        eventually(lambda: registry.blocks() == {BLOCK: "held"})


def test_a_container_gets_its_claim_though_the_kernel_refuses_what_others_need(
    make_host: HostMaker,
) -> None:
    """A VXLAN device, as the port of that is another program's."""
    host = make_host('[gate]\non_timeout = "deny"\n' + CONFIG.replace("192.0.2.1", UPLINK))
    host.service()
    with (
        make_socket(host.here.netns, socket.AF_INET, socket.SOCK_DGRAM) as other,
        Registry(host.run_dir) as registry,
    ):
        other.bind(("0.0.0.0", VXLAN))
        runc = waiting(host, registry)
        registry.tell(own(CLAIM), peer("c", "203.0.113.9"), theirs(SECOND, "c"))
        host.launched(runc, "web")
        assert host.attached("web").address == "10.9.200.7"
        refused = host.watcher("sync", check=False).stderr
        assert f"UDP port {VXLAN} has another program's VXLAN" in refused


def test_without_the_registry_a_fixed_address_is_refused_and_others_start(
    make_host: HostMaker,
) -> None:
    host = make_host(CONFIG)
    host.service()
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
        registry.tell(StatusRow(connected=False, problem="no", cluster_id="c1", revision=2))
        registry.tell(own(SECOND))
        eventually(lambda: SECOND in registry.blocks())
        refuse = host.run_to_end("web", FOREVER, check=False, annotations=FIXED)
        assert "etcd does not answer" in refuse.stderr
        host.attach("other")
    refuse = host.run_to_end("web", FOREVER, check=False, annotations=FIXED)
    assert "`watcher cluster` does not run" in refuse.stderr
    assert host.attach("more", annotations={"io.watcher.ip": "10.9.4.9"}).address == "10.9.4.9"


def test_an_address_is_lent_unless_a_container_has_it(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    host.service()
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK), peer("b", "192.0.2.2"))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
        web = host.attach("web")
        assert web.address == "10.9.4.1"
        registry.tell(asked("10.9.4.1/32", "b"), asked("10.9.4.2/32", "b"))
        eventually(lambda: registry.lent() == {"10.9.4.2/32": "b"})
        assert host.attach("next").address == "10.9.4.3"
        host.delete("web")
        eventually(lambda: registry.lent() == {"10.9.4.1/32": "b", "10.9.4.2/32": "b"})
        registry.take_back(asked("10.9.4.1/32", "b"))
        eventually(lambda: registry.lent() == {"10.9.4.2/32": "b"})


def test_a_host_that_was_removed_leases_no_more_and_lets_what_runs_run(
    make_host: HostMaker,
) -> None:
    host = make_host(CONFIG)
    host.service()
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
        web = host.attach("web")
        before = registry.host()
        assert before is not None
        registry.take_back(own(BLOCK))
        registry.tell(StatusRow(True, "removed", before.incarnation, "c1", 9))
        eventually(lambda: registry.blocks() == {BLOCK: "lost"})
        now = registry.host()
        assert now is not None
        assert now.incarnation != before.incarnation
        registry.tell(StatusRow(True, "removed", before.incarnation, "c1", 10))  # once
        refuse = host.run_to_end("next", FOREVER, check=False)
        assert "no free address in the blocks" in refuse.stderr
        assert host.attached("web").address == web.address
        registry.tell(StatusRow(True, "", "", "c1", 11), own(BLOCK))  # it has joined anew
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
        host.attach("next")


def test_what_others_have_is_known_after_a_restart_without_the_registry(
    make_host: HostMaker,
) -> None:
    host = make_host(CONFIG)
    service = host.service()

    def known() -> tuple[list[str], list[str]]:
        with LeaseStore.open(host.state_dir / "leases.db", read_only=True) as store:
            blocks = [f"{one.prefix} {one.host}" for one in store.cluster.peer_blocks()]
            return sorted(store.cluster.peers()), sorted(blocks)

    with Registry(host.run_dir) as registry, Reading(host.run_dir) as reading:
        registry.whole(peer("b", "192.0.2.2"), peer("c", "192.0.2.3"), theirs(BLOCK, "b"))
        eventually(lambda: known() == (["b", "c"], [f"{BLOCK} b"]))
        registry.tell(peer("c", "192.0.2.3", alive=False), theirs(SECOND, "c"))
        registry.take_back(peer("b", "192.0.2.2"), theirs(BLOCK, "b"))
        eventually(lambda: known() == (["c"], [f"{SECOND} c"]))
        reading.event("host-silent")
        reading.event("host-removed")
    service.kill9()
    host.service()
    assert known() == (["c"], [f"{SECOND} c"])
    with Registry(host.run_dir) as registry:
        registry.tell(StatusRow(connected=False, problem="etcd does not answer"))
        eventually(lambda: registry.host() is not None)
        assert known() == (["c"], [f"{SECOND} c"])  # nothing was told that there is no more
        registry.whole()
        eventually(lambda: known() == ([], []))


def test_nonsense_ends_the_connection_and_the_service_lives(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    service = host.service()
    for nonsense in (b"x", b"[]]", b'[{"row": "own"}]',
                     b'[{"row": "own", "network": "x", "prefix": "y"}]',
                     b'[{"row": "peer", "host": "b", "address": "10.0.0.0/8", "alive": true}]',
                     b'[{"row": "peer", "host": "b", "address": "fd00::1%a", "alive": true}]',
                     b"[" * 60000):  # fmt: skip
        with Registry(host.run_dir) as registry:
            registry.raw(nonsense)
            assert registry.ended()
    with Registry(host.run_dir) as registry:
        registry.whole()
        registry.tell(*(Removed(table, ("b", "c", "d")) for table in ("peer", "asked", "own", "x")))
        registry.tell(own(BLOCK))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
    assert service.running
    assert not [line for line in service.log() if line["event"] == "unexpected error"]


def test_what_others_have_of_a_block_is_not_free(make_host: HostMaker) -> None:
    """So a further block is wanted before there is nothing left to lease."""
    host = make_host(CONFIG)
    host.service()
    claims = [f"10.9.4.{n}/32" for n in range(1, 9)]
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK), peer("b", "192.0.2.2"))
        eventually(lambda: registry.wanted() == 0)
        registry.tell(*(asked(claim, "b") for claim in claims[:-1]))
        eventually(lambda: len(registry.lent()) == 7)
        assert registry.wanted() == 0
        registry.tell(asked(claims[-1], "b"))
        eventually(lambda: registry.wanted() == 1)
