"""The command line: what each command prints and how it exits."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.host import BEYOND, GATE_OFF, GATEWAY, UPLINK, Host, HostMaker
from tests.support.name_service import NameService
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.observe.name_service import STATUS
from watcher.store.leases import LeaseStore

# --- ls and inspect --------------------------------------------------------------------------


def test_ls_prints_a_table(kept: Host) -> None:
    web = kept.attach("web", ports="8080:80,127.0.0.1:5353:53/udp")
    kept.share("sidecar", "web")
    header, *rows = kept.watcher("ls").stdout.splitlines()
    assert header.split() == ["ID", "NAME", "PID", "STATUS", "NETWORK", "ADDRESS", "PORTS", "VETH"]
    by_id = {row.split()[0]: row for row in rows}
    assert set(by_id) == {"web", "sidecar"}
    for word in (str(web.pid), "attached", "default", web.address, "8080:80/tcp", web.veth):
        assert word in by_id["web"]
    assert "shared" in by_id["sidecar"]
    # Columns are aligned.
    assert by_id["web"].index("attached") == by_id["sidecar"].index("shared")
    assert by_id["web"].index("attached") == header.index("STATUS")


def test_ls_prints_json(kept: Host) -> None:
    web = kept.attach("web", ports="8080:80")
    (row,) = json.loads(kept.watcher("ls", "--json").stdout)
    assert set(row) >= {"id", "pid", "status", "network", "address", "ports", "veth", "root"}
    assert (row["id"], row["pid"], row["status"]) == ("web", web.pid, "attached")
    assert row["veth"] == [web.veth]
    assert row["root"] == str(kept.root)
    assert row["network"] == ["default"]
    assert row["address"] == [web.address]
    assert row["ports"] == ["8080:80/tcp"]


def test_ls_without_containers_is_an_empty_table(host: Host) -> None:
    assert host.watcher("ls").stdout.split()[:1] in ([], ["ID"])
    assert json.loads(host.watcher("ls", "--json").stdout) == []
    assert not host.state_dir.exists(), "a command that only shows makes nothing"


def test_ls_shows_one_that_nobody_has_attached_yet_as_waiting(host: Host) -> None:
    host.run("web")
    assert host.status("web") == "waiting"


def has_one_waiting(inode: int) -> bool:
    """Whether somebody waits for a lock of that file. Source: proc_locks(5)."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any(" -> " in line and f":{inode} " in line for line in lines)


@pytest.mark.parametrize("served", [False, True])
def test_ls_shows_nothing_half_made(make_host: HostMaker, served: bool) -> None:
    host = make_host(GATE_OFF)  # a gate would hold `ls` while the service is stopped
    service = host.service() if served else None
    host.attach("web")
    with LeaseStore.open(host.state_dir / "leases.db") as store:
        with host.unwritable() as lock:
            if service is not None:  # it would put right what is half-made, maybe before
                service.signal(signal.SIGSTOP)  # while it does not have the lock
            ls = host.popen(
                host.watcher_command("ls", "--json"), env=host.watcher_env, stdout=subprocess.PIPE
            )
            eventually(lambda: has_one_waiting(lock))
            store.release(store.sandboxes()[0].key)
        (row,) = json.loads(ls.communicate(timeout=60)[0])
    if service is not None:
        service.signal(signal.SIGCONT)
    assert row["status"] == "waiting"


def test_ls_does_not_wait_for_ever(kept: Host) -> None:
    kept.attach("web")
    with kept.unwritable():
        assert kept.status("web") == "attached"


def test_inspect_prints_everything_known_of_a_container(kept: Host) -> None:
    web = kept.attach("web", ports="8080:80")
    kept.share("sidecar", "web")
    known = kept.inspect("web")
    assert set(known) >= {
        *("id", "pid", "status", "network", "address", "ports", "veth", "root"),
        *("reason", "bundle", "netns", "pins", "interfaces"),
    }
    assert known["bundle"] == str(kept.bundles / "web")
    assert str(web.place.inode) in json.dumps(known["netns"])
    assert "web" in json.dumps(known["pins"])
    (interface,) = known["interfaces"]
    assert "eth0" in interface.values()
    assert (web.place.link("eth0") or {})["address"] in interface.values()
    assert kept.inspect("sidecar")["status"] == "shared"


