"""The service, runc or the init is killed at random moments of a move."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Final

import pytest

from tests.support.held import is_held
from tests.support.host import Host, Service
from tests.support.processes import children
from tests.support.waiting import eventually

pytestmark = pytest.mark.accident

SEES: Final = "ls -l /proc/self/ns/net; ls /sys/class/net; sleep 1000000"
"""Which namespace its program is in, by itself and by what is mounted."""


def victims(service: Service, process: Popen[str]) -> dict[str, int]:
    """Their pids while a runc is held; some may have gone by then."""
    found = {"service": service.pid}
    with suppress(LookupError, OSError):
        found["runc"] = children(process.pid)[0]
        found["init"] = children_of_threads(found["runc"])[0]
    return found


def children_of_threads(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(word) for task in tasks for word in (task / "children").read_text().split()]


def is_held_or_done(host: Host, process: Popen[str]) -> bool:
    return is_held(host, "side") or process.poll() is not None


def waits(pid: int) -> bool:
    """Whether process `pid` is an init of runc that has not come to its program."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"\0init\0")
    return False


def is_settled(host: Host, init: int) -> bool:
    """Whether an `init` waits no more; or for `runc start`, as its runc was killed late."""
    return not waits(init) or '"created"' in host.runc("state", "side", check=False).stdout


def has_said_all(host: Host) -> bool:
    return host.output("side").endswith("lo\n")


def has_said_all_or_ended(host: Host, killed: int) -> bool:
    return has_said_all(host) or (killed != 0 and not Path(f"/proc/{killed}").exists())


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("which", ["service", "runc", "init", "service by SIGTERM"])
def test_nobody_starts_half_moved(host: Host, which: str, kills: int) -> None:
    service = host.service()
    web = host.attach("web")
    whole = web.place.inode
    chance = random.Random(which)
    for _ in range(kills // 2):
        host.bundle("side", ["sh", "-c", SEES], annotations={"io.watcher.share": "web"})
        process = host.launching("run", "side", "--detach")
        eventually(partial(is_held_or_done, host, process))
        time.sleep(chance.uniform(0, 0.006))
        pids = victims(service, process)
        with suppress(LookupError, OSError):  # it may be done by now
            number = signal.SIGTERM if "SIGTERM" in which else signal.SIGKILL
            os.kill(pids[which.partition(" ")[0]], number)
        host.launched(process, "side", check=False)
        if "service" in which:
            service.wait()
            service.start()
        init = pids.get("init", 0)
        eventually(partial(is_settled, host, init))
        if waits(init):
            host.start("side")
            eventually(lambda: bool(host.output("side")))
        if host.output("side"):
            eventually(partial(has_said_all_or_ended, host, init if which == "init" else 0))
        if has_said_all(host):  # else it was killed as it began to
            seen = host.output("side")
            has_shared = f"net:[{whole}]" in seen
            assert has_shared == ("eth0" in seen)
            assert has_shared or "service" in which
        host.runc("delete", "--force", "side", check=False)
        shutil.rmtree(host.root / "side", ignore_errors=True)  # of a runc that was killed
        eventually(lambda: {id_ for id_, row in host.ls().items() if row["pid"]} == {"web"})
        eventually(lambda: host.pins() == {"web"})
    host.forgotten("side")
    assert host.watcher("sync").stdout == "nothing to do\n"
    host.run("side", annotations={"io.watcher.share": "web"})
    assert host.attached("side", "shared").place.inode == whole
