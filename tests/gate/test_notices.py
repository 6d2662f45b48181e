"""Why a start is refused or let go late, on the standard error of that very runc."""

from __future__ import annotations

import fcntl
import math
import os
import pty
import signal
import socket
import subprocess
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import pytest

from handlers.kernel import processes
from tests.support.hangs import Freezable
from tests.support.held import is_held
from tests.support.host import Host, HostMaker, Service
from tests.support.processes import children, end
from tests.support.waiting import PATIENCE, eventually
from watcher.containers.runtimes import RUNC
from watcher.gate.hold import Hold
from watcher.gate.notices import Notices
from watcher.model.container import Process

WHY = 'watcher: container "bad": io.watcher.network = "nowhere": there is no such network; name '
NOWHERE = {"io.watcher.network": "nowhere"}


def gated(make_host: HostMaker, gate: str = "") -> tuple[Host, Service]:
    host: Host = make_host(f'[gate]\nmode = "required"\n{gate}')
    return host, host.service()


def start(host: Host, name: str, stderr: int) -> subprocess.Popen[str]:
    """`runc run` of a bundle that is there, with that standard error."""
    words = ["runc", "--root", str(host.root), "run", "--detach", name]
    process = host.popen(
        words, directory=host.bundles / name, stdout=subprocess.DEVNULL, stderr=stderr
    )
    host.on_close(lambda: end(process))
    return process


@contextmanager
def opened(host: Host, kind: str) -> Iterator[tuple[int, int]]:
    """A standard error of that kind, and a descriptor that reads what is written to it."""
    file = host.base / "said"
    if kind == "terminal":
        read, write = pty.openpty()
    elif kind == "pipe":
        read, write = os.pipe()
    elif kind == "socket":
        read, write = (one.detach() for one in socket.socketpair())
    else:
        file.write_text("before\n" * 3)
        more = os.O_APPEND if kind == "appended file" else 0
        write = os.open(host.seen(file), os.O_RDWR | more)
        os.lseek(write, len("before\n"), os.SEEK_SET)
        read = os.open(file, os.O_RDONLY)
    try:
        yield read, write
    finally:
        os.close(read)


def everything(descriptor: int) -> str:
    """What can be read until the last who could write has closed it."""
    found = b""
    try:
        while more := os.read(descriptor, 4096):
            found += more
    except OSError:  # a terminal's end (EIO, tty_ioctl(4))
        pass
    return found.decode()


@pytest.mark.parametrize("kind", ["terminal", "pipe", "socket", "file", "appended file"])
def test_a_refusal_says_why_before_runc_does(make_host: HostMaker, kind: str) -> None:
    host, _ = gated(make_host)
    host.bundle("bad", ["true"], annotations=NOWHERE)
    with opened(host, kind) as (read, write):
        process = start(host, "bad", write)
        os.close(write)
        assert process.wait(PATIENCE) == 1
        lines = everything(read).splitlines()
    if kind == "file":
        assert lines.pop(0) == "before"
    if kind == "appended file":
        assert [lines.pop(0) for _ in range(3)] == ["before"] * 3
    assert lines[0].startswith(WHY), lines
    assert "unable to store init state" in lines[1], lines


def test_what_a_bundle_says_cannot_steer_a_terminal(make_host: HostMaker) -> None:
    host, _ = gated(make_host)
    host.bundle("bad", ["true"], annotations={"io.watcher.network": "a\x1b]0;x\x07\n\u202eb"})
    done = host.launch("run", "bad", check=False)
    assert r"\x1b]0;x\x07\n\u202eb" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("verdict", ["allow", "deny"])
def test_a_hold_that_ends_late_says_so(make_host: HostMaker, verdict: str) -> None:
    host, _ = gated(make_host, f'timeout = 0.3\non_timeout = "{verdict}"\n')
    host.bundle("web")
    with host.unwritable():
        done = host.launch("run", "web", "--detach", check=False)
    fate = "it starts before its network" if verdict == "allow" else "its start is denied"
    assert (done.returncode == 0) == (verdict == "allow")
    why = f"its network was not ready within 0.3 s, so {fate}"
    assert done.stderr.startswith(f'watcher: container "web": {why}; ')