def test_inspect_of_an_unknown_container_says_so(kept: Host) -> None:
    done = kept.watcher("inspect", "nobody", check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "nobody" in done.stderr


# --- network ---------------------------------------------------------------------------------

TWO = '[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24"]\n'


def test_network_ls_shows_the_configured_networks(make_host: HostMaker) -> None:
    host = make_host(TWO)
    host.attach("web")
    table = host.watcher("network", "ls").stdout
    for word in ("default", "netns0", "172.19.0.0/16", "back", "back0", "172.20.0.0/24"):
        assert word in table
    networks = json.loads(host.watcher("network", "ls", "--json").stdout)
    assert {network["name"] for network in networks} == {"default", "back"}
    assert {network["bridge"] for network in networks} == {"netns0", "back0"}


def test_network_rm_removes_one_that_nobody_uses(kept: Host) -> None:
    web = kept.attach("web")
    kept.delete("web")
    kept.gone(web)
    kept.watcher("network", "rm", "default")
    assert "netns0" not in kept.here.links()
    kept.attach("web")
    assert kept.here.addresses("netns0") == [f"{GATEWAY}/16"]


def test_network_rm_refuses_one_that_is_used(kept: Host) -> None:
    kept.attach("web")
    done = kept.watcher("network", "rm", "default", check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "web" in done.stderr
    assert "netns0" in kept.here.links()


def test_network_rm_of_an_unknown_one_is_refused(host: Host) -> None:
    done = host.watcher("network", "rm", "nowhere", check=False)
    assert done.returncode in (1, 2)
    assert len(done.stderr.splitlines()) == 1
    assert "nowhere" in done.stderr


# --- down ------------------------------------------------------------------------------------


def test_down_removes_everything_ever_made(host: Host) -> None:
    before = host.here.links()
    service = host.service()
    web = host.attach("web", ports="8080:80")
    host.share("sidecar", "web")
    host.attach("other")
    service.stop()

    host.watcher("down")
    assert host.here.links() == before
    assert web.place.links() <= {"lo", "eth0"}
    assert host.pins() == set()
    assert [item for item in host.nft_list() if "metainfo" not in item] == []
    assert not host.state_dir.exists() or list(host.state_dir.iterdir()) == []
    assert not host.run_dir.exists() or list(host.run_dir.iterdir()) == []
    mounts = host.command("cat", "/proc/self/mountinfo").stdout
    for own in ("beyond", "sys", "null"):
        mounts = mounts.replace(f"{host.base}/{own}", "")
    assert str(host.base) not in mounts


def test_down_removes_what_a_killed_name_service_left_and_nothing_of_one_that_runs(
    host: Host,
) -> None:
    service = host.service()
    names = NameService(host).hears()
    service.stop()
    host.watcher("down")
    assert (host.run_dir / STATUS).exists()
    names.signal(signal.SIGKILL)
    names.end()
    host.watcher("down")
    assert not host.run_dir.exists()


def test_down_on_a_host_where_nothing_was_made_is_done(host: Host) -> None:
    host.watcher("down")
    host.watcher("down")


def test_after_down_sync_makes_it_all_again(host: Host) -> None:
    host.run("web", ports="8080:80").serve(tcp=(80,))
    host.watcher("sync")
    host.watcher("down")
    host.watcher("sync")
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def test_down_beside_a_running_service_is_refused_or_done_for_good(served: Host) -> None:
    web = served.attach("web")
    done = served.watcher("down", check=False)
    if done.returncode == 0:
        assert web.veth not in served.here.links()
    else:
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert web.veth in served.here.links()
        assert web.address


# --- check -----------------------------------------------------------------------------------


def test_check_finds_this_host_able(host: Host) -> None:
    done = host.watcher("check")
    assert done.stdout.strip()
    assert json.loads(host.watcher("check", "--json").stdout)
    assert host.here.links() == {"lo", "uplink"}, "a check makes nothing"


def test_check_without_privilege_says_what_is_missing(host: Host) -> None:
    command = host.watcher_command("check")
    done = host.command(
        "setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin", "--", *command,
        check=False, env=host.watcher_env,
    )  # fmt: skip
    assert done.returncode == 1
    assert "net_admin" in (done.stdout + done.stderr).lower()
    assert "Traceback" not in done.stderr


# --- usage -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("nonsense",),
        ("ls", "--nonsense"),
        ("inspect",),
        ("network",),
        ("network", "rm"),
        ("bundle", "/tmp"),
        ("--log-level", "loud", "ls"),
        ("--log-format", "xml", "ls"),
        ("--config", "/nonexistent/watcher.toml", "ls"),
    ],
)
def test_wrong_usage_exits_2(host: Host, args: tuple[str, ...]) -> None:
    done = host.watcher(*args, check=False)
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr


