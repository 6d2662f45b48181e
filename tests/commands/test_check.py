"""`watcher check`: what it says of a host, and that it leaves that as it was."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from handlers.kernel import nflog
from tests.support import traffic
from tests.support.host import Host
from tests.support.name_service import NameService
from watcher.config.settings import Firewall

if TYPE_CHECKING:
    from tests.support.host import HostMaker

type Finding = dict[str, Any]

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
LEVELS = ("ok", "warn", "fail")


def check(host: Host, *prefix: str) -> list[Finding]:
    """What `watcher check --json` prints, with its exit status seen to be right."""
    command = (*prefix, *host.watcher_command("check", "--json"))
    done = host.command(*command, env=host.watcher_env, check=False)
    findings: list[Finding] = json.loads(done.stdout)
    assert done.stderr == ""
    assert done.returncode == int(any(f["level"] == "fail" for f in findings))
    return findings


def wrong(host: Host, *prefix: str) -> list[Finding]:
    """The findings that are not `ok`."""
    return [finding for finding in check(host, *prefix) if finding["level"] != "ok"]


def only(host: Host, level: str, name: str) -> Finding:
    """The one finding that is not `ok`."""
    (finding,) = wrong(host)
    assert (finding["level"], finding["check"]) == (level, name), finding
    assert finding["remedy"]
    return finding


def sh(host: Host, script: str) -> None:
    host.command("sh", "-ec", script)


# --- as a whole ------------------------------------------------------------------------------


def test_a_host_that_is_able_to_do_it(host: Host) -> None:
    findings = check(host)
    assert [set(finding) for finding in findings] == [
        {"check", "level", "what", "remedy"} for _ in findings
    ]
    assert {f["check"] for f in findings} == {
        *("privileges", "runc", "kernel", "gate", "directories", "roots", "locks", "leases"),
        *("networks", "guards", "limits", "names", "firewalls", "bandwidth"),
    }
    assert [f for f in findings if f["level"] != "ok" or f["remedy"]] == []


def test_a_line_each(host: Host) -> None:
    findings = check(host)
    lines = host.watcher("check").stdout.splitlines()
    assert len(lines) == len(findings)
    for line, finding in zip(lines, findings, strict=True):
        level, name, *_ = line.split()
        assert level == finding["level"]
        assert name == f"{finding['check']}:"
        assert finding["what"] in line


def test_nothing_is_made(host: Host) -> None:
    def seen() -> list[object]:
        files = [str(p) for p in host.base.rglob("*") if "/sys/" not in str(p)]
        mounts = host.command("cat", "/proc/self/mountinfo").stdout
        below = ("ipv4/conf", "ipv6/conf", "ipv4/ip_forward")
        shown = f"cd /proc/sys/net; grep -rs . {' '.join(below)} || true"  # some may not be read
        settings = host.command("sh", "-c", shown)
        links = {name: host.here.addresses(name) for name in host.here.links()}
        return [links, host.nft_list(), sorted(files), mounts, settings.stdout]

    before = seen()
    check(host)
    assert seen() == before


def test_a_host_at_work(host: Host) -> None:
    with host.service():
        host.attach("web", ports="8080:80")
        NameService(host).hears()
        findings = check(host)
    assert [f for f in findings if f["level"] != "ok"] == []
    (leases,) = [f for f in findings if f["check"] == "leases"]
    assert "1 sandbox" in leases["what"]


def test_a_bad_configuration_is_wrong_usage(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nbridge = 7\n")
    done = host.watcher("check", "--json", check=False)
    assert (done.returncode, done.stdout) == (2, "")


# --- roots -----------------------------------------------------------------------------------


def test_a_root_of_no_runtime_is_named(host: Host) -> None:
    """As `/run/docker/runtime-runc` is, whose `moby` would be the root."""
    (host.root / "moby/web").mkdir(parents=True)
    (host.root / "moby/web/state.json").write_text("{}")
    finding = only(host, "warn", "runtimes")
    assert f'"{host.root}" is no state directory of runc or crun: it has "moby"' in finding["what"]
    assert host.ls() == {}
    (host.root / "new").mkdir()
    (host.root / "new/exec.fifo").touch()
    assert host.status("new") == "waiting"  # runc may be about to save it


def test_an_engine_whose_root_nobody_names_is_found(host: Host) -> None:
    """By the containers that run in the default root of one, here of real runcs."""
    configured, docker = host.root, Path("/run/docker/runtime-runc/moby")
    host.bundle("web")
    host.launch("run", "web", "--detach", root=docker)
    found = [f for f in check(host) if f["check"] == "engines"]
    assert [f["level"] for f in found] == ["ok"]
    assert f'Docker has 1 running in "{docker}", which no [[root]] names' in found[0]["what"]

    host.bundle("asks", annotations={"io.watcher.network": "default"})
    host.launch("run", "asks", "--detach", root=docker)
    finding = only(host, "warn", "engines")
    assert '"asks"' in finding["what"]
    assert f'path = "{docker}"' in finding["remedy"]

    for path in (docker, docker.parent / "m*"):
        host.config.write_text(host.config.read_text().replace(str(host.root), str(path)))
        host.root = path
        assert not [f for f in check(host) if f["check"] == "engines"]
    host.root = configured
    for name in ("web", "asks"):
        host.runc("delete", "--force", name, root=docker)


# --- privileges and programs -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "level"),
    [("net_admin", "fail"), ("sys_admin", "fail"), ("sys_ptrace", "fail"), ("sys_chroot", "warn")],
)
def test_a_missing_capability_is_named(host: Host, name: str, level: str) -> None:
    found = wrong(host, "setpriv", f"--bounding-set=-{name}")
    assert [f["level"] for f in found if f["check"] == "privileges"] == [level]
    assert f"CAP_{name.upper()} is missing" in found[0]["what"]


def test_bundles_of_others_take_either_of_two_capabilities(host: Host) -> None:
    assert wrong(host, "setpriv", "--bounding-set=-dac_override") == []
    found = wrong(host, "setpriv", "--bounding-set=-dac_override,-dac_read_search")
    assert "CAP_DAC_OVERRIDE or CAP_DAC_READ_SEARCH" in found[0]["what"]


def test_a_user_other_than_root(host: Host) -> None:
    found = wrong(host, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for name in ("CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE"):
        assert any(name in finding["what"] for finding in found)
    assert {"kernel", "gate", "directories"} <= {finding["check"] for finding in found}


def test_runc_is_missing(host: Host) -> None:
    (finding,) = wrong(host, "env", "PATH=/nowhere")
    assert (finding["check"], finding["level"]) == ("runc", "fail")


def test_the_version_of_runc_is_told(host: Host) -> None:
    version = host.command("runc", "--version").stdout.split()[2]
    (finding,) = [f for f in check(host) if f["check"] == "runc"]
    assert version in finding["what"]


# --- the gate --------------------------------------------------------------------------------


def test_what_is_lost_without_the_gate(make_host: HostMaker) -> None:
    host = make_host('[gate]\nmode = "off"\n')
    assert "first instructions" in only(host, "warn", "gate")["what"]


@pytest.mark.parametrize(("mode", "level"), [("auto", "warn"), ("required", "fail")])
def test_no_gate_without_its_capability(make_host: HostMaker, mode: str, level: str) -> None:
    host = make_host(f'[gate]\nmode = "{mode}"\n')
    found = wrong(host, "setpriv", "--bounding-set=-sys_admin")
    assert [f["level"] for f in found if f["check"] == "gate"] == [level]


@pytest.mark.parametrize(("mode", "level"), [("auto", "warn"), ("required", "fail")])
def test_no_gate_for_a_root_with_a_mount_below(make_host: HostMaker, mode: str, level: str) -> None:
    host = make_host(f'[gate]\nmode = "{mode}"\n')
    sh(host, f"mkdir -p {host.root}/web; mount -t tmpfs tmpfs {host.root}/web")
    assert f"{host.root}/web" in only(host, level, "gate")["what"]


# --- directories and roots -------------------------------------------------------------------


def test_a_directory_on_a_read_only_filesystem(host: Host) -> None:
    sh(host, f"mkdir {host.state_dir}; mount -t tmpfs -o ro tmpfs {host.state_dir}")
    finding = only(host, "fail", "directories")
    assert f'state_dir = "{host.state_dir}"' in finding["what"]
    assert "read-only" in finding["what"]


def test_a_directory_that_is_a_file(host: Host) -> None:
    host.run_dir.write_text("")
    assert "is not a directory" in only(host, "fail", "directories")["what"]


def test_a_directory_that_others_may_read(host: Host) -> None:
    host.state_dir.mkdir(mode=0o755)
    finding = only(host, "warn", "directories")
    assert f"chmod 700 {host.state_dir}" in finding["remedy"]


def test_a_directory_without_room(host: Host) -> None:
    sh(host, f"mkdir -m 700 {host.state_dir}")
    sh(host, f"mount -t tmpfs -o size=1M,mode=700 tmpfs {host.state_dir}")
    assert "16 MiB" in only(host, "warn", "directories")["what"]


def test_a_root_that_is_a_file(host: Host) -> None:
    host.root.write_text("")
    assert "is not a directory" in only(host, "fail", "roots")["what"]


def test_a_root_that_is_a_mount_of_somebody(host: Host) -> None:
    sh(host, f"mkdir {host.root}; mount -t tmpfs tmpfs {host.root}")
    (finding,) = [f for f in check(host) if f["check"] == "roots"]
    assert finding["level"] == "ok"
    assert "a mount of its own (tmpfs)" in finding["what"]


# --- leases ----------------------------------------------------------------------------------


def test_a_damaged_lease_store(host: Host) -> None:
    host.state_dir.mkdir(mode=0o700)
    (host.state_dir / "leases.db").write_bytes(b"not a database at all" * 1000)
    assert "leases.db" in only(host, "fail", "leases")["what"]


def test_a_lease_store_of_a_newer_program(host: Host) -> None:
    host.attach("web")
    with contextlib.closing(sqlite3.connect(host.state_dir / "leases.db")) as db:
        db.execute("PRAGMA user_version = 99")
    only(host, "fail", "leases")


def test_a_network_that_was_changed_while_in_use(host: Host) -> None:
    host.attach("web")
    host.configure('[network.default]\nsubnets = ["172.21.0.0/16"]\n')
    finding = only(host, "fail", "leases")
    assert "network.default.subnets was changed from 172.19.0.0/16" in finding["what"]
    assert "web" in finding["what"]


def test_a_network_in_use_that_was_removed_is_still_checked(make_host: HostMaker) -> None:
    back = '[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24"]\n'
    host = make_host(back)
    host.attach("web", annotations={"io.watcher.network": "back"})
    host.configure()
    (finding,) = [f for f in check(host) if f["check"] == "networks"]
    assert "back (172.20.0.0/24 on back0)" in finding["what"]


# --- networks: told by check, and refused when something starts ------------------------------


def refused(host: Host, *words: str) -> None:
    """`check`, `sync` and `run` each say why in one line with all of `words`."""
    finding = only(host, "fail", "networks")
    for word in words:
        assert word in finding["what"]
    for command in ("sync", "run"):
        done = host.watcher(command, check=False)
        assert done.returncode == 2
        assert done.stderr == f"watcher: {finding['what']}; {finding['remedy']}\n"
    host.watcher("down")  # is not kept from taking back what there is


def refuses_containers(host: Host, *words: str) -> None:
    """`check` says why in one line with all of `words`, and so does the reason of a container."""
    finding = only(host, "fail", "networks")
    for word in words:
        assert word in finding["what"]
    host.run("web")
    assert f"{finding['what']}; {finding['remedy']}" in host.fails("web")
    assert host.here.links() == {"lo", "uplink"}


@pytest.mark.parametrize(
    ("command", "named"),
    [
        ("route add 172.19.5.0/24 via 192.0.2.1", "route 172.19.5.0/24 via 192.0.2.1 dev uplink"),
        ("route add 172.16.0.0/12 via 192.0.2.1", "route 172.16.0.0/12 via 192.0.2.1 dev uplink"),
        ("addr add 172.19.0.7/32 dev uplink", "address 172.19.0.7/32 dev uplink"),
        ("addr add 172.19.200.1/24 dev uplink", "route 172.19.200.0/24 dev uplink"),
    ],
)
def test_a_subnet_that_overlaps_the_hosts_own(host: Host, command: str, named: str) -> None:
    host.ip(*command.split())
    refuses_containers(host, "network.default.subnets = 172.19.0.0/16", named)


def test_an_ipv6_subnet_that_overlaps_the_hosts_own(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.ip("-6", *["route", "add", "fd00:19::/48", "via", "2001:db8::1"])
    refuses_containers(host, "fd00:19::/64", "route fd00:19::/48 via 2001:db8::1 dev uplink")


def test_default_routes_and_routes_by_the_bridge_overlap_nothing(host: Host) -> None:
    for half in ("0.0.0.0/1", "128.0.0.0/1"):  # as a VPN takes the place of the default route
        host.ip("route", "add", half, "via", "192.0.2.1")
    web = host.attach("web")
    host.ip("route", "add", "172.19.77.0/24", "via", web.address)
    assert wrong(host) == []
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_route_added_to_a_network_in_operation_is_told_and_not_refused(host: Host) -> None:
    host.attach("web")
    host.ip(*["route", "add", "172.19.5.0/24", "via", "192.0.2.1"])
    assert "172.19.5.0/24" in only(host, "fail", "networks")["what"]
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_ipv6_is_turned_off(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    sh(host, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    refused(host, "fd00:19::/64", "net.ipv6.conf.default.disable_ipv6 = 1")


def test_ipv6_is_turned_off_where_nobody_needs_it(host: Host) -> None:
    sh(host, "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    assert wrong(host) == []


def test_a_bridge_that_is_something_else(host: Host) -> None:
    host.ip(*["link", "add", "netns0", "type", "veth", "peer", "name", "other"])
    refused(host, "network.default.bridge = netns0", "no bridge but of kind veth")


def test_a_bridge_of_somebody_else_that_is_missing(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nmanaged = false\n")
    assert "managed = false" in only(host, "fail", "networks")["what"]
    host.ip(*["link", "add", "netns0", "up", "type", "bridge"])
    mac, forwards = wrong(host)
    assert "bridge netns0 of network default has no MAC of its own" in mac["what"]
    assert "forwards no IPv4 for network default (net.ipv4.ip_forward = 0)" in forwards["what"]
    for finding in (mac, forwards):
        sh(host, finding["remedy"].split("`")[1])
    assert wrong(host) == []


def test_an_uplink_that_does_not_forward(host: Host) -> None:
    sh(host, "cd /proc/sys/net/ipv4; echo 1 > ip_forward; echo 0 > conf/uplink/forwarding")
    finding = only(host, "warn", "networks")
    assert "net.ipv4.conf.uplink.forwarding = 0" in finding["what"]
    sh(host, finding["remedy"].split("`")[1])
    assert wrong(host) == []


def test_a_bridge_that_is_nearly_full(host: Host) -> None:
    lines = ["link add netns0 type bridge"]
    for number in range(450):
        lines.append(f"link add a{number} master netns0 type veth peer name b{number}")
        lines.append(f"link set b{number} master netns0")
    host.command("ip", "-batch", "-", stdin="\n".join(lines))
    assert "900 ports" in only(host, "warn", "networks")["what"]


def test_another_program_reads_the_log_group(host: Host) -> None:
    group = Firewall().log_group
    with traffic.entered(host.here.netns):
        other = nflog.listen(group)
    with other:
        finding = only(host, "warn", "limits")
    assert f"reads log group {group}" in finding["what"]
    assert wrong(host) == []
    with host.service():
        assert [finding["check"] for finding in wrong(host)] == ["names"]
