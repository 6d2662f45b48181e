"""Which init a held crun has made, if an ancestor of it has inherited that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import REPOSITORY

SCRIPT = """
import ctypes, os, sys
from contextlib import suppress
from watcher.containers import proc
from watcher.gate import inits

PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
ended, end = os.pipe()
told, tell = os.pipe()
made, make = os.pipe()


def forked(what):
    pid = os.fork()
    if pid == 0:
        with suppress(OSError):  # its parent may have closed it
            os.close(end)
        what()
        os.read(ended, 1)
        os._exit(0)
    return pid


def is_init():
    os.open("exec.fifo", os.O_PATH)
    os.unshare(os.CLONE_NEWNET)
    os.write(tell, b"%d" % os.getpid())


def makes_init():
    os.open("exec.fifo", os.O_PATH)
    if sys.argv[2] == "with":
        middle = os.fork()
        if middle == 0:
            forked(is_init)
            os._exit(0)
        os.waitpid(middle, 0)  # then an ancestor has inherited the init
    else:
        os.write(tell, b"0")
    os.write(make, b".")


for _ in range(int(sys.argv[1])):
    forked(lambda: None)
runtime = forked(makes_init)
init = int(os.read(told, 99))
os.read(made, 1)
opens = 0


def count(event, _):
    global opens
    opens += event == "open"


sys.addaudithook(count)
found = inits.inherited_from(runtime, os.path.basename(os.getcwd()), proc.own_netns())
assert (found.pid if found else 0) == init
print(opens)
"""
"""Counts the files that are opened to find the init of a runtime beside many other children."""


@pytest.mark.parametrize("init", ["with", "without"])
def test_it_costs_the_same_however_many_children_an_ancestor_has(tmp_path: Path, init: str) -> None:
    """The first process has one for each container, and a container of the host has no init."""
    directory = tmp_path / "web"
    directory.mkdir()
    subprocess.run(["mkfifo", directory / "exec.fifo"], check=True)

    def opens(children: int) -> int:
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", SCRIPT]
        done = subprocess.run(
            [*command, str(children), init], cwd=directory, env={"PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE, check=True, timeout=60,
        )  # fmt: skip
        return int(done.stdout)

    assert opens(1200) == opens(400)
