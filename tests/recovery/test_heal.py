"""A running service heals by itself what others remove or change, and says what was missing.

It is told so by the kernel. Where it was not told, because it was stopped or events were lost, it
looks at everything.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.host import BEYOND, UPLINK, Container, Host, HostMaker
from tests.support.pictures import difference, take
from tests.support.traffic import Answer
from tests.support.waiting import eventually

RELOAD: Final = """
flush ruleset
table inet filter {
    chain input { type filter hook input priority filter; policy accept; }
}
"""
"""What `systemctl reload nftables` reads: it begins by removing everybody's tables."""

FLOOD: Final = """
import os, sys
for _ in range(int(sys.argv[2])):
    os.mkdir(sys.argv[1])
    os.rmdir(sys.argv[1])
"""

FIGHTS: Final = 12
"""More rounds than it takes until a warning."""


@dataclass(frozen=True)
class Damage:
    """Something that somebody does, and the words by which the log names what was missing."""

    command: str
    words: tuple[str, ...]


DAMAGES: Final[dict[str, dict[str, Damage]]] = {
    "tables": {
        "flush ruleset": Damage("nft flush ruleset", ("nftables",)),
        "reload of nftables": Damage("nft -f {reload}", ("nftables",)),
        "table": Damage("nft delete table inet watcher", ("nftables",)),
    },
    "rules": {
        "rule": Damage("nft flush chain inet watcher prerouting", ("nftables",)),
        "chain": Damage(
            "nft flush chain inet watcher to_sandboxes; delete chain inet watcher publish || true",
            ("nftables",),
        ),
        "port map": Damage(
            "nft 'delete element inet watcher port4 {{ tcp . 8080 }}'", ("port4", "tcp 8080")
        ),
    },
    "host": {
        "bridge": Damage("ip link delete netns0", ("bridge", "netns0")),
        "bridge down": Damage("ip link set netns0 down", ("netns0",)),
        "bridge's address": Damage(
            "ip address delete 172.19.0.1/16 dev netns0", ("172.19.0.1/16",)
        ),
        "forwarding": Damage("echo 0 > /proc/sys/net/ipv4/ip_forward", ("ip_forward",)),
    },
    "settings": {
        "bridge's forwarding": Damage(
            "echo 0 > /proc/sys/net/ipv4/conf/netns0/forwarding", ("conf/netns0/forwarding",)
        ),
        "route_localnet": Damage(
            "sysctl -q net.ipv4.conf.netns0.route_localnet=0", ("route_localnet",)
        ),
        "route_localnet of another bridge of that name": Damage(
            "ip link delete netns0;"
            " until sysctl -qw net.ipv4.conf.netns0.route_localnet=0 2>/dev/null; do :; done",
            ("route_localnet",),
        ),
    },
    "guard": {
        "guard": Damage("tc filter delete dev {veth} ingress", ("{veth}", "guarded")),
        "ingress": Damage("tc qdisc delete dev {veth} ingress", ("{veth}", "guarded")),
        "another program": Damage(
            "tc filter replace dev {veth} ingress prio 1 handle 1 protocol all"
            " bpf direct-action bytecode '1,6 0 0 0'",
            ("{veth}", "another guard"),
        ),
    },
    "veth": {
        "veth": Damage("ip link delete {veth}", ("{veth}", "missing")),
        "veth down": Damage("ip link set {veth} down", ("{veth}", "down")),
        "veth off the bridge": Damage("ip link set {veth} nomaster", ("{veth}", "netns0")),
        "eth0": Damage("{inside} ip link delete eth0", ("{veth}",)),
    },
    "renamed": {
        "host end": Damage("ip link set {veth} name eth7", ("{veth}", "eth7")),
        "host end, down meanwhile": Damage(
            "ip link set {veth} down && ip link set {veth} name eth8; ip link set eth8 up || :",
            ("{veth}", "eth8"),
        ),
        "bridge": Damage("ip link set netns0 name lan0", ("netns0", "lan0")),
        "bridge, down meanwhile": Damage(
            "ip link set netns0 down && ip link set netns0 name lan1; ip link set lan1 up || :",
            ("netns0", "lan1"),
        ),
    },
    "inside": {
        "eth0 down": Damage("{inside} ip link set eth0 down", ("eth0", "down")),
        "address": Damage("{inside} ip address delete {address}/16 dev eth0", ("{address}/16",)),
        "route": Damage("{inside} ip route delete default", ("route",)),
        "subnet's route": Damage("{inside} ip route delete 172.19.0.0/16", ("route",)),
    },
    "pins": {
        "lo down": Damage("{inside} ip link set lo down", ("lo",)),
        "pin unmounted": Damage("umount {pin}", ("{pin}",)),
        "pin removed": Damage("until umount {pin} && rm {pin}; do :; done", ("{pin}",)),
    },
}
"""Few of a kind at a time: one that is done again and again is waited for longer and longer."""


