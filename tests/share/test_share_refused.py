"""A container that cannot be moved into the sandbox that it shares: refused, with the remedy."""

from __future__ import annotations

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.attach.test_ignored import with_links
from tests.support.crun import CrunHost
from tests.support.hangs import Freezable
from tests.support.held import is_held
from tests.support.host import GATE_OFF, GATEWAY, Host, HostMaker, Service
from tests.support.host.cgroups import CGROUPS
from tests.support.waiting import PATIENCE, eventually
from watcher.containers.sysctls import of_bundle
from watcher.gate.aside import MOST
from watcher.model.errors import BadValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen

    from tests.support.bundles import Spec

IN_WEB: Final[dict[str, Any]] = {"annotations": {"io.watcher.share": "web"}}
STARTED: Final = ("echo", "started")
FIRST: Final = ("ping", "-c", "1", "-W", "10", GATEWAY)


def mend(host: Host, name: str = "side") -> str:
    """The remedy that each of these has."""
    return f"run `watcher bundle {host.bundles / name} --share web` and start it again"


def refused(host: Host, name: str = "side", **bundle: Any) -> str:
    """What the runc of a container says that may not start, and that has left nothing."""
    before = host.leftovers()
    done = host.run_to_end(name, STARTED, check=False, **(IN_WEB | bundle))
    assert done.returncode == 1, done
    assert "started" not in done.stdout
    assert host.leftovers() == before
    said = done.stderr.splitlines()[0]
    assert said.startswith(f'watcher: container "{name}": io.watcher.share = "web": '), done.stderr
    assert str(host.inspect(name)["reason"]) in said
    return said


def settings(**named: str) -> Callable[[Spec], None]:
    """Has a bundle ask for kernel settings."""

    def edit(spec: Spec) -> None:
        spec["linux"]["sysctl"] = named

    return edit


def test_without_a_gate_it_runs_by_itself_and_says_what_to_do(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    host.service()
    host.attach("web")
    host.run("side", **IN_WEB)
    reason = host.fails("side")
    assert 'mode = "off" in [gate]' in reason
    assert reason.endswith(mend(host))
    host.watcher("bundle", str(host.bundles / "side"), "--share", "web")
    host.delete("side")
    host.launch("run", "side", "--detach")
    assert host.attached("side", "shared").address == host.container("web").address


def test_one_that_was_started_without_a_service_says_what_to_do(host: Host) -> None:
    host.attach("web")
    side = host.run("side", **IN_WEB)
    alone = side.place.picture()
    reason = host.fails("side")
    assert reason.endswith(f"; start it again while the service runs, or {mend(host)}")
    host.service()
    assert host.status("side") == "failed"
    assert side.place.picture() == alone
    host.delete("side")
    host.launch("run", "side", "--detach")
    assert host.attached("side", "shared").address == host.container("web").address


def test_it_is_as_share_of_the_gate_says_now(make_host: HostMaker) -> None:
    host = make_host("[gate]\nshare = false\n")
    service = host.service()
    web = host.attach("web")
    said = refused(host)
    assert "share = false in [gate]" in said
    assert said.endswith(mend(host))
    reload(host, service, "[gate]\nshare = true\n")
    host.run("side", **IN_WEB)
    assert host.attached("side", "shared").address == web.address
    reload(host, service, "[gate]\nshare = false\n")
    assert host.attached("side", "shared").address == web.address
    assert refused(host, "next").endswith(mend(host, "next"))


def reload(host: Host, service: Service, config: str) -> None:
    times = service.times_notified("READY=1")
    host.configure(config)
    service.signal(signal.SIGHUP)
    service.notified("READY=1", times + 1)


@pytest.mark.parametrize(
    ("bundle", "words"),
    [
        ({"user_namespace": True}, "it has a user namespace of its own"),
        ({"netns_path": "host"}, "its config.json gives it the host's network namespace"),
    ],
)
def test_what_it_is_rules_it_out(served: Host, bundle: dict[str, Any], words: str) -> None:
    served.attach("web")
    if "netns_path" in bundle:  # which is not held, as it needs nothing
        served.run("side", **IN_WEB, **bundle)
        reason = served.fails("side")
    else:
        reason = refused(served, **bundle)
    assert words in reason
    assert reason.endswith(mend(served))


def test_nothing_to_share_is_refused_as_ever(served: Host) -> None:
    assert "there is no such container with a sandbox; start that one first" in refused(served)
    annotations = {"annotations": {"io.watcher.share": "side"}}
    done = served.run_to_end("side", STARTED, check=False, **annotations)
    assert "the container itself" in done.stderr


@pytest.mark.parametrize("share", ["none", "root"])
def test_who_may_share_whom_is_as_the_limits_say(make_host: HostMaker, share: str) -> None:
    host = make_host(f'limits.share = "{share}"\n[[root]]\npath = "{{}}"\n')
    other = host.base / "other"
    host.configure(f'limits.share = "{share}"\n[[root]]\npath = "{other}"\n')
    host.service()
    host.bundle("web")
    host.launch("run", "web", "--detach", root=other)
    eventually(lambda: host.status("web") == "attached")
    assert f"it has limits.share = {share}" in refused(host)
    host.runc("delete", "--force", "web", root=other)


def test_an_interface_of_another_program_is_not_given_up(served: Host) -> None:
    served.attach("web")
    said = refused(served, edit=with_links("other0"))
    assert 'another program has given it the interface "other0"' in said


def test_a_port_that_is_taken_is_found_before_it_is_moved(served: Host) -> None:
    served.attach("web", ports="8080:80")
    served.attach("db")
    asked = {"io.watcher.share": "db", "io.watcher.ports": "8080:80"}
    before = served.leftovers()
    done = served.run_to_end("side", STARTED, check=False, annotations=asked)
    assert (done.returncode, done.stdout) == (1, "")
    assert 'sandbox "web"' in done.stderr
    assert served.leftovers() == before


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("net.ipv4.tcp_congestion_control", "would change the whole host"),
        ("net.ipv4.conf.all.arp_notify", ""),
    ],
)
def test_settings_are_applied_or_refused_but_never_lost(
    served: Host, setting: str, words: str
) -> None:
    web = served.attach("web")
    value = {"net.ipv4.tcp_congestion_control": "reno"}.get(setting, "1")
    edit = settings(**{setting: value})
    if words:
        done = served.run_to_end("side", STARTED, check=False, edit=edit, **IN_WEB)
        assert done.returncode == 1
        assert words in done.stderr
        return
    path = "/proc/sys/" + setting.replace(".", "/")
    assert served.run_to_end("side", ["cat", path], edit=edit, **IN_WEB).stdout == f"{value}\n"
    assert web.exec("cat", path).stdout == f"{value}\n"


