"""Other firewalls of the host, the real ones: what they drop, what `watcher check` says to do about
it, and what `[firewall] integrate = true` does by itself.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.firewall.test_questions import GATEWAYS, answering, answers, nobody_answers
from tests.support.host import BEYOND, GATEWAY, UPLINK, Container, Host
from tests.support.processes import end
from tests.support.traffic import Answer
from tests.support.waiting import LATENCY_FREE_NO, eventually
from watcher.checks.filters import nftables, packets
from watcher.checks.filters.fate import drops
from watcher.model.network import Network

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.host import HostMaker

INTEGRATE = "[firewall]\nintegrate = true\n"
LEGACY = "iptables-legacy table filter"
OUTSIDE, PUBLISHED = 7000, 8080

OWN_POLICY = """
table inet own {
    chain forward { type filter hook forward priority 0; policy drop; }
}
"""
OWN_LAST_RULE = """
table inet own {
    set uplinks { type ifname; flags interval; elements = { "uplink", "wan*" } }
    chain refuse { reject; }
    chain rest { ct state vmap { invalid : drop, related : accept }; goto refuse; }
    chain forward {
        type filter hook forward priority 10; policy accept;
        iifname @uplinks oifname "lan0" accept
        tcp dport { 22, 443 } accept
        ip saddr 10.0.0.0/8 accept
        udp dport 53 accept
        jump rest
    }
}
"""
OWN_IP = """
table ip own {
    chain forward {
        type filter hook forward priority -5; policy drop;
        iifname "uplink" ct status dnat accept
        ct state established accept
    }
}
"""
DOCKER = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
:DOCKER - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER-USER -j RETURN
COMMIT
"""
"""What Docker makes of a host's filter table (`iptables-save` beside Docker 27)."""

PLAIN = """*filter
:INPUT ACCEPT [0:0]
:FORWARD DROP [0:0]
:OUTPUT ACCEPT [0:0]
-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -s 10.0.0.0/8 ! -i uplink -p tcp -m multiport --dports 22,80:90 -j ACCEPT
-A FORWARD -p icmp -m comment --comment "let us ping" -j ACCEPT
COMMIT
"""


def own(host: Host, ruleset: str) -> None:
    host.command("nft", "-f", "-", stdin=ruleset)


def restored(command: str, rules: str) -> Callable[[Host], None]:
    return lambda host: void(host.command(f"{command}-restore", stdin=rules))


def void(_: object) -> None:
    """So that a lambda may end in a command."""


def copied(host: Host, directory: str) -> Path:
    """A copy of `directory` of the machine over the original, for this host alone."""
    copy = host.base / directory.strip("/").replace("/", "-")
    shutil.copytree(directory, copy)
    host.command("mount", "--bind", str(copy), directory)
    return copy


