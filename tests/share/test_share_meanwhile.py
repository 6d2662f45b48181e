"""What happens while an init is being stopped for its move: here it is frozen for that long."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from tests.share.test_share_refused import STARTED, reload, traced
from tests.support.held import is_held
from tests.support.host import Host, HostMaker, Service
from tests.support.host.cgroups import CGROUPS
from tests.support.waiting import PATIENCE, eventually

if TYPE_CHECKING:
    from subprocess import Popen

IN_WEB: Final[dict[str, Any]] = {"annotations": {"io.watcher.share": "web"}}


@contextmanager
def in_the_middle(host: Host, service: Service, *options: str) -> Iterator[Popen[str]]:
    """The runc of `side`, whose move has begun, and does not go on before the end of the `with`."""
    service.signal(signal.SIGSTOP)
    process = host.launching("run", "side", *options)
    eventually(lambda: is_held(host, "side"))
    freezer = CGROUPS / "freezer" / host.cgroup / "side" / "freezer.state"
    freezer.write_text("FROZEN")
    service.signal(signal.SIGCONT)
    eventually(lambda: traced(service), what="a traced init")
    try:
        yield process
    finally:
        freezer.write_text("THAWED")


def refused(host: Host, process: Popen[str]) -> str:
    """What the runc of `side` says that may not start, and has left nothing."""
    done = host.launched(process, "side", check=False, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, "")
    assert "side" not in host.pins()
    assert host.watcher("sync").stdout == "nothing to do\n"
    return done.stderr


def test_the_shared_one_ends(host: Host) -> None:
    service = host.service()
    host.attach("web")
    host.bundle("side", STARTED, **IN_WEB)
    with in_the_middle(host, service) as process:
        host.delete("web")
        eventually(lambda: "web" not in host.ls())
    assert 'container "side"' in refused(host, process)
    host.empty()


def test_another_one_takes_its_place(host: Host) -> None:
    """The init must not come into the namespace that was given up, nor into a third one."""
    service = host.service()
    host.attach("web")
    host.bundle("side", **IN_WEB)
    with in_the_middle(host, service, "--detach") as process:
        host.delete("web")
        host.launch("run", "web", "--detach")
        web = host.attached("web")
    done = host.launched(process, "side", check=False, timeout=PATIENCE)
    if done.returncode == 0:
        assert host.attached("side", "shared").place.inode == web.place.inode
    else:
        assert "side" not in host.pins()


def test_its_name_becomes_that_of_another_one_too(host: Host) -> None:
    service = host.service()
    www: dict[str, Any] = {"annotations": {"io.watcher.name": "www"}}
    host.attach("web", **www)
    host.bundle("side", STARTED, annotations={"io.watcher.share": "www"})
    with in_the_middle(host, service) as process:
        host.attach("other", **www)
    assert "several containers have that name" in refused(host, process)


def test_moving_is_turned_off(make_host: HostMaker) -> None:
    host = make_host("[gate]\nshare = true\n")
    service = host.service()
    web = host.attach("web")
    host.bundle("side", **IN_WEB)
    with in_the_middle(host, service, "--detach") as process:
        reload(host, service, "[gate]\nshare = false\n")
    host.launched(process, "side", timeout=PATIENCE)
    assert host.attached("side", "shared").place.inode == web.place.inode


def test_facts_are_told_while_a_move_hangs(host: Host) -> None:
    service = host.service()
    host.attach("web")
    host.bundle("side", STARTED, **IN_WEB)
    with in_the_middle(host, service) as process:
        host.attach("other")
        service.logged("attached", '"other"')
    assert host.launched(process, "side", timeout=PATIENCE).stdout == "started\n"
