"""Commands whose standard output is closed, full, or a pipe that nobody reads."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host, HostMaker


def shell(host: Host, *args: str, to: str) -> str:
    """Exit status and standard error of a command with another standard output."""
    line = f"{shlex.join(host.watcher_command(*args))} {to}"
    done = host.command("sh", "-c", line, check=False, env=host.watcher_env)
    return f"{done.returncode} {done.stderr}"


def test_a_closed_one_is_no_error(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nnames = false\n")  # else `ls` misses the name service
    host.attach("web")
    assert shell(host, "publish", "web", "80", to=">&-") == "0 "
    assert host.ls()["web"]["ports"]
    for to in ("<&- >&-", "<&- >&- 2>&-"):
        assert shell(host, "ls", to=to) == "0 "
        assert shell(host, "sync", to=to) == "0 "
        assert shell(host, "publish", "nobody", "80", to=f"{to} 2>&-") == "1 "
    assert host.watcher("sync").stdout == "nothing to do\n"


def test_a_full_one_is_not_the_containers_fault(make_host: HostMaker) -> None:
    host = make_host()
    host.attach("web")
    said = shell(host, "publish", "web", "8080:80", to="> /dev/full")
    assert said.startswith("1 watcher: No space left on device")
    assert host.ls()["web"]["ports"] == ["8080:80/tcp"]
    assert "web" not in shell(host, "unpublish", "web", "8080:80", to="> /dev/full")
    assert host.ls()["web"]["ports"] == []


def test_nobody_waits_for_who_does_not_read(make_host: HostMaker) -> None:
    host = make_host()
    host.attach("web")
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    maps = [f"{port}:80" for port in range(8000, 8100)]
    command = host.watcher_command("publish", "web", *maps)
    stuck = host.popen(command, stdout=write, stderr=write, env=host.watcher_env)
    os.close(write)
    eventually(lambda: len(host.ls()["web"]["ports"]) == 100)
    host.watcher("publish", "web", "9000:80", timeout=20)
    assert stuck.poll() is None
    os.close(read)
    assert stuck.wait(20) == 1


def test_control_characters_do_not_reach_the_terminal(make_host: HostMaker) -> None:
    host = make_host()
    host.attach("web")
    done = host.watcher("connect", "web", "x\x1b]0;y\x07\n\x9b", check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip("\n").isprintable()
    assert r"[network.x\x1b]0;y\x07" in done.stderr