class Firewalld:
    """The real firewalld on a host, on a bus of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.config = copied(host, "/etc/firewalld")
        host.command("sh", "-ec", "mount -t tmpfs tmpfs /var/log; mkdir -p /run/dbus")
        self._start("dbus-daemon", "--system", "--nofork", "--nopidfile")
        socket = host.seen(Path("/run/dbus/system_bus_socket"))
        eventually(socket.exists, what="a system bus")
        self.start()

    def _start(self, *argv: str) -> subprocess.Popen[str]:
        output = (self.host.base / f"{argv[0]}.log").open("a")
        with output:
            process = self.host.popen(argv, stdout=output, stderr=output)
        self.host.on_close(lambda: end(process))
        return process

    def start(self) -> None:
        self._process = self._start("firewalld", "--nofork", "--nopid")
        eventually(lambda: self.cmd("--state") == "running", what="firewalld")

    def stop(self) -> None:
        end(self._process)

    def cmd(self, *args: str) -> str:
        return self.host.command("firewall-cmd", *args).stdout.strip()

    def zones(self, of: str = "interfaces") -> tuple[list[str], list[str]]:
        """What the zone `trusted` has of these, now and for later."""
        words = ("--zone=trusted", f"--list-{of}")
        return self.cmd(*words).split(), self.cmd("--permanent", *words).split()

    def ports(self) -> tuple[list[str], list[str]]:
        """The ports of the default zone, now and for later."""
        return self.cmd("--list-ports").split(), self.cmd("--permanent", "--list-ports").split()

    def rules(self) -> tuple[str, str]:
        """All zones and rules, freshly made: it leaves chains of its own behind otherwise."""
        self.cmd("--reload")
        table = self.host.nft("list", "table", "inet", "firewalld").stdout
        return self.cmd("--list-all-zones"), table


def ufw(host: Host) -> None:
    """The real ufw, enabled."""
    copied(host, "/etc/ufw")
    host.command("ufw", "--force", "enable")


def firewalls(host: Host) -> list[dict[str, Any]]:
    """The findings of the check of firewalls that are not `ok`."""
    findings = json.loads(host.watcher("check", "--json", check=False).stdout)
    return [f for f in findings if f["check"] == "firewalls" and f["level"] != "ok"]


def paste(host: Host, remedy: str) -> None:
    """Run what a remedy says, word by word, but for `, or` something else."""
    commands = re.findall(r"`(.+?)`", remedy.partition(", or")[0])
    assert commands, remedy
    for command in commands:
        host.command("sh", "-ec", command)


def flows(host: Host, web: Container) -> bool:
    """Whether packets come through: out of a container, and to its published port."""
    return (
        web.reach(BEYOND, OUTSIDE) is not None and host.beyond.reach(UPLINK, PUBLISHED) is not None
    )


def gets_out(web: Container) -> bool:
    """Whether packets come out of a container that are expected to be dropped."""
    return web.reach(BEYOND, OUTSIDE, timeout=LATENCY_FREE_NO) is not None


def is_cut_off(host: Host, web: Container) -> bool:
    """Whether packets do not come through in one direction at least."""
    inwards = host.beyond.reach(UPLINK, PUBLISHED, timeout=LATENCY_FREE_NO)
    return inwards is None or not gets_out(web)


def serving(host: Host, name: str = "web") -> Container:
    web = host.attach(name, ports=f"{PUBLISHED}:80")
    web.serve(tcp=(80,))
    host.beyond.serve(tcp=(OUTSIDE,))
    return web


# --- watcher check ---------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bridge", "routed"])
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda host: own(host, OWN_POLICY), "chain forward of nftables table inet own"),
        (lambda host: own(host, OWN_LAST_RULE), "chain forward of nftables table inet own"),
        (lambda host: own(host, OWN_IP), "chain forward of nftables table ip own"),
        (restored("iptables", DOCKER), "Docker's chain FORWARD of iptables table filter"),
        (restored("iptables", PLAIN), "chain FORWARD of iptables table filter"),
        (
            restored("iptables", PLAIN.replace("*filter", "*mangle")),
            "chain FORWARD of iptables table mangle",
        ),
        (restored("iptables-legacy", PLAIN), "chain FORWARD of iptables-legacy table filter"),
        (
            restored("iptables-legacy", DOCKER),
            "Docker's chain FORWARD of iptables-legacy table filter",
        ),
        (ufw, "ufw's chain FORWARD of iptables table filter"),
        (Firewalld, "firewalld (chain filter_FORWARD of nftables table inet firewalld)"),
    ],
    ids=[
        *("own-policy", "own-last-rule", "own-ip", "docker", "iptables", "mangle"),
        *("legacy", "legacy-docker", "ufw", "firewalld"),
    ],
)
def test_the_remedy_for_what_another_firewall_drops_is_the_right_one(
    make_host: HostMaker, make: Callable[[Host], object], named: str, mode: str
) -> None:
    host = make_host(f'[network.default]\nmode = "{mode}"\n')
    web = serving(host)
    assert flows(host, web)
    assert firewalls(host) == []

    make(host)
    assert is_cut_off(host, web)
    dropping = [f for f in firewalls(host) if "send or get" in f["what"]]
    assert [f["what"] for f in dropping] == [f"{named} drops what containers on netns0 send or get"]
    assert {f["level"] for f in dropping} == {"fail"}
    assert host.watcher("check", check=False).returncode == 1

    paste(host, dropping[0]["remedy"])
    assert [f for f in firewalls(host) if "send or get" in f["what"]] == []
    assert flows(host, web)


def test_a_firewall_that_lets_it_pass_is_not_blamed(host: Host) -> None:
    web = serving(host)
    own(
        host,
        """table inet own {
            chain forward {
                type filter hook forward priority 0; policy drop;
                ct state established,related accept
                iifname "netns*" oifname "uplink" accept
                ip daddr 172.19.0.0/16 ct status dnat accept
                iifname "netns0" oifname "netns0" accept
            }
        }
        table ip6 own {
            chain forward { type filter hook forward priority 0; policy drop; }
        }
        """,
    )
    assert flows(host, web)
    assert firewalls(host) == []


def test_what_cannot_be_told_is_a_warning(host: Host) -> None:
    own(
        host,
        """table inet own {
            chain forward {
                type filter hook forward priority 0; policy drop;
                meta mark 7 accept
            }
        }""",
    )
    (finding,) = firewalls(host)
    assert finding["level"] == "warn"
    assert "may drop" in finding["what"]


def test_an_input_policy_is_a_warning(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nnames = false\n")
    web = serving(host)
    host.here.serve(tcp=(22,))
    own(host, OWN_POLICY.replace("forward", "input"))
    assert web.reach(GATEWAY, 22, timeout=LATENCY_FREE_NO) is None
    assert flows(host, web)

    (finding,) = firewalls(host)
    assert finding["level"] == "warn"
    assert "host's own services" in finding["what"]
    paste(host, finding["remedy"])
    assert web.reach(GATEWAY, 22) is not None
    assert firewalls(host) == []


NAMES = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
OWN_INPUT = """
table inet own {
    chain input {
        type filter hook input priority 0; policy drop;
        ct state established,related accept
        meta l4proto ipv6-icmp accept
        tcp dport 22 accept
    }
}
"""
PLAIN_INPUT = """*filter
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
-A INPUT -p ipv6-icmp -j ACCEPT
-A INPUT -j REJECT
COMMIT
"""


def restored_both(command: str) -> Callable[[Host], None]:
    """The same rules for both families, as `command` and its twin for IPv6 make them."""

    def make(host: Host) -> None:
        for one in (command, command.replace("iptables", "ip6tables")):
            restored(one, PLAIN_INPUT)(host)

    return make


def names_answered(web: Container) -> set[str | None]:
    """Who answers the questions of a container, by both families and protocols."""
    return {who for own in GATEWAYS for who in answers(web.place, own)}


@pytest.mark.parametrize("mode", ["bridge", "routed"])
@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda host: own(host, OWN_INPUT), "chain input of nftables table inet own"),
        (restored_both("iptables"), "chain INPUT of iptables table filter"),
        (restored_both("iptables-legacy"), "chain INPUT of iptables-legacy table filter"),
        (ufw, "ufw's chain INPUT of iptables table filter"),
        (Firewalld, ""),
    ],
    ids=["own", "iptables", "legacy", "ufw", "firewalld"],
)
def test_the_remedy_for_questions_that_another_firewall_drops(
    make_host: HostMaker, make: Callable[[Host], object], named: str, mode: str
) -> None:
    host = make_host(NAMES + f'mode = "{mode}"\n')
    web = host.attach("web")
    answering(host)
    make(host)
    dropping = [f for f in firewalls(host) if "questions" in f["what"]]
    if named:
        assert any(nobody_answers(web.place, own) for own in GATEWAYS)
        assert dropping[0]["level"] == "fail"
        on = f"{named} drops the questions of containers on netns0 to the name service (port 29053"
        assert dropping[0]["what"] == f"{on} of {GATEWAY})"
    for finding in dropping:
        paste(host, finding["remedy"])
    assert names_answered(web) == {"names"}
    assert [f for f in firewalls(host) if "questions" in f["what"]] == []


@pytest.mark.parametrize("mode", ["bridge", "routed"])
@pytest.mark.parametrize(
    "make", [ufw, restored_both("iptables"), Firewalld], ids=["ufw", "iptables", "firewalld"]
)
def test_questions_pass_other_firewalls_by_themselves(
    make_host: HostMaker, make: Callable[[Host], object], mode: str
) -> None:
    def rules() -> list[str]:
        saved = host.command("iptables-save").stdout + host.command("ip6tables-save").stdout
        return [line for line in saved.splitlines() if "watcher" in line]

    host = make_host(INTEGRATE + NAMES + f'mode = "{mode}"\n')
    made = make(host)
    web = host.attach("web")
    answering(host)
    assert names_answered(web) == {"names"}
    assert [f for f in firewalls(host) if "questions" in f["what"]] == []
    if make is ufw:
        host.command("ufw", "reload")
        assert names_answered(web) == {"names"}
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert (rules() == []) is isinstance(made, Firewalld)
    host.configure(INTEGRATE + NAMES + f'mode = "{mode}"\nnames = false\n')
    host.watcher("sync")
    assert rules() == []


def test_neighbours_on_the_bridge_itself(host: Host) -> None:
    one, two = host.attach("one"), host.attach("two")
    one.serve(tcp=(80,))
    own(host, OWN_POLICY.replace("inet", "bridge"))
    assert two.reach(one.address, 80, timeout=LATENCY_FREE_NO) is None
    (finding,) = firewalls(host)
    paste(host, finding["remedy"])
    # The kernel gives up on an address three seconds after it first asked who has it.
    assert eventually(lambda: two.reach(one.address, 80) is not None)
    assert firewalls(host) == []


def test_ipv6_has_a_firewall_of_its_own(make_host: HostMaker) -> None:
    host = make_host('[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n')
    restored("ip6tables", DOCKER)(host)
    (finding,) = firewalls(host)
    assert "ip6tables table filter" in finding["what"]
    assert "`ip6tables -I DOCKER-USER -i netns0 -j ACCEPT`" in finding["remedy"]


def test_an_internal_network_loses_its_neighbours_alone(make_host: HostMaker) -> None:
    host = make_host("[network.default]\ninternal = true\n")
    own(host, OWN_POLICY)
    filtered = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    host.command("sh", "-ec", f"test ! -e {filtered} || echo 0 > {filtered}")
    assert firewalls(host) == []


def test_packets_of_one_container_have_a_fate_of_their_own(host: Host) -> None:
    one, two = host.attach("one"), host.attach("two")
    host.beyond.serve(tcp=(OUTSIDE,))
    own(
        host,
        f"""table inet own {{
            chain forward {{
                type filter hook forward priority 0; policy accept;
                ip saddr {two.address} drop
            }}
        }}""",
    )
    assert one.reach(BEYOND, OUTSIDE) is not None
    assert two.reach(BEYOND, OUTSIDE, timeout=LATENCY_FREE_NO) is None
    listed = host.nft("--json", "list", "table", "inet", "own").stdout
    table = nftables.read(json.loads(listed)["nftables"])
    assert table is not None
    for container, passes in ((one, True), (two, False)):
        sent = packets.forwarded(Network(), ip_address(container.address), "uplink")
        dropping = [(drop.chain.name, drop.certain) for drop in drops(table, tuple(sent))]
        assert dropping == ([] if passes else [("forward", True)])


# --- integrate = true ------------------------------------------------------------------------


def user_rules(host: Host, command: str = "iptables") -> list[str]:
    return host.command(command, "-S", "DOCKER-USER").stdout.splitlines()[1:]


OURS = [
    "-A DOCKER-USER -i netns0 -m comment --comment watcher -j ACCEPT",
    "-A DOCKER-USER -o netns0 -m comment --comment watcher -j ACCEPT",
]


def test_docker_lets_the_traffic_pass(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    restored("iptables", DOCKER)(host)
    before = host.command("iptables", "-S").stdout
    web = serving(host)
    assert flows(host, web)
    assert user_rules(host) == [*OURS, "-A DOCKER-USER -j RETURN"]
    assert firewalls(host) == []

    assert host.watcher("sync").stdout == "nothing to do\n"
    assert "netns0" in host.watcher("down").stdout
    assert host.command("iptables", "-S").stdout == before


def test_rules_of_the_user_come_before_ours(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    restored("iptables", DOCKER.replace("-j RETURN", "-s 198.51.100.0/24 -j DROP"))(host)
    host.attach("web")
    assert user_rules(host) == ["-A DOCKER-USER -s 198.51.100.0/24 -j DROP", *OURS]


def test_docker_of_both_families(make_host: HostMaker) -> None:
    host = make_host('[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n' + INTEGRATE)
    restored("iptables", DOCKER)(host)
    restored("ip6tables", DOCKER)(host)
    host.attach("web")
    assert user_rules(host)[:2] == user_rules(host, "ip6tables")[:2] == OURS


def test_sync_puts_back_what_docker_lost(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    restored("iptables", DOCKER)(host)
    web = serving(host)
    restored("iptables", DOCKER)(host)  # as it starts anew
    assert not gets_out(web)

    dry = host.watcher("sync", "--dry-run").stdout
    assert not gets_out(web)
    assert dry == "added netns0 to DOCKER-USER of iptables: it drops the traffic\n"
    assert host.watcher("sync").stdout == dry
    assert flows(host, web)


def test_firewalld_trusts_the_bridge(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    firewalld = Firewalld(host)
    before = firewalld.rules()
    web = serving(host)
    assert flows(host, web)
    assert firewalld.zones() == (["netns0"], ["netns0"])
    assert firewalls(host) == []

    firewalld.cmd("--reload")
    assert firewalld.zones() == (["netns0"], ["netns0"])
    assert flows(host, web)
    assert host.watcher("sync").stdout == "nothing to do\n"

    host.watcher("down")
    assert firewalld.zones() == ([], [])
    assert firewalld.rules() == before


def test_firewalld_trusts_the_subnets_of_a_routed_network(make_host: HostMaker) -> None:
    subnets = ["172.21.0.0/24", "fd00:21::/64"]
    routed = f'[network.default]\nmode = "routed"\nsubnets = {json.dumps(subnets)}\n'
    host = make_host(INTEGRATE + routed)
    firewalld = Firewalld(host)
    before = firewalld.rules()
    web, other = serving(host), host.attach("other")
    assert flows(host, web)
    assert other.reach(web.address, 80) == Answer("web", other.address)
    assert firewalld.zones("sources") == (subnets, subnets)
    assert firewalld.zones() == ([], [])
    assert firewalls(host) == []
    assert host.watcher("sync").stdout == "nothing to do\n"

    firewalld.cmd("--zone=trusted", f"--remove-source={subnets[0]}")
    firewalld.cmd("--zone=work", f"--add-source={subnets[0]}")
    assert host.watcher("sync").stdout == "nothing to do\n", "somebody has chosen"
    firewalld.cmd("--reload")
    host.watcher("down")
    assert firewalld.zones("sources") == ([], [])
    assert firewalld.rules() == before


def test_down_takes_back_the_subnets_that_a_stopped_firewalld_would_remember(
    make_host: HostMaker,
) -> None:
    host = make_host(INTEGRATE + '[network.default]\nmode = "routed"\n')
    firewalld = Firewalld(host)
    host.attach("web")
    assert firewalld.zones("sources") != ([], [])
    firewalld.stop()
    host.watcher("down")
    firewalld.start()
    assert firewalld.zones("sources") == ([], [])


def test_firewalld_keeps_a_bridge_in_the_zone_that_somebody_chose(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    firewalld = Firewalld(host)
    firewalld.cmd("--zone=work", "--add-interface=netns0")
    host.attach("web")
    assert firewalld.zones() == ([], [])
    assert firewalld.cmd("--get-zone-of-interface=netns0") == "work"
    assert host.watcher("sync").stdout == "nothing to do\n"
    host.watcher("down")
    assert firewalld.cmd("--get-zone-of-interface=netns0") == "work"


def test_down_leaves_a_zone_that_somebody_else_set(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    firewalld = Firewalld(host)
    for permanent in ([], ["--permanent"]):
        firewalld.cmd(*permanent, "--zone=trusted", "--add-interface=netns0")
    host.attach("web")
    host.watcher("down")
    assert firewalld.zones() == (["netns0"], ["netns0"])


def test_down_takes_back_what_a_stopped_firewalld_would_remember(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    firewalld = Firewalld(host)
    host.attach("web")
    firewalld.stop()
    host.watcher("down")
    firewalld.start()
    assert firewalld.zones() == ([], [])


def test_a_firewalld_that_starts_later_is_told_by_sync(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    web = serving(host)
    firewalld = Firewalld(host)
    assert not gets_out(web)
    assert "added netns0 to firewalld" in host.watcher("sync").stdout
    assert firewalld.zones() == (["netns0"], ["netns0"])
    assert flows(host, web)


def test_integrate_turned_off_takes_it_back(make_host: HostMaker) -> None:
    host = make_host(INTEGRATE)
    restored("iptables", DOCKER)(host)
    firewalld = Firewalld(host)
    host.attach("web")
    host.configure()
    lines = host.watcher("sync").stdout.splitlines()
    assert lines == [
        "removed netns0 from DOCKER-USER of iptables: integrate = false",
        "removed netns0 from firewalld: integrate = false",
    ]
    assert user_rules(host) == ["-A DOCKER-USER -j RETURN"]
    assert firewalld.zones() == ([], [])


def test_without_integrate_nothing_is_touched(host: Host) -> None:
    restored("iptables", DOCKER)(host)
    firewalld = Firewalld(host)
    before = host.command("iptables", "-S").stdout
    host.attach("web")
    assert host.command("iptables", "-S").stdout == before
    assert firewalld.zones() == ([], [])


def test_only_a_bridge_of_ours_is_told_of(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nmanaged = false\n" + INTEGRATE)
    restored("iptables", DOCKER)(host)
    host.command("ip", "link", "add", "netns0", "up", "type", "bridge")
    host.command("ip", "addr", "add", "172.19.0.1/16", "dev", "netns0")
    host.attach("web")
    assert user_rules(host) == ["-A DOCKER-USER -j RETURN"]


def test_each_network_has_its_bridge_told_of(make_host: HostMaker) -> None:
    host = make_host('[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24"]\n' + INTEGRATE)
    restored("iptables", DOCKER)(host)
    host.attach("one")
    assert not any("back0" in rule for rule in user_rules(host)), "nobody uses it"
    host.attach("two", annotations={"io.watcher.network": "back"})
    bridges = [rule.split()[3] for rule in user_rules(host)[:-1]]
    assert bridges == ["netns0", "netns0", "back0", "back0"]