def test_who_is_let_in_hears_nothing(make_host: HostMaker) -> None:
    host, _ = gated(make_host, 'on_invalid = "allow"\n')
    host.bundle("web")
    assert host.launch("run", "web", "--detach").stderr == ""
    host.bundle("bad", annotations=NOWHERE)
    assert host.launch("run", "bad", "--detach").stderr == ""


# --- a standard error that is not to be trusted --------------------------------------------------


def full_pipe() -> tuple[int, int]:
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, 4096)
    os.write(write, bytes(4096))
    return read, write


def stopped_terminal() -> tuple[int, int]:
    read, write = pty.openpty()
    termios.tcflow(write, termios.TCOOFF)
    return read, write


@pytest.mark.parametrize("make", [full_pipe, stopped_terminal])
def test_who_does_not_read_delays_nobody(
    make_host: HostMaker, make: Callable[[], tuple[int, int]]
) -> None:
    """There are more of them than threads for notices."""
    host, service = gated(make_host)
    ends: list[int] = []
    for number in range(8):
        name = f"bad{number}"
        host.bundle(name, ["true"], annotations=NOWHERE)
        ends += make()
        start(host, name, ends[-1])
        service.logged("refused", name)
        eventually(partial(gone, host.root / name))
    host.bundle("bad", ["true"], annotations=NOWHERE)
    assert host.launch("run", "bad", check=False).stderr.startswith(WHY)
    for one in ends:
        os.close(one)


def gone(path: Path) -> bool:
    return not path.exists()


@pytest.mark.parametrize("kind", ["an order to the kernel", "a datagram", "a plain file"])
def test_only_what_is_an_output_gets_the_line(tmp_path: Path, kind: str) -> None:
    """The name of a thread stands for all of `/proc`, a datagram for a message to netlink."""
    own = Path(f"/proc/self/task/{threading.get_native_id()}/comm")
    name = own.read_text()
    near, far = socket.socketpair(type=socket.SOCK_DGRAM)
    errors = tmp_path / "errors"
    with near, far, errors.open("w") as plain, own.open("w") as order:
        ends: dict[str, IO[str] | socket.socket]
        ends = {"an order to the kernel": order, "a datagram": near, "a plain file": plain}
        with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], stderr=ends[kind].fileno()) as runc:
            (init,) = eventually(partial(children, runc.pid))
            started = processes.start_time(init) or 0
            hold = Hold(
                "", "", RUNC, runc.pid, Process(init, started), 0.0, math.inf, lambda *_: True
            )
            done = threading.Event()
            assert Notices([]).send(hold, "why", done.set)
            assert done.wait(PATIENCE)
            os.kill(init, signal.SIGKILL)
        assert own.read_text() == name
        with pytest.raises(BlockingIOError):
            far.recv(100, socket.MSG_DONTWAIT)
        assert errors.read_text() == ("watcher: why\n" if kind == "a plain file" else "")


def test_a_frozen_file_holds_up_nobody_even_after_a_kill(make_host: HostMaker) -> None:
    host, service = gated(make_host)
    frozen = Freezable(host, host.base / "frozen")
    with host.seen(host.base / "frozen/log").open("a") as file:
        frozen.freeze()
        for number in range(6):
            host.bundle(f"bad{number}", ["true"], annotations=NOWHERE)
            start(host, f"bad{number}", file.fileno())
            service.logged("refused", f"bad{number}")
            eventually(partial(let_go, host, f"bad{number}"))
        host.run("web")
        service.signal(signal.SIGKILL)
        host.command("runc", "--root", str(host.root), "list", timeout=PATIENCE)
    frozen.thaw()
    service.wait()


def let_go(host: Host, name: str) -> bool:
    return not is_held(host, name)
