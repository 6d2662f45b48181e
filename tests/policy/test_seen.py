"""What people see of limits: which connections were rejected, and how many."""

from __future__ import annotations

import json
import socket
from contextlib import suppress

from handlers.kernel import nflog
from tests.support import traffic
from tests.support.host import BEYOND, Host, HostMaker, Json
from tests.support.reading import Reading
from watcher.config.settings import Firewall
from watcher.service.rejections import BURST

BOTH = """
[network.default]
subnets = ["172.19.0.0/16", "fd00:19::/64"]
"""

LISTED = f"{BEYOND}/32:443/tcp"


def rejected(reading: Reading) -> list[str]:
    """The entries that lists would need, in the order of the events."""
    return [event.value for event in reading.events if event.kind == "rejected"]


def inspected(host: Host, name: str) -> list[Json]:
    limits: list[Json] = json.loads(host.watcher("inspect", name).stdout)["limits"]
    return limits


def test_a_list_can_be_written_by_looking(make_host: HostMaker) -> None:
    host = make_host(BOTH)
    service = host.service()
    host.beyond.serve(tcp=(80, 443), udp=(53,))
    asked = {"io.watcher.ip": "172.19.0.50,fd00:19::50"}
    limited = host.attach("limited", annotations=asked | {"io.watcher.egress": LISTED})
    with Reading(host.run_dir) as reading:
        for _ in range(3):
            assert limited.reach(BEYOND, 80) is None
        assert limited.reach(BEYOND, 53, "udp") is None
        limited.exec("ping", "-c", "1", "-W", "1", BEYOND, check=False)
        limited.exec("ping", "-c", "1", "-W", "1", "fd00:19::1", check=False)
        reading.until(lambda: len(rejected(reading)) == 4)
        found = rejected(reading)
        v6 = "[fd00:19::1]/icmp"
        assert found == [f"{BEYOND}:80/tcp", f"{BEYOND}:53/udp", f"{BEYOND}/icmp", v6]
        assert service.warnings() == []
        said = host.watcher("events", "--since", "1h", "--filter", "kind=rejected").stdout
        assert f" limited io.watcher.egress={BEYOND}:80/tcp\n" in said
        (eth0,) = inspected(host, "limited")
        assert eth0["egress"] == [{"from": "io.watcher.egress", "entries": [LISTED]}]
        assert eth0["ingress"] is eth0["connections"] is eth0["egress_bandwidth"] is None
        assert eth0["rejected"]["egress"] >= 6
        assert host.watcher("sync", "--dry-run").stdout == "nothing to do\n"

        # The rules are made anew, and it counts on.
        before = eth0["rejected"]["egress"]
        host.nft("flush", "chain", "inet", "watcher", "publish")
        reading.event("repaired")
        (eth0,) = inspected(host, "limited")
        assert eth0["rejected"]["egress"] == before
        assert limited.reach(BEYOND, 80) is None
        (eth0,) = inspected(host, "limited")
        assert eth0["rejected"]["egress"] > before

        # What was told is a list that works. Who has the address next has not its counts.
        host.delete("limited")
        host.gone(limited)
        again = host.attach("again", annotations=asked | {"io.watcher.egress": ",".join(found)})
        assert inspected(host, "again")[0]["rejected"]["egress"] == 0
        assert again.reach(BEYOND, 80) is not None
        assert again.reach(BEYOND, 443) is None
        reading.event("rejected", "again")
        assert rejected(reading)[4:] == [f"{BEYOND}:443/tcp"]


def test_one_that_floods_hides_nothing_of_another(make_host: HostMaker) -> None:
    host = make_host()
    host.service()
    asked = {"io.watcher.egress": "none"}
    loud, quiet = host.attach("loud", annotations=asked), host.attach("quiet", annotations=asked)
    sent = 20_000
    with (
        Reading(host.run_dir) as reading,
        traffic.make_socket(loud.place.netns, socket.AF_INET, socket.SOCK_DGRAM) as flood,
    ):
        for number in range(sent):
            with suppress(OSError):  # the kernel says that an earlier one was rejected
                flood.sendto(b"", (BEYOND, 1 + number))
        assert quiet.reach(BEYOND, 80) is None
        reading.event("rejected", "quiet")
        assert inspected(host, "loud")[0]["rejected"]["egress"] >= sent * 0.9
        told = [e for e in reading.events if e.kind == "rejected" and e.sandbox == "loud"]
        assert 1 <= len(told) <= BURST + 5


def test_another_program_may_have_the_group(host: Host) -> None:
    with traffic.entered(host.here.netns):
        other = nflog.listen(Firewall().log_group)
    with other:
        service = host.service()
        limited = host.attach("limited", annotations={"io.watcher.egress": "none"})
        assert limited.reach(BEYOND, 80) is None
        service.logged("another program reads log group", level="warning")