class Healed:
    """A host with a service and a container with a published port, and how it is when whole."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.service = host.service()
        self.web = host.attach("web", ports="8080:80/tcp,8080:80/udp")
        self.web.serve(tcp=(80,), udp=(80,))
        host.beyond.serve(tcp=(80,))
        self._reload = host.base / "nftables.conf"
        self._reload.write_text(RELOAD)
        self._before = take(host, [self.web])

    def filled(self, text: str) -> str:
        """`text` with what it names of this host."""
        return text.format(
            veth=self.web.veth,
            address=self.web.address,
            pin=self.host.netns_dir / "web",
            inside=f"nsenter --net=/proc/{self.web.pid}/ns/net",
            reload=self._reload,
        )

    def repairs(self) -> list[dict[str, Any]]:
        """The log's lines of repairs."""
        return [entry for entry in self.service.log() if entry.get("event") == "repaired"]

    def whole(self, *, but: str = "") -> bool:
        """Whether all is as it was, and packets come through."""
        now = take(self.host, [self.web])
        lines = difference(now, self._before).splitlines()
        found = [line for line in lines if not but or but not in line]
        assert not found, "\n".join(found)
        assert self.host.beyond.reach(UPLINK, 8080, timeout=0.3) == Answer("web", BEYOND)
        assert self.host.beyond.reach(UPLINK, 8080, "udp", timeout=0.3) == Answer("web", BEYOND)
        assert self.web.reach(BEYOND, 80) == Answer("beyond", UPLINK)
        return True

    def heals(self, name: str, damage: Damage) -> None:
        """Does the damage, and waits until it is repaired and the log has said so."""
        words = [self.filled(word) for word in damage.words]
        before = len(self.repairs())
        self.host.command("sh", "-c", self.filled(damage.command))
        eventually(lambda: self.whole(but="filter"), what=f"the repair of {name}")

        def told() -> bool:
            lines = [json.dumps(entry) for entry in self.repairs()[before:]]
            return any(all(word in line for word in words) for line in lines)

        eventually(told, what=f"a line with {words} about {name}")


@pytest.fixture
def healed(host: Host) -> Healed:
    """See the class."""
    return Healed(host)


@pytest.mark.parametrize("kind", DAMAGES)
def test_whatever_is_removed_comes_back_and_the_log_names_it(healed: Healed, kind: str) -> None:
    for name, damage in DAMAGES[kind].items():
        healed.heals(name, damage)
    assert healed.service.warnings() == []
    assert healed.host.watcher("sync").stdout == "nothing to do\n"


def test_a_repair_is_told_once(healed: Healed) -> None:
    healed.host.command("ip", "link", "delete", healed.web.veth)
    eventually(healed.whole)
    healed.service.logged("repaired", healed.web.veth)
    healed.service.stop()
    told = [entry["what"] for entry in healed.repairs() if healed.web.veth in entry["what"]]
    assert len(told) == 1


def test_connections_go_on_through_a_flush(healed: Healed) -> None:
    stream = healed.host.beyond.stream(UPLINK, 8080)
    outwards = healed.web.place.stream(BEYOND, 80)
    healed.host.nft("flush", "ruleset")
    eventually(healed.whole)
    assert stream.say("hello") == "hello"
    assert outwards.say("hello") == "hello"


def test_one_who_keeps_undoing_it_is_not_fought_but_named(healed: Healed) -> None:
    """Each time it has put the bridge up, somebody sets it down again."""
    over = threading.Event()
    rounds = 0

    def up() -> bool:
        link = healed.host.here.link("netns0")
        return over.is_set() or (link is not None and "UP" in link["flags"])

    def fight() -> None:
        nonlocal rounds
        while not over.is_set() and rounds < FIGHTS:
            healed.host.command("ip", "link", "set", "netns0", "down")
            rounds += 1
            eventually(up, 60)

    thread = threading.Thread(target=fight)
    thread.start()
    try:
        warning = healed.service.logged("netns0", '"pause"', level="warning")
    finally:
        over.set()
        thread.join()
    assert warning["pause"] >= 1
    assert rounds < FIGHTS
    eventually(healed.whole, 60)


