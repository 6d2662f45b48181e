"""SIGHUP: a changed configuration is taken while the service runs, or refused as a whole."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.host import BEYOND, UPLINK, Host, Service
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.locks.names import WRITERS

if TYPE_CHECKING:
    from tests.support.host import HostMaker

REQUIRED = '[gate]\nmode = "required"\n'
BACK = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\n'
FRONT = '[network.front]\nbridge = "front0"\nsubnets = ["172.21.0.0/24"]\n'


def limits(ports: str) -> str:
    return f'[root.limits]\nhost_ports = ["{ports}"]\n{REQUIRED}'


def reload(host: Host, service: Service, config: str) -> None:
    """Has the service read another configuration, and waits until it has said that it is done."""
    host.configure(config)
    again(service)


def again(service: Service) -> None:
    """Has the service read its configuration again."""
    done = service.times_notified("READY=1")
    service.signal(signal.SIGHUP)
    service.notified("READY=1", times=done + 1)
    assert service.times_notified("RELOADING=1") == done


def refusal(service: Service) -> str:
    """Why the service has refused a configuration."""
    entry = service.logged("configuration refused, the one before stays in force", level="error")
    service.notified(f"STATUS=configuration refused: {entry['reason']}")
    return str(entry["reason"])


def starts(host: Host, name: str, **bundle: Any) -> bool:
    """Whether a container of that name is let in; if not, runc fails."""
    host.bundle(name, **bundle)
    return host.launch("run", name, "--detach", check=False).returncode == 0


def is_held(host: Host, name: str) -> bool:
    """Whether runc waits in the open of its last save of `state.json`."""
    directory = host.root / name
    names = [path.name for path in directory.iterdir()]  # an error: it does not hold yet
    return "exec.fifo" in names and any(name.startswith("state-") for name in names)


def state_json(host: Host, name: str) -> Path:
    return host.root / name / "state.json"


# --- what is taken -----------------------------------------------------------------------------


def test_a_changed_limit_counts_for_who_starts_and_nobody_else(make_host: HostMaker) -> None:
    host = make_host(limits("8000-8999"))
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    side = host.share("side", "web", ports="8090:90")
    host.attach("last")
    stream = host.beyond.stream(UPLINK, 8080)
    before = (web.veth, web.address, host.elements(), host.leases())

    reload(host, service, limits("9000-9999"))
    assert service.logged("configuration taken")["changed"] == ["root.limits.host_ports"]
    assert not starts(host, "late", ports="8081:80")
    assert starts(host, "other", ports="9001:80")
    host.delete("other")
    eventually(lambda: (web.veth, web.address, host.elements(), host.leases()) == before)

    for name in ("web", "side"):
        state_json(host, name).write_text(state_json(host, name).read_text())
    state_json(host, "last").write_text("{")
    service.logged("last", "is not what runc writes")  # so it has looked at the others again
    assert stream.say("still there") == "still there"
    assert host.status("web") == "attached"
    assert host.status("side") == "shared"
    assert side.address == web.address
    assert {entry["container"] for entry in service.warnings()} == {"late", "last"}


def test_who_was_ignored_is_attached_where_that_has_changed(make_host: HostMaker) -> None:
    host = make_host(f'attach = "annotated"\n{REQUIRED}')
    service = host.service()
    host.run("web")
    assert host.status("web") == "ignored"
    reload(host, service, REQUIRED)
    assert host.attached("web").address
    reload(host, service, f'attach = "annotated"\n{REQUIRED}')
    assert host.status("web") == "attached"


def test_a_network_is_added_and_removed(make_host: HostMaker) -> None:
    host = make_host(REQUIRED)
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    stream = host.beyond.stream(UPLINK, 8080)
    asked: dict[str, Any] = {"annotations": {"io.watcher.network": "back"}}
    assert not starts(host, "db", **asked)

    reload(host, service, f"{REQUIRED}{BACK}")
    db = host.attach("db", **asked)
    assert db.address.startswith("172.22.0.")
    db.serve(tcp=(80,))
    assert host.here.reach(db.address, 80) == Answer("db", "172.22.0.1")
    assert stream.say("still there") == "still there"
    host.command("ip", "link", "del", db.veth)  # it is healed there, too
    eventually(lambda: host.here.reach(db.address, 80, timeout=0.5) is not None)

    reload(host, service, REQUIRED)
    assert not starts(host, "late", **asked)
    assert host.here.reach(db.address, 80) == Answer("db", "172.22.0.1")
    assert stream.say("still there") == "still there"
    host.delete("db")
    host.gone(db)

    table = ("inet", "watcher")
    host.command("nft", "add", "chain", *table, "other")  # the service makes the rules anew
    eventually(lambda: "chain other" not in host.command("nft", "list", "table", *table).stdout)
    assert host.watcher("sync").stdout == "nothing to do\n"  # and they are the same to others


def test_who_may_reach_whom_changes_in_the_rules_alone(make_host: HostMaker) -> None:
    host = make_host(REQUIRED + BACK + FRONT)
    service = host.service()
    back = host.attach("back", annotations={"io.watcher.network": "back"})
    front = host.attach("front", annotations={"io.watcher.network": "front"})
    back.serve(tcp=(80,))
    links = host.here.links()
    assert front.reach(back.address, 80, timeout=0.5) is None
    reload(host, service, f'{REQUIRED}{BACK}{FRONT}reach = ["back"]\n')
    assert front.reach(back.address, 80) is not None
    reload(host, service, REQUIRED + BACK + FRONT)
    assert front.reach(back.address, 80, timeout=0.5) is None
    assert host.here.links() == links


def test_nothing_changes_where_nothing_was_changed(host: Host) -> None:
    service = host.service()
    again(service)
    service.logged("configuration read again, nothing has changed")
    assert service.warnings() == []


# --- the gate ----------------------------------------------------------------------------------


def test_who_is_held_meanwhile_stays_held_and_gets_its_network(make_host: HostMaker) -> None:
    host = make_host(limits("8000-8999"))
    service = host.service()
    host.bundle("web", ports="8080:80")
    host.bundle("late", ports="8081:80")
    with host.unwritable():
        early = host.launching("run", "web", "--detach")
        eventually(lambda: is_held(host, "web"))
        reload(host, service, limits("8080"))
        late = host.launching("run", "late", "--detach")
        eventually(lambda: is_held(host, "late"))
        assert early.poll() is None
    host.launched(early, "web")
    assert host.launched(late, "late", check=False).returncode == 1
    web = host.attached("web")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_a_shorter_timeout_is_for_the_next_who_is_held(make_host: HostMaker) -> None:
    host = make_host(f"{REQUIRED}timeout = 600\n")
    service = host.service()
    for name in ("early", "late"):
        host.bundle(name)
    with host.unwritable():
        early = host.launching("run", "early", "--detach")
        eventually(lambda: is_held(host, "early"))
        # The gate answers opens in their order, so it has heard of that one after this.
        host.command("sh", "-c", f"cat {host.root}/early/state-*")
        reload(host, service, f'{REQUIRED}timeout = 0.2\non_timeout = "deny"\n')
        assert host.launch("run", "late", "--detach", check=False).returncode == 1
        assert service.logged("held too long", "late")["timeout"] == 0.2
        assert early.poll() is None
    host.launched(early, "early")
    assert host.attached("early").address


def test_an_invalid_request_is_let_start_or_not_as_it_says_now(make_host: HostMaker) -> None:
    host = make_host(REQUIRED)
    service = host.service()
    asked = {"annotations": {"io.watcher.network": "nowhere"}}
    assert not starts(host, "one", **asked)
    reload(host, service, f'{REQUIRED}on_invalid = "allow"\n')
    assert starts(host, "two", **asked)
    assert host.status("two") == "failed"


# --- what is refused ---------------------------------------------------------------------------


def test_a_bad_file_is_refused_whole_by_key_and_line(make_host: HostMaker) -> None:
    host = make_host(limits("8000-8999"))
    service = host.service()
    reload(host, service, f'{limits("9000-9999")}on_timeout = "never"\n')
    line = host.config.read_text().splitlines().index('on_timeout = "never"') + 1
    assert refusal(service) == (
        f'{host.config}:{line}: gate.on_timeout = "never": not one of "allow", "deny"'
    )
    assert starts(host, "web", ports="8080:80")
    assert not starts(host, "other", ports="9001:80")

    reload(host, service, limits("9000-9999"))
    service.notified("STATUS=")
    assert starts(host, "third", ports="9001:80")


def test_a_file_that_has_gone_is_refused(host: Host) -> None:
    service = host.service()
    host.config.unlink()
    again(service)
    assert "No such file" in refusal(service)
    host.configure()
    assert host.attach("web").address


def test_what_cannot_change_live_is_named_and_nothing_is_taken(make_host: HostMaker) -> None:
    host = make_host(limits("8000-8999") + BACK)
    service = host.service()
    changed = limits("9000-9999").replace("required", "auto") + BACK.replace("22", "23")
    host.configure(changed)
    text = host.config.read_text().replace(str(host.netns_dir), f"{host.netns_dir}2")
    host.config.write_text(f"{text}\n[[root]]\npath = '/run/another'\n")
    again(service)
    reason = refusal(service)
    lines = {line: number for number, line in enumerate(host.config.read_text().splitlines(), 1)}
    for key, line in (
        ("netns_dir", f'netns_dir = "{host.netns_dir}2"'),
        ("root", "[[root]]"),
        ("gate.mode", 'mode = "auto"'),
        ("network.back.subnets", 'subnets = ["172.23.0.0/24"]'),
    ):
        number = text.splitlines().index(line) + 1 if key == "root" else lines[line]
        assert f"{host.config}:{number}: {key}" in reason
    assert "limits" not in reason
    assert "systemctl restart watcher" in reason
    assert not starts(host, "other", ports="9001:80")

    host.configure(changed)
    service.restart()
    assert starts(host, "other", ports="9001:80")


def test_a_network_that_the_host_cannot_have_is_refused(make_host: HostMaker) -> None:
    host = make_host(REQUIRED)
    service = host.service()
    host.command("ip", "route", "add", "172.22.0.0/24", "via", "192.0.2.1")
    reload(host, service, f"[root.limits]\nfixed = false\n{REQUIRED}{BACK}")
    assert "network.back.subnets = 172.22.0.0/24: overlaps the host's own route" in refusal(service)
    assert starts(host, "web", annotations={"io.watcher.ip": "172.19.0.50"})


# --- when it is told ---------------------------------------------------------------------------


def test_a_service_that_is_told_before_it_is_ready_reads_it_again_then(host: Host) -> None:
    host.watcher("sync")  # which makes the locks
    with host.unwritable():
        service = host.service(ready=False)
        eventually(lambda: has_opened(service, host.run_dir / WRITERS))
        service.signal(signal.SIGHUP)
    service.notified("READY=1", times=2)
    assert service.times_notified("RELOADING=1") == 1
    service.logged("configuration read again, nothing has changed")


def test_it_is_in_force_when_that_is_told_although_the_lock_was_taken_before(
    make_host: HostMaker,
) -> None:
    host = make_host(REQUIRED)
    service = host.service()
    host.attach("web")
    host.bundle("other")
    with host.unwritable():
        process = host.launching("run", "other", "--detach")
        service.logged("another process has the lock")  # so it tries again after pauses
    reload(host, service, f'{REQUIRED}[network.default]\ningress = ["{BEYOND}/32:8080"]\n')
    assert BEYOND in host.command("nft", "list", "table", "inet", "watcher").stdout
    host.launched(process, "other")


def has_opened(service: Service, path: Path) -> bool:
    """Whether a service has that file open."""
    files = Path(f"/proc/{service.pid}/fd").iterdir()
    return any(str(file.readlink()) == str(path) for file in files)
