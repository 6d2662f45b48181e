"""Networks with lists stay closed from the first packet to the last, whatever rules are missing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.guarded import DUAL, GATEWAY6, in_mode
from tests.support.host import (
    BEYOND,
    BEYOND6,
    GATEWAY,
    UPLINK,
    UPLINK6,
    Container,
    Host,
    HostMaker,
    Json,
)
from tests.support.tireless import MARK, Doors, Tireless
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

PORT, OPEN = 4001, 4002
FLUSHES: Final = 8


def addresses(container: Container) -> list[str]:
    """The addresses of its `eth0`, without prefix lengths."""
    return [address.split("/")[0] for address in container.place.addresses()]


def rules(host: Host, version: int) -> list[str]:
    """The routing rules, as `ip rule` prints them."""
    return host.command("ip", f"-{version}", "rule").stdout.replace("\t", " ").splitlines()


def has_table(host: Host) -> bool:
    return host.command("nft", "list", "table", "inet", "watcher", check=False).returncode == 0


@pytest.mark.parametrize("mode", ["bridge", "routed"])
def test_nothing_passes_while_rules_are_flushed_and_healed(make_host: HostMaker, mode: str) -> None:
    host = make_host(in_mode(mode) + f'egress = ["any:{OPEN}"]\n')
    before = rules(host, 4), rules(host, 6)
    service = host.service()
    host.run("web")
    host.run("thief")
    web, thief = host.attached("web"), host.attached("thief")
    doors = Doors([host.here, host.beyond, web.place], PORT)
    host.beyond.serve(tcp=(OPEN,), udp=(OPEN,))
    web.serve(tcp=(OPEN,))
    targets = [
        (address, PORT)
        for address in (BEYOND, BEYOND6, UPLINK, UPLINK6, GATEWAY, GATEWAY6, *addresses(web))
    ]
    with Tireless(thief.place, targets) as one, Tireless(thief.place, targets, mark=MARK) as other:
        for _ in range(FLUSHES):
            tried = one.tries + other.tries
            host.nft("flush", "ruleset")
            eventually(lambda: has_table(host), what="the table")
            eventually(lambda tried=tried: one.tries + other.tries > tried + 20)  # type: ignore[misc]
    assert doors.arrived() == set()
    for address in (BEYOND, BEYOND6, *addresses(web)):
        assert thief.reach(address, OPEN) is not None, address
    service.stop()
    host.nft("flush", "ruleset")
    for address in (BEYOND, GATEWAY6, *addresses(web)):
        assert thief.reach(address, OPEN, timeout=0.2) is None
    assert host.watcher("sync").returncode == 0
    assert thief.reach(BEYOND6, OPEN) is not None
    host.delete("web")
    host.delete("thief")
    host.watcher("down")
    assert (rules(host, 4), rules(host, 6)) == before


MIXED: Final = (
    DUAL
    + f"""
[network.back]
mode = "routed"
bridge = "back0"
subnets = ["172.20.0.0/16", "fd00:20::/64"]
egress = ["any:{OPEN}"]
"""
)


def closing(host: Host, version: int) -> list[str]:
    """The rules of this program and the kernel's own, in order."""
    return [line for line in rules(host, version) if line.startswith(("0:", "1:"))]


def test_rules_come_and_go_with_the_sandboxes_that_need_them(make_host: HostMaker) -> None:
    """They are repaired, whoever removes or repeats any of them, and others' rules stay."""
    host = make_host(MIXED)
    host.command("ip", "rule", "add", "pref", "0", "to", "203.0.113.9", "lookup", "77")
    theirs = "0: from all to 203.0.113.9 lookup 77"
    before = rules(host, 4), rules(host, 6)
    service = host.service()
    host.attach("plain")
    assert (rules(host, 4), rules(host, 6)) == before
    host.beyond.serve(tcp=(PORT, OPEN))
    limited = host.attach("limited", annotations={"io.watcher.egress": f"any:{OPEN}"})
    bridge = "0: from all fwmark 0/0x10000000 iif netns0 blackhole proto 119"
    local = "0: from all lookup local"
    assert closing(host, 4) == [theirs, bridge, local]
    assert closing(host, 6) == [bridge, local]
    routed = host.attach("routed", annotations={"io.watcher.network": "back"})
    let_by = "0: from all iif lo goto 1 proto 119"
    after = "1: from all iif lo lookup local proto 119"
    from_back = "0: from {} fwmark 0/0x10000000 blackhole proto 119"
    right = {
        4: [theirs, bridge, let_by, from_back.format("172.20.0.0/16"), local, after],
        6: [bridge, let_by, from_back.format("fd00:20::/64"), local, after],
    }
    assert {version: closing(host, version) for version in (4, 6)} == right
    for answers in (routed, limited):
        assert answers.reach(BEYOND, OPEN) is not None
        answers.serve(tcp=(PORT,))
        assert host.here.reach(answers.address, PORT) is not None
        assert answers.reach(BEYOND, PORT) is None
    for version, gone in (
        (4, ["pref", "0", "iif", "lo", "goto", "1"]),
        (4, ["pref", "0", "iif", "netns0", "fwmark", "0/0x10000000", "blackhole"]),
        (6, ["pref", "0", "from", "fd00:20::/64", "fwmark", "0/0x10000000", "blackhole"]),
        (6, ["pref", "1"]),
    ):
        host.command("ip", f"-{version}", "rule", "del", *gone)
        eventually(lambda: all(map(closing_is_right(host, right), (4, 6))), what=" ".join(gone))
    assert {f["level"] for f in checks(host)} == {"ok"}
    service.stop()
    host.command("ip", "rule", "del", "pref", "0", "iif", "netns0")
    (finding,) = checks(host)
    assert finding["level"] == "warn"
    assert "netns0" in finding["what"]
    host.watcher("sync")
    host.delete("limited")
    host.watcher("sync")
    assert bridge not in closing(host, 4)
    host.delete("routed")
    host.watcher("sync")
    assert [sorted(rules(host, v)) for v in (4, 6)] == [sorted(one) for one in before]
    assert "arp watcher" not in host.nft("list", "tables").stdout


