"""What an administrator gets: the unit, the configuration file, `make install`.

The unit's restrictions are tried by systemd itself, on a machine that it has booted.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import fields

from tests.support.booted import Booted
from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually
from watcher.config import load
from watcher.config.settings import Cluster, Config, Events, Firewall, Gate, Limits, Names, Root
from watcher.model.network import Network

UNIT: Final = REPOSITORY / "deploy/watcher.service"
CONFIG: Final = REPOSITORY / "deploy/watcher.toml"
GATEWAY: Final = "172.19.0.1"
SOURCES: Final = (
    "Makefile",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "deploy",
    "tools",
    "watcher",
    "handlers",
)

MOUNT_NAMESPACE: Final = frozenset(
    [
        "BindLogSockets", "BindPaths", "BindReadOnlyPaths", "DynamicUser", "ExecPaths",
        "ExtensionDirectories", "ExtensionImages", "IPCNamespacePath", "InaccessiblePaths",
        "LogNamespace", "MountAPIVFS", "MountFlags", "MountImages", "NetworkNamespacePath",
        "NoExecPaths", "PrivateBPF", "PrivateDevices", "PrivateIPC", "PrivateMounts",
        "PrivateNetwork", "PrivatePIDs", "PrivateTmp", "PrivateUsers", "ProcSubset",
        "ProtectControlGroups", "ProtectHome", "ProtectHostname", "ProtectKernelLogs",
        "ProtectKernelModules", "ProtectKernelTunables", "ProtectProc", "ProtectSystem",
        "ReadOnlyPaths", "ReadWritePaths", "RootDirectory", "RootEphemeral", "RootImage",
        "TemporaryFileSystem",
    ]
)  # fmt: skip
"""Options with which systemd sets up a mount namespace for a service; source: systemd.exec(5)."""


def directives() -> list[tuple[str, str]]:
    """The unit's options with their values, without their sections."""
    lines = UNIT.read_text().splitlines()
    return [(key, value) for key, _, value in (line.partition("=") for line in lines)
            if key.isidentifier()]  # fmt: skip


def values(key: str) -> list[str]:
    """All words that the unit gives to an option."""
    return [word for name, value in directives() if name == key for word in value.split()]


# --- the unit ------------------------------------------------------------------------------------


