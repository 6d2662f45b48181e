"""The gate: a container's first instruction sees its network, without a hook."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.bundles import Spec
from tests.support.held import Verb, is_held
from tests.support.host import BEYOND, GATEWAY, UPLINK, Host, HostMaker, Service
from tests.support.processes import end
from tests.support.traffic import Answer
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = ("sh", "-c", f"ip -4 addr show eth0 && ping -c1 -W10 {GATEWAY}")
"""A program whose first instruction needs its network."""


def mounts_of_root(host: Host) -> int:
    """How many mounts there are at the root."""
    lines = host.command("cat", "/proc/self/mountinfo").stdout.splitlines()
    return sum(line.split()[4] == str(host.root) for line in lines)


def has_answer(host: Host, name: str) -> bool:
    """Whether a container of :data:`FIRST` has been answered."""
    return "1 packets received" in host.output(name)


def gated(make_host: HostMaker, more: str = "") -> tuple[Host, Service]:
    """A host with a service that has the gate."""
    host = make_host(f'[gate]\nmode = "required"\n{more}')
    return host, host.service()


# --- order -----------------------------------------------------------------------------------


def test_the_first_instruction_of_every_container_sees_its_network(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    host.bundle("web", FIRST)
    for _ in range(50):
        assert "1 packets received" in host.launch("run", "web").stdout
    host.empty()
    assert service.warnings() == []


def test_so_do_those_of_64_at_once(make_host: HostMaker) -> None:
    host, service = gated(make_host, "timeout = 60.0\n")
    names = [f"c{number}" for number in range(64)]
    for name in names:
        host.bundle(name, FIRST)
    for _ in range(2):
        processes = [host.launching("run", name) for name in names]
        for name, process in zip(names, processes, strict=True):
            assert "1 packets received" in host.launched(process, name).stdout
    host.empty()
    # So many may keep a slow disk busy for seconds, of which the service tells.
    assert [e for e in service.warnings() if "file system" not in e["event"]] == []


def test_the_network_is_there_when_runc_create_returns(make_host: HostMaker) -> None:
    host, _ = gated(make_host)
    for number in range(10):
        web = host.create(f"c{number}", FIRST)
        assert web.address
        assert f"c{number}" in host.pins()
        host.start(web.id)
    for number in range(10):
        eventually(partial(has_answer, host, f"c{number}"))


def test_a_connection_out_at_once_is_answered(make_host: HostMaker) -> None:
    host, _ = gated(make_host)
    host.beyond.serve(tcp=(80,))
    for number in range(10):
        done = host.run_to_end(f"c{number}", ["nc", "-w", "10", BEYOND, "80"])
        assert done.stdout == f"beyond {UPLINK}\n"


def test_a_published_port_is_there_as_soon_as_anybody_listens(make_host: HostMaker) -> None:
    host, _ = gated(make_host)
    for number in range(10):
        web = host.create(f"c{number}", ports=f"{8000 + number}:80")
        web.serve(tcp=(80,))
        assert host.beyond.reach(UPLINK, 8000 + number) == Answer(web.id, BEYOND)


def test_a_sidecar_is_in_order_as_well(make_host: HostMaker) -> None:
    host, _ = gated(make_host)
    host.run("web")
    done = host.run_to_end("sidecar", FIRST, netns_path=host.netns_dir / "web")
    assert "1 packets received" in done.stdout


def test_the_event_that_follows_finds_nothing_to_do(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    host.attach("web")
    assert host.watcher("sync").stdout == "nothing to do\n"
    service.logged('"attached"', '"web"')
    told = [entry for entry in service.log() if "attached" in str(entry.get("event"))]
    assert len([entry for entry in told if "web" in json.dumps(entry)]) == 1, told


# --- marking ---------------------------------------------------------------------------------


def test_the_root_is_marked_before_anything_can_be_made_in_it(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    assert mounts_of_root(host) == 1
    service.stop()
    assert mounts_of_root(host) == 0
    service.start()
    assert mounts_of_root(host) == 1


def test_the_mount_is_found_again_after_a_kill_and_never_stacked(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    for _ in range(3):
        service.kill9()
        service.start()
        assert mounts_of_root(host) == 1
    assert host.run_to_end("web", FIRST).returncode == 0
    service.stop()
    assert mounts_of_root(host) == 0


def test_down_takes_the_mount_of_a_killed_service_back(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    service.kill9()
    host.watcher("down")
    assert mounts_of_root(host) == 0


@pytest.mark.parametrize("accident", ["unmounted", "removed in another mount namespace"])
def test_a_root_that_is_made_again_is_marked_again(make_host: HostMaker, accident: str) -> None:
    """Where it is mounted, nobody can remove it; and it is mounted again as it is unmounted."""
    host, _ = gated(make_host)
    assert host.run_to_end("web", FIRST).returncode == 0
    if accident == "unmounted":
        host.command("umount", "--lazy", str(host.root))  # it is in use: the service holds it
    else:
        shutil.rmtree(host.root)
    eventually(lambda: mounts_of_root(host) == 1)
    assert host.run_to_end("web", FIRST).returncode == 0
    assert host.run_to_end("web", FIRST).returncode == 0


# --- refusal ---------------------------------------------------------------------------------

REFUSED: dict[str, dict[str, Any]] = {
    "a taken port": {"ports": "8080:80"},
    "a wrong annotation": {"annotations": {"io.watcher.netwrok": "default"}},
    "a taken address": {"annotations": {"io.watcher.ip": "172.19.0.50"}},
    "an unknown network": {"annotations": {"io.watcher.network": "nowhere"}},
}


@pytest.mark.parametrize("verb", ["run", "create"])
@pytest.mark.parametrize("request_", REFUSED)
def test_a_request_that_cannot_be_met_refuses_the_start(
    make_host: HostMaker, verb: Verb, request_: str
) -> None:
    host, service = gated(make_host)
    first = host.run("first", ports="8080:80", annotations={"io.watcher.ip": "172.19.0.50"})
    before = host.leftovers()

    host.bundle("bad", FIRST, **REFUSED[request_])
    done = host.launch(verb, "bad", check=False)
    assert done.returncode != 0
    assert "eth0" not in done.stdout

    assert not host.seen(host.root / "bad").exists()
    assert host.leftovers() == before
    assert host.veths() == {first.veth}
    service.logged("bad", "io.watcher.")
    assert len([entry for entry in service.warnings() if "bad" in json.dumps(entry)]) == 1
    assert "bad" not in host.watcher("ls").stdout
    assert "bad" in host.watcher("ls", "--all").stdout
    assert "io.watcher." in host.inspect("bad")["reason"]


def test_no_free_address_refuses_the_start(make_host: HostMaker) -> None:
    host, service = gated(make_host, '[network.default]\nsubnets = ["172.19.0.0/30"]\n')
    host.run("first")
    assert host.run_to_end("bad", FIRST, check=False).returncode != 0
    service.logged("bad", "172.19.0.0/30")
    host.delete("first")
    host.empty()
    assert "1 packets received" in host.run_to_end("bad", FIRST).stdout


def test_a_refusal_is_forgotten_when_the_container_starts_after_all(make_host: HostMaker) -> None:
    host, _ = gated(make_host)
    host.run("first", ports="8080:80")
    host.bundle("web", ports="8080:80")
    assert host.launch("run", "web", "--detach", check=False).returncode != 0
    host.delete("first")
    host.empty()
    host.launch("run", "web", "--detach")
    host.attached("web")
    assert not host.inspect("web")["reason"]


def test_a_request_that_cannot_be_met_starts_without_network_where_that_is_asked(
    make_host: HostMaker,
) -> None:
    host, _ = gated(make_host, 'on_invalid = "allow"\n')
    web = host.run("web", ports="0:80")
    assert "0:80" in host.fails("web")
    assert web.place.links() == {"lo"}


# --- never in the way ------------------------------------------------------------------------


@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_a_container_is_let_go_after_the_timeout(make_host: HostMaker, verdict: str) -> None:
    host, service = gated(make_host, f'timeout = 0.3\non_timeout = "{verdict}"\n')
    host.bundle("web")
    with host.unwritable():  # it ends although nothing could be done for it
        done = host.launch("run", "web", "--detach", check=False)
    assert (done.returncode == 0) == (verdict == "allow")
    service.logged("web", "timeout")
    if verdict == "allow":
        host.attached("web")
    else:
        assert not (host.root / "web").exists()
        host.empty()


def test_a_killed_watcher_holds_nobody_up(make_host: HostMaker) -> None:
    host, service = gated(make_host, "timeout = 600.0\n")
    host.bundle("web", ports="8080:80")
    with host.unwritable():
        process = host.launching("run", "web", "--detach")
        eventually(lambda: is_held(host, "web"))
        service.kill9()
        host.launched(process, "web")
    service.start()
    web = host.attached("web")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_a_stopped_watcher_holds_until_it_goes_on(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    host.bundle("web", FIRST)
    service.signal(signal.SIGSTOP)
    process = host.launching("run", "web")
    eventually(lambda: is_held(host, "web"))
    service.signal(signal.SIGCONT)
    assert "1 packets received" in host.launched(process, "web").stdout


def test_a_clean_stop_lets_a_held_container_go(make_host: HostMaker) -> None:
    host, service = gated(make_host, "timeout = 600.0\n")
    host.bundle("web")
    with host.unwritable():
        process = host.launching("run", "web", "--detach")
        eventually(lambda: is_held(host, "web"))
        service.signal(signal.SIGTERM)
    host.launched(process, "web")
    assert service.wait() == 0
    service.start()
    host.attached("web")


def test_what_the_dead_had_is_in_nobodys_way(make_host: HostMaker) -> None:
    """A service that is busy may come to a start before it comes to an end that was before it."""
    host, _ = gated(make_host, "timeout = 60.0\n")
    wishes: dict[str, Any] = {"ports": "8080:80", "annotations": {"io.watcher.ip": "172.19.0.9"}}
    host.attach("web0", **wishes)
    for number in range(5):
        before, after, busy = f"web{number}", f"web{number + 1}", f"busy{number}"
        host.bundle(busy)
        host.bundle(after, **wishes)
        with host.unwritable():
            processes = {busy: host.launching("run", busy, "--detach")}
            eventually(partial(is_held, host, busy))
            host.delete(before)
            processes[after] = host.launching("run", after, "--detach")
            eventually(partial(is_held, host, after))
        for name, process in processes.items():
            host.launched(process, name)
        host.attached(after).serve(tcp=(80,))
        assert host.beyond.reach(UPLINK, 8080) == Answer(after, BEYOND)


def test_other_openers_are_never_held(make_host: HostMaker) -> None:
    host, _ = gated(make_host, "timeout = 60.0\n")
    host.run("there")
    host.bundle("web")
    state = host.root / "there/state.json"
    with host.unwritable():
        process = host.launching("run", "web", "--detach")
        eventually(lambda: is_held(host, "web"))
        host.runc("list")
        host.runc("state", "there")
        host.command("sh", "-ec", f"for i in $(seq 1000); do read x < {state} || :; done")
        host.command("sh", "-ec", f"tar -cf /dev/null {host.root}")
        host.command("sh", "-ec", f"echo > {host.root}/there/state-x; rm {host.root}/there/state-x")
        host.command("touch", str(host.root / "state-x"))
        assert process.poll() is None  # all of them have been, while this one waits
    host.launched(process, "web")
    host.attached("web")


def test_ignored_containers_are_never_held(make_host: HostMaker) -> None:
    host, _ = gated(make_host, "timeout = 60.0\n")
    with host.unwritable():
        host.run("host", netns_path="host")
        host.run("none", annotations={"io.watcher.network": "none"})


def test_a_runc_that_dies_while_it_is_held(make_host: HostMaker) -> None:
    host, service = gated(make_host, "timeout = 60.0\n")
    host.bundle("web")
    with host.unwritable():
        process = host.launching("run", "web", "--detach")
        eventually(lambda: is_held(host, "web"))
        end(process)
    assert host.run_to_end("other", FIRST).returncode == 0
    host.runc("delete", "--force", "web", check=False)
    host.empty()
    assert service.running
    assert "Traceback" not in service.log_text()


def test_a_hundred_at_once_are_held_and_let_go(make_host: HostMaker) -> None:
    host, _ = gated(make_host, "timeout = 60.0\n")
    names = [f"c{number}" for number in range(100)]
    for name in names:
        host.bundle(name, ["ip", "-4", "addr", "show", "eth0"])
    with host.unwritable():
        processes = [host.launching("run", name) for name in names]
        eventually(lambda: sum(is_held(host, name) for name in names) > 80, 40)
    for name, process in zip(names, processes, strict=True):
        assert "inet 172.19." in host.launched(process, name).stdout
    host.empty()


# --- runc's protocols ------------------------------------------------------------------------

PLAYED_RUNC = """
import json, os, sys, tempfile
root, name, bundle, early, labels = sys.argv[1:]
os.chdir(bundle)
os.makedirs(f"{root}/{name}", mode=0o711)
os.mkfifo(f"{root}/{name}/exec.fifo")

