"""Hosts for tests, and the proof that they leave nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings

from tests.support import bundles
from tests.support.host import Host, HostMaker
from tests.support.remains import remains
from tests.support.waiting import eventually

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")

# What a shell or nohup(1) runs in the background ignores these, and so would all that tests start.
for _number, _handler in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGQUIT, signal.SIG_DFL),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, _handler)

_hosts = pytest.StashKey[list[Host]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Lets a user ask for more than the tests do by themselves."""
    kills = "how many times each test in tests/share kills at random moments (default: %(default)s)"
    parser.addoption("--kills", type=int, default=8, help=kills)


@pytest.fixture(scope="session", autouse=True)
def _clean_machine() -> Iterator[None]:
    """Fails if the tests of this process have left anything on the machine."""
    before = set(remains())
    yield

    def nothing_left() -> bool:
        left = set(remains()) - before
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
def hosts(request: pytest.FixtureRequest) -> Iterator[list[Host]]:
    """The hosts of the test, which end with it."""
    made: list[Host] = []
    request.node.stash[_hosts] = made
    yield made
    for host in made:
        host.close()


@pytest.fixture
def make_host(rootfs: Path, hosts: list[Host]) -> HostMaker:
    """Makes hosts, with more TOML for `watcher.toml` if any; see :class:`Host`."""

    def make(config: str = "") -> Host:
        host = Host(rootfs, config)
        hosts.append(host)
        return host

    return make


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