def test_unit_passes_systemd_analyze_verify(tmp_path: Path) -> None:
    program = tmp_path / "watcher"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "watcher.service"
    text = UNIT.read_text()
    assert "ExecStart=/usr/local/sbin/watcher run\n" in text
    unit.write_text(text.replace("/usr/local/sbin/watcher", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unit_has_no_option_that_gives_it_a_mount_namespace() -> None:
    assert not {key for key, _ in directives()} & MOUNT_NAMESPACE


def test_unit_is_rated_ok_by_systemd_analyze_security() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", "--threshold=49", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


# --- the unit in systemd's hands -----------------------------------------------------------------


@pytest.fixture(scope="module")
def machine() -> Iterator[Booted]:
    """A booted machine on which the service runs; all tests of this file share it."""
    with Booted('[gate]\nmode = "required"\n') as booted:
        booted.command("systemctl", "start", "watcher")
        yield booted


def test_service_has_the_units_privileges_and_no_more(machine: Booted) -> None:
    status = dict(
        line.split(":\t")
        for line in machine.command("cat", f"/proc/{machine.main_pid}/status").stdout.splitlines()
        if ":\t" in line
    )
    decoded = machine.command("capsh", f"--decode={status['CapEff']}").stdout
    assert set(decoded.strip().partition("=")[2].split(",")) == {
        name.lower() for name in values("CapabilityBoundingSet")
    }
    assert status["CapBnd"] == status["CapEff"] == status["CapPrm"]
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_service_has_a_bound_of_memory(machine: Booted) -> None:
    shown = machine.command("systemctl", "show", "--property=MemoryMax,MemoryHigh", "watcher")
    assert sorted(shown.stdout.split()) == ["MemoryHigh=infinity", f"MemoryMax={2 << 30}"]


def test_service_comes_before_what_keeps_the_processors_busy(machine: Booted) -> None:
    shown = machine.command("systemctl", "show", "--property=CPUWeight", "watcher")
    assert shown.stdout == "CPUWeight=1000\n"


def test_service_is_in_the_mount_namespace_of_the_machine(machine: Booted) -> None:
    namespaces = [
        machine.command("readlink", f"/proc/{pid}/ns/mnt").stdout for pid in (1, machine.main_pid)
    ]
    assert namespaces[0] == namespaces[1]


def test_directories_of_the_service_are_roots_alone(machine: Booted) -> None:
    for path, mode in (("/var/lib/watcher", 700), ("/run/watcher", 755)):
        assert machine.command("stat", "--format=%a %U", path).stdout == f"{mode} root\n"


@pytest.mark.parametrize("user_namespace", [False, True], ids=["", "user namespace"])
def test_unit_lets_the_network_be_there_at_the_first_instruction(
    machine: Booted, *, user_namespace: bool
) -> None:
    program = ("sh", "-c", f"ip -4 addr show eth0 && ping -c 1 -W 10 {GATEWAY}")
    printed = machine.run("first", program, user_namespace=user_namespace)
    assert "inet 172.19." in printed
    assert "1 packets received" in printed


def test_directory_of_pins_is_as_ip_netns_makes_it(machine: Booted) -> None:
    """Whatever the unit's umask is: others list it, and enter what they may."""
    machine.run("pinned")
    assert machine.command("stat", "--format=%a %U", "/run/netns").stdout == "755 root\n"
    assert "pinned" in machine.command("ip", "netns", "list").stdout
    machine.command("runc", "delete", "--force", "pinned")


def test_unit_lets_the_service_have_its_network_namespace_for_itself(machine: Booted) -> None:
    held = machine.command("sh", "-c", "stat --format='%a %U' /run/watcher-*.lock").stdout
    assert held == "600 root\n"
    file = machine.shared / "other.toml"
    file.write_text('run_dir = "/run/other"\nstate_dir = "/var/lib/other"\n')
    done = machine.command("watcher", "--config", str(file), "sync", check=False)
    assert done.returncode == 1
    assert f"process {machine.main_pid} with run_dir = " in done.stderr


def test_unit_lets_a_bundle_of_another_user_be_read(machine: Booted) -> None:
    bundle = machine.bundle("theirs", annotations={"io.watcher.ip": "172.19.3.3"})
    os.chown(bundle / "config.json", 4321, 4321)
    (bundle / "config.json").chmod(0o600)
    os.chown(bundle, 4321, 4321)
    bundle.chmod(0o700)
    command = ("runc", "run", "--detach", "--bundle", str(bundle), "theirs")
    machine.command("sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh", *command)
    row = machine.ls()["theirs"]
    assert row["status"] == "attached"
    assert "172.19.3.3" in str(row["address"])
    machine.command("runc", "delete", "--force", "theirs")


DESCRIPTORS: Final = """
cd /proc/$1/task
for task in *; do
    echo "$(readlink $task/fd/* | grep -c fanotify) $(ls $task/fd | wc -l)"
done
"""
"""Of each thread of a process: how many fanotify groups it has, and how many descriptors."""


def test_unit_lets_the_gates_thread_have_descriptors_of_its_own(machine: Booted) -> None:
    """And no filter has what is read at the gate read in a thread aside."""
    command = ("sh", "-c", DESCRIPTORS, "sh", str(machine.main_pid))
    machine.run("former")
    machine.command("runc", "delete", "--force", "former")
    # Its end has a thread begin that stays; one that moves a journal ends at once.
    eventually(lambda: re.search("detached .*former", machine.journal()))
    before = min(len(machine.command(*command).stdout.splitlines()) for _ in range(5))
    machine.run("held")

    def with_a_group() -> list[int]:
        threads = machine.command(*command).stdout.splitlines()
        assert len(threads) == before  # none was started to read the bundle
        groups = [tuple(map(int, thread.split())) for thread in threads]
        return [descriptors for count, descriptors in groups if count]

    # Who answers has borrowed the group, and gives it back a moment after runc goes on.
    eventually(lambda: len(with_a_group()) == 1)
    (mine,) = with_a_group()
    assert mine <= len(("standard",) * 3 + ("group", "to the loop", "from the others"))
    machine.command("runc", "delete", "--force", "held")


@pytest.mark.parametrize("stderr", ["a pipe", "a file", "a terminal"])
def test_unit_tells_a_refused_runc_why(machine: Booted, stderr: str) -> None:
    bundle = machine.bundle("bad", ("true",), annotations={"io.watcher.ip": "10.0.0.1"})
    run = f"runc run --bundle {bundle} bad"
    script = {
        "a pipe": run,
        "a file": f"{run} 2>/tmp/errors; cat /tmp/errors >&2",
        "a terminal": f"script -qc '{run}' /dev/null >&2",
    }[stderr]
    said = machine.command("sh", "-c", script, check=False).stderr
    why = 'watcher: container "bad": io.watcher.ip = "10.0.0.1": '
    assert why in said.partition("level=")[0], said


def test_service_that_hangs_is_ended_by_the_watchdog_and_lets_runc_go_on() -> None:
    with Booted() as machine:
        # The unit's own time is for hosts under load.
        drop_in = "d=/run/systemd/system/watcher.service.d; mkdir -p $d; cat >$d/test.conf"
        machine.command("sh", "-c", drop_in, stdin="[Service]\nWatchdogSec=2\n")
        machine.command("systemctl", "daemon-reload")
        machine.command("systemctl", "start", "watcher")
        before = machine.main_pid
        machine.command("kill", "-STOP", str(before))
        machine.run("held")
        eventually(lambda: machine.main_pid not in (0, before), what="a new process")
        assert eventually(lambda: machine.ls()["held"]["status"] == "attached")
        assert machine.show("NRestarts") == "1"


def test_wrong_configuration_is_not_tried_again() -> None:
    with Booted("[gate]\nmood = 1\n") as machine:
        assert machine.command("systemctl", "start", "watcher", check=False).returncode == 1
        assert machine.show("ActiveState") == "failed"
        assert (machine.show("ExecMainStatus"), machine.show("NRestarts")) == ("2", "0")
        assert eventually(lambda: "mood" in machine.journal())


# --- runc in a mount namespace of its own --------------------------------------------------------

EVADED: Final = "a container started without being held"


def in_private_tmp(machine: Booted, name: str, *, detach: bool = False, fails: bool = False) -> str:
    """`runc run` of a bundle that is there, by a unit with PrivateTmp=yes; what was printed."""
    unit = f"""
[Service]
Type=oneshot
KillMode=none
PrivateTmp=yes
BindPaths={machine.shared}
ExecStart=/usr/sbin/runc run {"--detach" if detach else ""} --bundle {machine.shared / name} {name}
"""
    machine.command("sh", "-c", f"cat >/run/systemd/system/try-{name}.service", stdin=unit)
    machine.command("systemctl", "daemon-reload")
    done = machine.command("systemctl", "start", f"try-{name}", check=False)
    machine.command("journalctl", "--sync")  # what was printed is on its way to the journal
    show = ("journalctl", "--no-pager", "--output=cat", f"--unit=try-{name}")
    printed = machine.command(*show).stdout
    assert (done.returncode != 0) == fails, printed
    return printed


def source_of_root(machine: Booted) -> str:
    """What is mounted as the root; a part of it in brackets where it is not the whole."""
    return machine.command("findmnt", "--noheadings", "--output=SOURCE", "/run/runc").stdout.strip()


def test_runc_in_a_unit_with_private_tmp_is_held_where_the_root_is_a_file_system() -> None:
    with Booted(mount=True) as machine:
        assert source_of_root(machine) == "tmpfs"
        assert machine.command("stat", "--format=%a", "/run/runc").stdout == "711\n"
        machine.command("systemctl", "start", "watcher")
        assert eventually(lambda: "file system" in machine.journal())
        assert "by its file system" in machine.command("watcher", "check").stdout

        machine.bundle("first", ("sh", "-c", "readlink /proc/self/ns/mnt; ip -4 addr show eth0"))
        for _ in range(5):
            assert "inet 172.19." in in_private_tmp(machine, "first")
        machine.bundle("bad", annotations={"io.watcher.netwrok": "x"})
        in_private_tmp(machine, "bad", fails=True)
        assert eventually(lambda: "io.watcher.netwrok" in machine.journal())
        assert "inet 172.19." in machine.run("here", ("ip", "-4", "addr", "show", "eth0"))
        machine.command("systemctl", "restart", "watcher")
        assert "inet 172.19." in in_private_tmp(machine, "first")
        assert EVADED not in machine.journal()
        machine.command("systemctl", "stop", "watcher")
        assert source_of_root(machine) == "tmpfs"


def test_a_container_that_was_not_held_is_logged_once_with_the_remedy() -> None:
    with Booted() as machine:
        machine.command("systemctl", "start", "watcher")
        assert "by its mount" in machine.command("watcher", "check").stdout
        machine.run("old")
        machine.bundle("unheld")
        in_private_tmp(machine, "unheld", detach=True)
        assert eventually(lambda: machine.ls()["unheld"]["status"] == "attached")
        assert eventually(lambda: machine.journal().count(EVADED) == 1)
        assert "mount-namespaces.md" in machine.journal()
        for _ in range(2):  # neither by looking again, nor by a service that was not there then
            machine.command("systemctl", "restart", "watcher")
            machine.run(f"next{_}")
        assert machine.journal().count(EVADED) == 1
        machine.command("runc", "kill", "unheld", "KILL")


def test_the_mount_of_the_root_is_never_made_over_what_is_there() -> None:
    with Booted() as machine:
        machine.run("there")
        machine.command("systemctl", "start", "run-runc.mount")
        state = machine.command("systemctl", "is-active", "run-runc.mount", check=False).stdout
        assert state == "inactive\n"
        assert "there" in machine.command("runc", "list").stdout


def test_neither_a_start_nor_a_restart_of_the_service_makes_the_mount() -> None:
    with Booted() as machine:
        machine.command("systemctl", "start", "watcher")
        assert source_of_root(machine) == "tmpfs[/runc]"
        machine.command("systemctl", "restart", "watcher")
        assert source_of_root(machine) == "tmpfs[/runc]"


# --- the configuration file ----------------------------------------------------------------------


def test_configuration_file_has_the_defaults() -> None:
    assert load.load(CONFIG) == Config()


def test_what_the_configuration_file_has_as_comments_are_the_defaults(tmp_path: Path) -> None:
    text, keys = re.subn(r"(?m)^#(?=[a-z_]+ = |\[)", "", CONFIG.read_text())
    spoken_out = tmp_path / "watcher.toml"
    spoken_out.write_text(text)
    structs = (Root, Limits, Gate, Network, Firewall, Events, Names, Cluster)
    directories, names = 3, 1
    defaults = [field.default for struct in structs for field in fields(struct)]
    assert keys == directories + sum(default is not None for default in defaults) - names
    assert load.load(spoken_out) == Config()


# --- make install --------------------------------------------------------------------------------


class Installation:
    """`make install` and `make uninstall` with a DESTDIR, of a copy of the sources."""

    def __init__(self, base: Path) -> None:
        self.destination = base / "destination"
        self.sources = base / "sources"
        self.sources.mkdir()
        for name in SOURCES:
            path = REPOSITORY / name
            if path.is_dir():
                no_bytecode = shutil.ignore_patterns("__pycache__")
                shutil.copytree(path, self.sources / name, ignore=no_bytecode)
            else:
                shutil.copy(path, self.sources)
        self.before = self._files(self.sources)

    @staticmethod
    def _files(directory: Path) -> set[Path]:
        return {path.relative_to(directory) for path in directory.rglob("*")
                if not path.is_dir() or path.is_symlink()}  # fmt: skip

    def make(self, target: str, prefix: str = "/usr/local") -> str:
        done = subprocess.run(
            ["make", "--no-print-directory", target, f"DESTDIR={self.destination}",
             f"PREFIX={prefix}"],
            cwd=self.sources, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        assert self._files(self.sources) == self.before
        return done.stdout

    def files(self) -> set[str]:
        return {f"/{path}" for path in self._files(self.destination)}

    def at(self, path: str) -> Path:
        return self.destination / path.lstrip("/")


def test_what_is_installed_is_found_runs_and_is_uninstalled(
    tmp_path: Path,
) -> None:
    installation = Installation(tmp_path)
    installation.make("install", prefix="/usr")
    files = installation.files()

    assert {name for name in files if not name.startswith("/usr/lib/watcher/")} == {
        "/usr/sbin/watcher",
        "/usr/lib/systemd/system/watcher.service",
        "/usr/lib/systemd/system/watcher-names.service",
        "/usr/lib/systemd/system/watcher-cluster.service",
        "/usr/lib/systemd/system/watcher-metrics.service",
        "/usr/lib/systemd/system/run-runc.mount",
        "/usr/lib/sysusers.d/watcher.conf",
        "/etc/watcher/watcher.toml",
    }
    assert installation.at("/usr/sbin/watcher").readlink() == Path("/usr/lib/watcher/bin/watcher")
    unit = installation.at("/usr/lib/systemd/system/watcher.service")
    assert "\nExecStart=/usr/sbin/watcher run\n" in unit.read_text()
    metrics = installation.at("/usr/lib/systemd/system/watcher-metrics.service").read_text()
    assert "\nExecStart=/usr/sbin/watcher metrics --listen 127.0.0.1:9973\n" in metrics
    assert "/usr/local/sbin" not in metrics
    names = installation.at("/usr/lib/systemd/system/watcher-names.service").read_text()
    assert "\nExecStart=/usr/sbin/watcher names\n" in names
    cluster = installation.at("/usr/lib/systemd/system/watcher-cluster.service").read_text()
    assert "\nExecStart=/usr/sbin/watcher cluster\n" in cluster
    assert installation.at("/etc/watcher/watcher.toml").read_text() == CONFIG.read_text()

    for name in files:
        path = installation.at(name)
        content = bytes(path.readlink()) if path.is_symlink() else path.read_bytes()
        assert bytes(installation.destination) not in content, name
        assert bytes(installation.sources) not in content, name
    assert any(name.endswith(".pyc") for name in files)

    # With /usr overlaid by it, which is where a package would put it.
    overlay = 'mount -t overlay -o "lowerdir=$1/usr:/usr" usr /usr && cd / && exec watcher --help'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", overlay, "sh", installation.destination],
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "network" in done.stdout

    installation.make("uninstall", prefix="/usr")
    assert not installation.files()


def test_configuration_that_was_edited_is_neither_overwritten_nor_uninstalled(
    tmp_path: Path,
) -> None:
    installation = Installation(tmp_path)
    config = installation.at("/etc/watcher/watcher.toml")
    config.parent.mkdir(parents=True)
    config.write_text("# mine\n")
    assert "watcher.toml.new" in installation.make("install")
    assert config.read_text() == "# mine\n"
    assert config.with_name("watcher.toml.new").read_text() == CONFIG.read_text()
    assert str(config) in installation.make("uninstall")
    assert installation.files() == {"/etc/watcher/watcher.toml"}
