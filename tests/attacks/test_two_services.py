"""One service a network namespace: another, configured otherwise, notices and does nothing."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.host import Host, Service
from tests.support.tampering import NOTHING
from tests.support.waiting import eventually
from watcher.locks.names import SERVICE, WRITERS

CHANGING: Final = (
    ("run",),
    ("sync",),
    ("sync", "--dry-run"),
    ("down",),
    ("network", "rm", "default"),
)


def other_configuration(host: Host) -> tuple[str, ...]:
    """The options of a `watcher` that shares the roots and nothing else with that of `host`."""
    text = host.config.read_text()
    for name, path in (("state_dir", host.state_dir), ("run_dir", host.run_dir)):
        text = text.replace(f'{name} = "{path}"', f'{name} = "{path}-other"')
    file = host.base / "other.toml"
    file.write_text(text)
    return ("--config", str(file))


def lock_files(host: Host) -> list[Path]:
    return list(host.seen(Path("/run")).glob("watcher-*"))


@pytest.mark.parametrize("command", CHANGING, ids=" ".join)
def test_another_configuration_changes_nothing_of_a_served_host(
    host: Host, command: tuple[str, ...]
) -> None:
    service = host.service()
    web = host.attach("web")
    before = web.place.picture(), host.here.links(), host.leases()
    done = host.watcher(*other_configuration(host), *command, check=False)
    assert done.returncode == 1, done
    (line,) = done.stderr.splitlines()
    inside = next(
        line.split()[-1]
        for line in Path(f"/proc/{service.pid}/status").read_text().splitlines()
        if line.startswith("NSpid:")
    )
    assert f"process {inside} " in line
    assert str(host.run_dir) in line
    assert (web.place.picture(), host.here.links(), host.leases()) == before
    assert not Path(f"{host.run_dir}-other").exists()
    assert host.watcher("sync").stdout == NOTHING


def test_check_tells_of_it(host: Host) -> None:
    service = host.service()
    other = other_configuration(host)
    assert "service:" not in host.watcher("check", check=False).stdout
    told = host.watcher(*other, "check", check=False)
    assert told.returncode == 1
    assert "fail  service: process" in told.stdout
    service.kill9()
    assert "service:" not in host.watcher(*other, "check", check=False).stdout


def test_a_killed_service_leaves_the_host_to_any_other(host: Host) -> None:
    host.service().kill9()
    other = Service(host, other_configuration(host))
    host.on_close(other.end)
    other.start()
    assert other.running


def test_a_service_in_another_network_namespace_is_its_own(host: Host) -> None:
    """Though both share `/run`."""
    host.service()
    elsewhere = host.machine("elsewhere", "198.51.100.0/24")
    options = other_configuration(host)
    file = Path(options[1])
    file.write_text(file.read_text().replace(str(host.root), f"{host.root}-other"))
    command = host.watcher_command(*options, "sync")
    assert host.command(*command, netns=elsewhere, env=host.watcher_env).stdout == NOTHING


def test_the_lock_is_roots_alone_and_down_removes_it(host: Host) -> None:
    service = host.service()
    (file,) = lock_files(host)
    assert file.name == f"watcher-{host.here.inode}.lock"
    assert file.stat().st_mode & 0o077 == 0
    service.stop()
    host.watcher("down")
    assert lock_files(host) == []
    assert not host.run_dir.exists()


def test_a_service_that_waits_for_down_has_locks_of_its_own(host: Host) -> None:
    """It has opened the files that `down` then removes, and takes them a moment later."""
    host.watcher("sync")
    service = Service(host)
    host.on_close(service.end)
    with host.unwritable():
        service.start(ready=False)
        eventually(lambda: has_opened(service, host.run_dir / WRITERS))
        for name in (SERVICE, WRITERS):
            (host.run_dir / name).unlink()
        host.run_dir.rmdir()
    service.notified("READY=1")
    second = host.watcher("run", check=False, timeout=20)
    assert second.returncode == 1
    assert "already" in second.stderr
    host.attach("web")
    assert host.watcher("sync").stdout == NOTHING


def test_down_and_a_start_at_once(host: Host) -> None:
    """Whoever is first: a service that runs afterwards is the only one, with its locks."""
    for _ in range(5):
        service = Service(host)
        host.on_close(service.end)
        down = threading.Thread(target=lambda: host.watcher("down", check=False))
        down.start()
        service.start(ready=False)
        down.join()
        eventually(partial(is_ready_or_ended, service))
        if service.running:
            second = host.watcher("run", check=False, timeout=20)
            assert "already" in second.stderr
            service.stop()
        assert "Traceback" not in service.log_text()


def is_ready_or_ended(service: Service) -> bool:
    """Whether a service has come to one of the two."""
    return not service.running or '"ready"' in service.log_text()


def has_opened(service: Service, path: Path) -> bool:
    """Whether a service has that file open."""
    files = Path(f"/proc/{service.pid}/fd").iterdir()
    return any(str(file.readlink()) == str(path) for file in files)