def test_help_names_every_command(host: Host) -> None:
    printed = host.watcher("--help").stdout
    for command in ("run", "sync", "ls", "inspect", "check", "network", "bundle", "down"):
        assert command in printed


@pytest.mark.parametrize("command", [["ls"], ["sync"], ["run"], ["check"], ["down"]])
def test_a_wrong_configuration_exits_2_and_nothing_starts(host: Host, command: list[str]) -> None:
    host.configure('[network.default]\nbrigde = "netns0"\n')
    done = host.watcher(*command, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in ("brigde", "bridge", str(host.config)):
        assert word in done.stderr
    line = 1 + host.config.read_text().splitlines().index('brigde = "netns0"')
    assert str(line) in done.stderr
    assert host.here.links() == {"lo", "uplink"}


def test_without_a_configuration_file_the_defaults_hold(host: Host) -> None:
    """With `/run` and `/var/lib` of its own, a host may be used with the default directories."""
    host.command("mount", "-t", "tmpfs", "tmpfs", "/var/lib")
    assert not host.seen(host.base / "nothing").exists()
    command = host.watcher_command()
    command = command[: command.index("--config")]
    host.bundle("web", ports="8080:80")
    host.runc_default("run", "--detach", "--bundle", str(host.bundles / "web"), "web")
    host.command(*command, "sync", env=host.watcher_env)
    rows = json.loads(host.command(*command, "ls", "--json", env=host.watcher_env).stdout)
    assert [(row["id"], row["status"], row["root"]) for row in rows] == [
        ("web", "attached", "/run/runc")
    ]
    assert host.command("ls", "/run/netns").stdout.split() == ["web"]
    assert "web" in host.command("ip", "netns", "list").stdout
    assert "leases.db" in host.command("ls", "/var/lib/watcher").stdout
    assert "eth0" in host.command("ip", "netns", "exec", "web", "ip", "link").stdout


def test_logs_go_to_stderr_and_json_to_stdout(kept: Host) -> None:
    kept.run("web")
    done = kept.watcher("--log-level", "debug", "--log-format", "json", "ls", "--json")
    json.loads(done.stdout)
    for line in done.stderr.splitlines():
        json.loads(line)


def test_a_command_without_privilege_says_so_in_one_line(host: Host) -> None:
    host.run("web")
    command = host.watcher_command("sync")
    done = host.command(
        "setpriv", "--bounding-set=-all", "--inh-caps=-all", "--", *command,
        check=False, env=host.watcher_env,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ls_into_a_closed_pipe_is_no_traceback(kept: Host) -> None:
    kept.attach("web")
    words = " ".join(kept.watcher_command("ls"))
    done = kept.command("sh", "-c", f"{words} | true", env=kept.watcher_env)
    assert "Traceback" not in done.stderr


def test_the_published_port_that_ls_shows_is_the_one_that_works(kept: Host) -> None:
    kept.attach("web", ports="9000-9002:80-82").serve(tcp=(80, 81, 82))
    ports = json.dumps(kept.ls()["web"]["ports"])
    for port in (9000, 9001, 9002):
        assert kept.beyond.reach(UPLINK, port) == Answer("web", BEYOND)
    assert "9000" in ports
    assert "9002" in ports or "9000-9002" in ports


def test_an_exited_container_is_listed_until_it_is_deleted(kept: Host) -> None:
    kept.attach("web")
    kept.kill("web")
    kept.settle()
    eventually(lambda: kept.status("web") == "exited")
    kept.delete("web")
    eventually(lambda: kept.status("web") == "")