def closing_is_right(host: Host, right: dict[int, list[str]]) -> Callable[[int], bool]:
    """Says of an IP version whether its rules are there, in an order that is as good."""

    def is_right(version: int) -> bool:
        there = closing(host, version)
        local = there.index("0: from all lookup local")
        ours = [line for line in there if "119" in line and line.startswith("0:")]
        host_first = [
            line for line in ours if "goto" in line or " from 1" in line or "fd00" in line
        ]
        return (
            sorted(there) == sorted(right[version])
            and all(there.index(line) < local for line in ours)
            and "goto" in host_first[0]
        )

    return is_right


def checks(host: Host) -> list[Json]:
    """What `watcher check` says of closed networks."""
    done = host.watcher("check", "--json", check=False)
    return [finding for finding in json.loads(done.stdout) if finding["check"] == "closed"]


def test_a_kill_between_any_two_steps_leaves_nothing_that_sync_does_not_repair(
    make_host: HostMaker,
) -> None:
    """What such a kill leaves: each beginning of the requests, in the order in which they are."""
    host = make_host(MIXED)
    host.watcher("sync")
    host.run("limited", annotations={"io.watcher.egress": f"any:{OPEN}"})
    host.run("routed", annotations={"io.watcher.network": "back"})
    host.watcher("sync")
    whole = closing(host, 4)
    add = ["ip", "rule", "add", "pref", "0"]
    for left in (
        ["ip rule del pref 0 iif netns0", "ip rule del pref 1"],
        ["ip rule del pref 0 from 172.20.0.0/16"],
        ["ip rule del pref 0 iif lo", "ip rule del pref 0 iif netns0"],
    ):
        for command in left:
            host.command(*command.split())
        host.watcher("sync")
        assert sorted(closing(host, 4)) == sorted(whole), left
        assert closing(host, 4).index("0: from all lookup local") == 3
    # As if the kernel's own rule had not been moved yet.
    host.command(*add, "lookup", "local", "protocol", "static")
    host.command("ip", "rule", "del", "pref", "0", "protocol", "kernel", "table", "local")
    host.watcher("sync")
    assert sum(line.startswith("0: from all lookup local") for line in rules(host, 4)) == 1
    host.watcher("down")
    assert [line for line in rules(host, 4) if "119" in line] == []


def test_an_open_host_has_no_rules(make_host: HostMaker) -> None:
    host = make_host(in_mode("bridge") + 'egress = ["any"]\n[firewall]\nclosed = false\n')
    before = rules(host, 4)
    host.service()
    web = host.attach("web")
    host.beyond.serve(tcp=(PORT,))
    assert web.reach(BEYOND, PORT) is not None
    assert rules(host, 4) == before
    (finding,) = checks(host)
    assert (finding["level"], "closed = true" in finding["remedy"]) == ("ok", True)


def test_others_of_a_closed_network_go_on_when_nobody_there_has_a_list_any_more(
    make_host: HostMaker,
) -> None:
    """Its rules stay until a sync, and so long nftables lets pass what comes from there."""
    host = make_host(MIXED.replace(f'egress = ["any:{OPEN}"]\n', ""))
    host.beyond.serve(tcp=(PORT,))
    host.watcher("sync")
    frees = []
    for name in ("default", "back"):
        asked = {"io.watcher.network": name}
        host.run(f"held-{name}", annotations={**asked, "io.watcher.egress": f"any:{OPEN}"})
        host.run(f"free-{name}", annotations=asked)
        frees.append(host.attached(f"free-{name}"))
    right = closing(host, 4)
    service = host.service()
    for name in ("default", "back"):
        host.delete(f"held-{name}")
    eventually(lambda: len(host.leases()) == 4)  # of both families
    host.nft("delete", "table", "inet", "watcher")
    host.attach("new", ports="8080:80")  # makes the table, if nothing else has
    assert all(free.reach(BEYOND, PORT) is not None for free in frees)
    service.stop()
    host.watcher("sync")
    assert all(free.reach(BEYOND, PORT) is not None for free in frees)
    assert len(closing(host, 4)) == 1 < len(right)
    host.watcher("sync")
    assert all(free.reach(BEYOND, PORT) is not None for free in frees)
    assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"


def test_the_service_opens_a_network_after_the_last_who_is_held_to_a_list(served: Host) -> None:
    before = rules(served, 4), rules(served, 6)
    held = served.attach("held", annotations={"io.watcher.egress": "none"})
    free = served.attach("free")
    assert (rules(served, 4), rules(served, 6)) != before
    served.delete("held")
    served.gone(held)
    eventually(lambda: (rules(served, 4), rules(served, 6)) == before)
    served.beyond.serve(tcp=(PORT,))
    assert free.reach(BEYOND, PORT) is not None
    assert served.watcher("sync", "--dry-run").stdout == "nothing to do\n"