def test_very_many_settings_are_not_even_tried() -> None:
    with pytest.raises(BadValue, match="65 settings, more than 64"):
        of_bundle([(f"net.ipv4.conf.eth{number}.arp_notify", "1") for number in range(65)])


def test_where_invalid_ones_may_start_it_has_its_own_empty_namespace(make_host: HostMaker) -> None:
    host = make_host('[gate]\non_invalid = "allow"\n')
    host.service()
    host.attach("web", ports="8080:80")
    asked = {"io.watcher.share": "web", "io.watcher.ports": "8080:81"}
    done = host.run_to_end("side", ["ls", "/sys/class/net"], annotations=asked)
    assert done.stdout.split() == ["lo"]


def test_a_preview_says_what_comes_true(make_host: HostMaker) -> None:
    host = make_host()
    host.service()
    web = host.attach("web")
    bundle = host.bundle("side", **IN_WEB)
    shown = host.watcher("bundle", str(bundle), "--check").stdout
    where = f"in root {host.root}"
    assert shown == f"shared {where}: with web; eth0 in network default with {web.address}\n"
    host.bundle("side", user_namespace=True, **IN_WEB)
    done = host.watcher("bundle", str(bundle), "--check", check=False)
    assert (done.returncode, done.stderr.endswith(f"{mend(host)}\n")) == (1, True)
    host.bundle("side", **IN_WEB)
    host.configure("[gate]\nshare = false\n")
    done = host.watcher("bundle", str(bundle), "--check", check=False)
    assert "share = false in [gate]" in done.stderr


@pytest.mark.parametrize(
    ("gate", "words"),
    [
        ("", "a held container can be moved into the sandbox that io.watcher.share names"),
        ("share = false\n", "share = false in [gate]"),
    ],
)
def test_check_says_whether_there_is_moving(make_host: HostMaker, gate: str, words: str) -> None:
    host = make_host(f"[gate]\n{gate}")
    assert words in host.watcher("check", check=False).stdout


# --- a runtime whose inits cannot be moved -------------------------------------------------------


@pytest.fixture
def crun(rootfs: Path) -> Iterator[CrunHost]:
    with CrunHost(rootfs) as host:
        yield host


def test_crun_is_refused(crun: CrunHost) -> None:
    crun.service()
    crun.attach("web")
    crun.bundle("side", STARTED, **IN_WEB)
    done = crun.launch("create", "side", check=False)
    assert done.returncode != 0
    reason = str(crun.inspect("side")["reason"])
    assert "of crun cannot be moved" in reason
    assert reason.endswith(mend(crun))