def start_of(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return int(stat.read().rpartition(")")[2].split()[19])

def save(pid, start):
    state = {
        "id": name,
        "init_process_pid": pid,
        "init_process_start": start,
        "namespace_paths": {"NEWNET": f"/proc/{pid}/ns/net"} if pid else {},
        "config": {
            "namespaces": [{"type": "NEWNET", "path": ""}],
            "labels": json.loads(labels) + [f"bundle={bundle}"],
        },
    }
    descriptor, path = tempfile.mkstemp(prefix="state-", dir=f"{root}/{name}")
    with open(descriptor, "w") as file:
        if pid:
            # The open has been answered: this is where init is let go.
            with open(f"/proc/{pid}/net/route") as routes:
                print(len(routes.readlines()) - 1, flush=True)
        json.dump(state, file)
    os.rename(path, f"{root}/{name}/state.json")

if early == "early":
    save(0, 0)
ready, told = os.pipe()
init = os.fork()
if init == 0:
    os.setsid()
    os.unshare(os.CLONE_NEWNET)
    os.write(told, b".")
    for descriptor in (0, 1, 2):
        os.close(descriptor)
    os.execvp("sleep", ["sleep", "1000000"])
os.read(ready, 1)
save(init, start_of(init))
"""
"""What runc does in a root, file by file: `early` as 1.3 and later do, else as 1.1 and 1.2."""


def play_runc(host: Host, name: str, *, early: bool, labels: tuple[str, ...] = ()) -> int:
    """Plays runc; returns how many routes init had when its parent let it go."""
    done = host.command(
        *(sys.executable, "-I", "-S", "-c", PLAYED_RUNC),
        *(str(host.root), name, str(host.bundles / name)),
        *("early" if early else "late", json.dumps(labels)),
    )
    return int(done.stdout)


@pytest.mark.parametrize("early", [True, False], ids=["two saves", "one save"])
def test_both_protocols_of_runc(make_host: HostMaker, early: bool) -> None:
    host, service = gated(make_host)
    host.bundle("web", ports="8080:80")
    routes = play_runc(host, "web", early=early, labels=("io.watcher.ports=8080:80",))
    assert routes == 2
    host.attached("web").serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
    assert service.warnings() == []


def test_labels_that_differ_from_what_the_gate_read_are_reconciled(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    host.bundle("web", ports="8080:80")
    play_runc(host, "web", early=False, labels=("io.watcher.ports=9090:80",))
    web = host.attached("web")
    web.serve(tcp=(80,))
    eventually(lambda: host.beyond.reach(UPLINK, 9090, timeout=0.3) == Answer("web", BEYOND))
    eventually(lambda: host.beyond.reach(UPLINK, 8080, timeout=0.3) is None)
    service.logged("web", level="warning")


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BAD_CONFIGS: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: path.unlink(),
    "not JSON": lambda path: path.write_text("{"),
    "huge": lambda path: path.write_text(path.read_text() + " " * 64_000_000),
    "a FIFO": a_fifo,
    "a link out of the bundle": lambda path: (
        path.rename(path.parent.parent / "other.json")
        .parent.joinpath("web/config.json")
        .symlink_to("../other.json")
    ),
    "wrong types": lambda path: path.write_text('{"annotations": [1], "linux": 7}'),
}


@pytest.mark.parametrize("kind", BAD_CONFIGS)
def test_a_config_json_that_cannot_be_read_does_not_hold_runc(
    make_host: HostMaker, kind: str
) -> None:
    host, service = gated(make_host, "timeout = 30.0\n")
    bundle = host.bundle("web")
    BAD_CONFIGS[kind](bundle / "config.json")
    host.command(
        *(sys.executable, "-I", "-S", "-c", PLAYED_RUNC),
        *(str(host.root), "web", str(bundle), "late", "[]"),
        check=False,
    )
    assert [entry for entry in service.log() if entry["event"] == "held too long"] == []
    assert host.run_to_end("good", FIRST).returncode == 0
    assert service.running
    assert "Traceback" not in service.log_text()


# --- without fanotify ------------------------------------------------------------------------


def test_without_the_gate_nothing_is_mounted_and_everything_else_works(
    make_host: HostMaker,
) -> None:
    host = make_host('[gate]\nmode = "off"\n')
    host.service()
    assert mounts_of_root(host) == 0
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_required_without_the_capability_refuses_to_start(make_host: HostMaker) -> None:
    host = make_host('[gate]\nmode = "required"\n')
    done = host.command(
        *("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"),
        *host.watcher_command("run"),
        check=False,
        env=host.watcher_env,
        timeout=20,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "gate" in done.stderr.splitlines()[-1]
    assert mounts_of_root(host) == 0


def test_check_tells_whether_there_can_be_a_gate(make_host: HostMaker) -> None:
    host = make_host()
    assert "gate" in host.watcher("check").stdout.lower()
    done = host.command(
        *("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin", "--"),
        *host.watcher_command("check"),
        check=False,
        env=host.watcher_env,
    )
    assert "sys_admin" in (done.stdout + done.stderr).lower()


def test_which_hooks_see_the_network(make_host: HostMaker) -> None:
    """The promise is about the program's first instruction; some hooks run before the gate."""
    host, _ = gated(make_host)
    told = host.base / "told"
    told.mkdir()
    inside = "pid=$(grep -o '\"pid\":[0-9]*' | grep -o '[0-9]*$'); nsenter --net=/proc/$pid/ns/net "
    kinds = {
        "prestart": (inside, told),
        "createRuntime": (inside, told),
        "createContainer": ("", told),
        "startContainer": ("", "/var"),
        "poststart": (inside, told),
    }

    def with_hooks(spec: Spec) -> None:
        told_too = {"destination": "/var", "type": "bind", "source": str(told), "options": ["bind"]}
        spec["mounts"].append(told_too)
        spec["hooks"] = {
            kind: [
                {
                    "path": "/bin/sh",
                    "args": [
                        "sh",
                        "-c",
                        f"{enter} ip link show eth0 && touch {where}/{kind}; true",
                    ],
                    "env": ["PATH=/bin:/usr/bin:/sbin:/usr/sbin"],
                }
            ]
            for kind, (enter, where) in kinds.items()
        }

    host.run_to_end("web", ["sleep", "1"], edit=with_hooks)
    assert {path.name for path in told.iterdir()} == {"startContainer", "poststart"}
