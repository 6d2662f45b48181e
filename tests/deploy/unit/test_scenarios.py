"""What a host goes through, under the capabilities, system calls and directories of the unit.

A scenario is a function of the booted host: `unit`, or `make_host` with a configuration.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from tests.recovery.test_heal import DAMAGES, Healed
from tests.support.host import BEYOND, GATEWAY, UPLINK
from tests.support.host.booted import BootedHost
from tests.support.paths import REPOSITORY
from tests.support.traffic import Answer
from tests.support.waiting import eventually

BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'
IN_BACK: Final[dict[str, Any]] = {"annotations": {"io.watcher.network": "back"}}
FIRST: Final = ("ping", "-c", "1", "-W", "10", GATEWAY)

REFUSED: Final[dict[str, dict[str, str]]] = {
    "io.watcher.netwrok": {"io.watcher.netwrok": "default"},
    "io.watcher.network": {"io.watcher.network": "nowhere"},
    "io.watcher.ports": {"io.watcher.ports": "8080:80"},
    "io.watcher.ip": {"io.watcher.ip": "10.0.0.1"},
    "io.watcher.sysctl": {"io.watcher.sysctl": '{"net.ipv4.conf.eth0.no": "1"}'},
}


def test_what_cannot_be_met_refuses_the_start_and_leaves_nothing(unit: BootedHost) -> None:
    web = unit.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    before = unit.leftovers()
    for key, asked in REFUSED.items():
        assert unit.run_to_end("bad", FIRST, check=False, annotations=asked).returncode
        assert key in unit.inspect("bad")["reason"]
        assert unit.leftovers() == before
    assert unit.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert "1 packets received" in unit.run_to_end("bad", FIRST).stdout


def test_containers_keep_their_network_while_the_service_is_stopped(unit: BootedHost) -> None:
    web = unit.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    stream = unit.beyond.stream(UPLINK, 8080)
    row = unit.ls()["web"]
    unit.unit.stop()
    assert unit.ls()["web"] == row
    assert stream.say("still there") == "still there"
    assert "1 packets received" in web.exec(*FIRST).stdout


def test_a_reload_takes_a_changed_configuration_or_says_why_not(unit: BootedHost) -> None:
    web = unit.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    stream = unit.beyond.stream(UPLINK, 8080)
    pid = unit.unit.inner_pid
    unit.config.write_text("[root]\n")
    assert unit.unit.reload().startswith(
        "configuration refused: /etc/watcher/watcher.toml:1: root: not a list of tables"
    )
    unit.reconfigure(BACK)
    db = unit.attach("db", **IN_BACK)
    db.serve(tcp=(80,))
    assert unit.here.reach(db.address, 80) == Answer("db", "172.22.0.1")
    rules = unit.base / "rules.nft"
    rules.write_text(f"ip daddr {BEYOND} drop\n")
    unit.reconfigure(f'{BACK}[firewall]\nrules = "{rules}"\n')
    unit.beyond.serve(tcp=(80,))
    assert web.reach(BEYOND, 80, timeout=0.5) is None
    rules.write_text("# nothing\ndorp\n")
    assert f"{rules}:2: nftables refuses it: syntax error" in unit.unit.reload()
    rules.unlink()
    unit.reconfigure("")
    assert web.reach(BEYOND, 80) is not None
    assert unit.run_to_end("late", ("true",), check=False, **IN_BACK).returncode
    assert stream.say("still there") == "still there"
    assert unit.unit.inner_pid == pid


@pytest.mark.parametrize("by", ["sync", "start"])
def test_what_happened_while_the_service_was_stopped_is_put_right(
    unit: BootedHost, by: str
) -> None:
    web = unit.attach("web", ports="8080:80")
    gone = unit.attach("gone")
    web.serve(tcp=(80,))
    unit.unit.stop()
    unit.nft("flush", "ruleset")
    unit.delete("gone")
    assert unit.beyond.reach(UPLINK, 8080, timeout=0.1) is None
    if by == "sync":
        unit.watcher("sync")
        assert unit.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
        assert gone.veth not in unit.veths()
    unit.unit.start()
    assert unit.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    eventually(lambda: unit.veths() == {web.veth})
    assert unit.watcher("sync").stdout == "nothing to do\n"


@pytest.mark.parametrize(
    "damages",
    [("guard", "veth", "address"), ("flush ruleset", "bridge", "forwarding", "pin unmounted")],
    ids=["of the sandbox", "of the host"],
)
def test_what_is_removed_comes_back(healed: Healed, damages: tuple[str, ...]) -> None:
    known = {name: damage for kind in DAMAGES.values() for name, damage in kind.items()}
    for name in damages:
        healed.heals(name, known[name])
    assert healed.service.warnings() == []


def test_a_service_that_is_killed_is_back_for_the_next_container(unit: BootedHost) -> None:
    web = unit.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    unit.unit.kill9()
    assert "1 packets received" in unit.run_to_end("next", FIRST).stdout
    assert unit.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


NO_PTRACE: Final = "[Service]\nSystemCallFilter=~ptrace fsopen fsconfig fsmount\n"
SHARES: Final[dict[str, Any]] = {"annotations": {"io.watcher.share": "web"}}


@contextlib.contextmanager
def without_ptrace(unit: BootedHost) -> Iterator[None]:
    """Meanwhile the unit has the drop-in that the unit itself names."""
    assert NO_PTRACE.splitlines()[1] in (REPOSITORY / "deploy/watcher.service").read_text()
    drop_in = "/etc/systemd/system/watcher.service.d/no-ptrace.conf"
    unit.command("mkdir", "-p", drop_in.rpartition("/")[0])
    unit.command("sh", "-c", f"printf %s '{NO_PTRACE}' >{drop_in}")
    try:
        unit.command("systemctl", "daemon-reload")
        unit.unit.restart()
        yield
    finally:
        unit.command("rm", drop_in)
        unit.command("systemctl", "daemon-reload")
        unit.unit.restart()


@pytest.mark.parametrize("share", ["true", "false"])
def test_without_ptrace_who_shares_by_annotation_is_refused_and_by_path_is_not(
    make_host: Callable[[str], BootedHost], share: str
) -> None:
    host = make_host(f"[gate]\nshare = {share}\n")
    with without_ptrace(host):
        web = host.attach("web")
        done = host.run_to_end("side", ("true",), check=False, **SHARES)
        why = "may not call ptrace(2)" if share == "true" else "share = false in [gate]"
        assert done.returncode
        assert why in done.stderr
        assert "run `watcher bundle" in done.stderr
        assert host.share("side", "web", **SHARES).address == web.address
        assert "1 packets received" in host.run_to_end("plain", FIRST).stdout
        host.delete("side")
        host.delete("web")


def test_a_copy_of_a_sandbox_outlives_the_service_and_the_store(unit: BootedHost) -> None:
    web = unit.attach("web", ports="80")
    web.serve(tcp=(80,))
    unit.watcher("publish", "web", "9000:80")
    ports = unit.ls()["web"]["ports"]
    assert len(ports) == 2
    unit.unit.stop()
    unit.command("sh", "-c", f"rm -f {unit.state_dir}/leases.db*")
    unit.unit.start()
    assert unit.ls()["web"]["ports"] == ports
    assert unit.beyond.reach(UPLINK, 9000) == Answer("web", BEYOND)
    assert unit.watcher("sync").stdout == "nothing to do\n"
    unit.delete("web")
    copies = unit.seen(unit.run_dir / "sandboxes")
    assert copies.is_dir()
    eventually(lambda: not list(copies.iterdir()))