def test_what_happened_while_it_was_stopped_is_put_right_as_it_goes_on(
    make_host: HostMaker,
) -> None:
    host = make_host('[gate]\nmode = "off"\n')
    healed = Healed(host)
    gone = host.attach("gone")
    healed.service.signal(signal.SIGSTOP)
    host.delete("gone")
    host.run("new", ports="8081:80").serve(tcp=(80,))
    host.command(
        "sh", "-c", healed.filled("nft flush ruleset; ip link delete {veth}; umount {pin}")
    )
    healed.service.signal(signal.SIGCONT)
    host.attached("new")
    host.gone(gone)
    eventually(lambda: healed.whole(but="new"))
    assert host.beyond.reach(UPLINK, 8081) == Answer("new", BEYOND)


def test_an_overflow_of_the_roots_events_loses_no_container(make_host: HostMaker) -> None:
    """More events than inotify keeps come while it is stopped, and those that matter last."""
    host = make_host('[gate]\nmode = "off"\n')
    service = host.service()
    old = host.attach("old")
    service.signal(signal.SIGSTOP)
    queue = int(host.command("cat", "/proc/sys/fs/inotify/max_queued_events").stdout)
    host.command(sys.executable, "-c", FLOOD, str(host.root / "x"), str(queue), timeout=300)
    host.run("new", ports="8081:80").serve(tcp=(80,))
    host.delete("old")
    service.signal(signal.SIGCONT)
    host.attached("new")
    host.gone(old)
    assert host.beyond.reach(UPLINK, 8081) == Answer("new", BEYOND)


def test_lost_word_of_the_kernel_is_made_good(healed: Healed) -> None:
    """More changes of links than a socket's buffer holds, and then the one that matters."""
    healed.service.signal(signal.SIGSTOP)
    flood = "link set mine0 alias {}\n"
    healed.host.command("ip", "link", "add", "mine0", "type", "bridge")
    healed.host.command(
        "ip", "-batch", "-", stdin="".join(flood.format(number) for number in range(15_000))
    )
    healed.host.command("ip", "link", "delete", "netns0")
    healed.host.command("ip", "link", "delete", "mine0")
    healed.service.signal(signal.SIGCONT)
    eventually(healed.whole)


def test_a_root_that_is_mounted_over_and_mounted_again_is_watched_again(host: Host) -> None:
    """Nobody loses the network because the root is not what it was for a while."""
    kept, elsewhere = host.base / "kept", host.base / "elsewhere"
    for directory in (kept, elsewhere, host.root):
        directory.mkdir()
    host.command("mount", "--bind", str(kept), str(host.root))
    service = host.service()
    web = run(host, "web", kept, ports="8080:80")
    web.serve(tcp=(80,))
    eventually(lambda: host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND))
    for away in (("mount", "--bind", str(elsewhere)), ("umount", "--lazy")):
        host.command(*away, str(host.root))
        host.watcher("sync")
        assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    host.command("mount", "--bind", str(kept), str(host.root))
    other = run(host, "other", kept, ports="8081:80")
    other.serve(tcp=(80,))
    eventually(lambda: host.beyond.reach(UPLINK, 8081) == Answer("other", BEYOND))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert service.running


def test_a_container_in_what_is_mounted_over_a_root_gets_its_network(host: Host) -> None:
    """As soon as another one is seen there, those that are seen no more have gone."""
    elsewhere = host.base / "elsewhere"
    elsewhere.mkdir()
    host.service()
    web = host.attach("web", ports="8080:80")
    host.command("mount", "--bind", str(elsewhere), str(host.root))
    other = run(host, "other", elsewhere, ports="8081:80")
    other.serve(tcp=(80,))
    eventually(lambda: host.beyond.reach(UPLINK, 8081) == Answer("other", BEYOND))
    host.watcher("sync")
    host.gone(web)


def run(host: Host, name: str, kept: Path, **bundle: Any) -> Container:
    """Runs a container; its root is at `kept` for this process, where nothing is mounted."""
    host.bundle(name, **bundle)
    host.launch("run", name, "--detach")
    root, host.root = host.root, kept
    try:
        return host.container(name)
    finally:
        host.root = root