# --- what hangs in the middle --------------------------------------------------------------------


def hung(make_host: HostMaker, timeout: float = 2.5) -> tuple[Host, Service]:
    """A host that lets everybody start at the deadline, with a container `web`."""
    gate = f'[gate]\nmode = "required"\ntimeout = {timeout}\non_timeout = "allow"\n'
    host: Host = make_host(gate)
    service = host.service()
    host.attach("web")
    return host, service


def test_the_deadline_denies_what_is_held_up_in_the_middle(make_host: HostMaker) -> None:
    """The loop's thread waits for the disk of the lease store."""
    host = make_host('[gate]\nmode = "required"\ntimeout = 2.5\non_timeout = "allow"\n')
    store = Freezable(host, host.state_dir)
    service = host.service()
    host.attach("web")
    store.freeze()
    host.bundle("side", STARTED, **IN_WEB)
    done = host.launch("run", "side", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "so its start is denied" in done.stderr
    assert service.logged("held too long", "side")["verdict"] == "deny"
    store.thaw()
    eventually(lambda: set(host.ls()) == {"web"})
    eventually(lambda: host.pins() == {"web"})
    assert host.watcher("sync").stdout == "nothing to do\n"
    host.run("side", **IN_WEB)
    assert host.attached("side", "shared").address == host.container("web").address


def frozen(host: Host, service: Service) -> tuple[Popen[str], Path]:
    """A held runc whose init no tracer can stop, and the file that thaws it."""
    host.bundle("side", STARTED, **IN_WEB)
    service.signal(signal.SIGSTOP)
    process = host.launching("run", "side")
    eventually(lambda: is_held(host, "side"))
    freezer = CGROUPS / "freezer" / host.cgroup / "side" / "freezer.state"
    freezer.write_text("FROZEN")
    service.signal(signal.SIGCONT)
    return process, freezer


def test_the_deadline_denies_a_frozen_init(make_host: HostMaker) -> None:
    host, service = hung(make_host)
    process, freezer = frozen(host, service)
    assert service.logged("held too long", "side")["verdict"] == "deny"
    freezer.write_text("THAWED")
    done = host.launched(process, "side", check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert set(host.ls()) == {"web"}
    host.run("side", **IN_WEB)
    assert host.attached("side", "shared").address == host.container("web").address


def test_when_as_many_hang_as_are_waited_for_the_next_is_denied_at_once(
    make_host: HostMaker,
) -> None:
    host, service = hung(make_host, timeout=3.0)
    names = [f"hangs{number}" for number in range(MOST)]
    for name in names:
        host.bundle(name, **IN_WEB)
    service.signal(signal.SIGSTOP)
    launching = [(host.launching("run", name, "--detach"), name) for name in names]
    for name in names:
        eventually(partial(is_held, host, name))
    freezers = [CGROUPS / "freezer" / host.cgroup / name / "freezer.state" for name in names]
    for freezer in freezers:
        freezer.write_text("FROZEN")
    service.signal(signal.SIGCONT)
    for name in names:
        assert service.logged("held too long", f'"{name}"')["verdict"] == "deny"
    assert "many other moves hang" in refused(host, "next")
    assert "1 packets received" in host.run_to_end("plain", FIRST).stdout
    for freezer in freezers:
        freezer.write_text("THAWED")
    for process, name in launching:
        assert host.launched(process, name, check=False).returncode == 1
    host.run("side", **IN_WEB)
    assert host.attached("side", "shared").address == host.container("web").address


def test_one_whose_turn_comes_late_is_moved_then(make_host: HostMaker) -> None:
    """Another writer has the lock."""
    host = make_host('[gate]\nmode = "required"\ntimeout = 60.0\n')
    host.service()
    web = host.attach("web")
    host.bundle("side", **IN_WEB)
    with host.unwritable():
        process = host.launching("run", "side", "--detach")
        eventually(lambda: is_held(host, "side"))
    host.launched(process, "side")
    assert host.attached("side", "shared").address == web.address


def test_a_service_that_stops_waits_a_little_for_what_hangs_and_denies_it(host: Host) -> None:
    service = host.service()
    host.attach("web")
    process, freezer = frozen(host, service)
    eventually(lambda: traced(service), what="a traced init")
    service.stop()
    freezer.write_text("THAWED")
    done = host.launched(process, "side", check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert "side" not in host.pins()
    assert host.watcher("sync").stdout == "nothing to do\n"


def traced(service: Service) -> int:
    """How many processes the threads of the service trace."""
    tracers = {task.name for task in Path(f"/proc/{service.pid}/task").iterdir()}
    found = 0
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            found += status.read_text().partition("TracerPid:\t")[2].split("\n")[0] in tracers
    return found
