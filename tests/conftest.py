"""Hosts for tests, and the proof that they leave nothing behind."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import mkdtemp

import bundles
import pytest
from host import CGROUPS, Host, eventually
from hypothesis import HealthCheck, settings

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

_hosts = pytest.StashKey[list[Host]]()

type HostMaker = Callable[..., Host]


def _of_this_machine() -> list[str]:
    """What hosts of this process could have left on the machine."""
    mine = f"watcher-test-{os.getpid()}-"
    links = [path.name for path in Path("/sys/class/net").iterdir()]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    processes = [
        (path.parent.name, path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        for path in _command_lines()
    ]
    ruleset = subprocess.run(
        ["nft", "list", "tables"], capture_output=True, text=True, check=True
    ).stdout
    return [
        *(f"link {name}" for name in links if name == "netns0" or name.startswith("netnsv")),
        *(f"mount {line}" for line in mounts if mine in line),
        *(f"process {pid} {line}" for pid, line in processes if mine in line),
        *(f"nftables {line}" for line in ruleset.splitlines() if line.endswith(" watcher")),
        *(f"cgroup {path}" for path in (*CGROUPS.glob(f"{mine}*"), *CGROUPS.glob(f"*/{mine}*"))),
        *(f"directory {path}" for path in Path("/tmp").glob(f"{mine}*")),
        *(
            f"{path}"
            for directory in ("/run/runc", "/run/netns", "/run/watcher", "/var/lib/watcher")
            for path in (Path(directory), *Path(directory).glob("*"))
            if path.exists()
        ),
    ]


def _command_lines() -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            path.read_bytes()
        except OSError:
            continue
        yield path


@pytest.fixture(scope="session", autouse=True)
def _clean_machine() -> Iterator[None]:
    """Fails if the tests of this process have left anything on the machine."""
    before = set(_of_this_machine())
    yield

    def nothing_left() -> bool:
        left = set(_of_this_machine()) - before
        assert not left, left
        return True

    eventually(nothing_left)


@pytest.fixture(scope="session")
def rootfs() -> Iterator[Path]:
    """The busybox root file system of all containers."""
    directory = Path(mkdtemp(prefix=f"watcher-rootfs-{os.getpid()}-"))
    directory.chmod(0o755)
    yield bundles.make_rootfs(directory)
    shutil.rmtree(directory)


@pytest.fixture
def make_host(request: pytest.FixtureRequest, rootfs: Path) -> Iterator[HostMaker]:
    """Makes hosts, with more TOML for `watcher.toml` if any; see :class:`host.Host`."""
    hosts: list[Host] = []
    request.node.stash[_hosts] = hosts

    def make(config: str = "") -> Host:
        host = Host(rootfs, config)
        hosts.append(host)
        return host

    yield make
    for host in hosts:
        host.close()


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    """A host with the default configuration; nothing of the watcher runs on it."""
    return make_host()


@pytest.fixture(params=["service", "sync"])
def kept(request: pytest.FixtureRequest, host: Host) -> Host:
    """A host, once with `watcher run` and once where only `watcher sync` is run."""
    if request.param == "service":
        host.service()
    return host


@pytest.fixture
def served(host: Host) -> Host:
    """A host with `watcher run`."""
    host.service()
    return host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Shows what the services of a failed test logged."""
    report: pytest.TestReport = yield  # type: ignore[assignment]
    if call.when == "call" and report.failed:
        for host in item.stash.get(_hosts, []):
            report.sections.append(("watcher's log", host.logs()))
    return report  # type: ignore[return-value]
