"""The namespace of a sandbox is opened once for all that is made in it, and not kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from handlers.kernel.namespace import NamespaceGone, Namespaces
from watcher.model.container import Process
from watcher.model.sandbox import Member, Sandbox

OWN = Path("/proc/self/ns/net")


def sandbox(pid: int) -> Sandbox:
    """A sandbox in the namespace of this process, with that process as its only one."""
    init = Process(pid, 0)
    return Sandbox(1, "web", init, OWN.stat().st_ino, (), (Member("", "web", init),), ())


def test_it_is_opened_once_and_closed_at_the_end() -> None:
    with Namespaces() as namespaces:
        web = sandbox(os.getpid())
        descriptor = namespaces.of(web)
        assert os.path.samestat(os.fstat(descriptor), OWN.stat())
        assert namespaces.of(web) == descriptor
        namespaces.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)
        assert os.path.samestat(os.fstat(namespaces.of(web)), OWN.stat())


def test_that_of_one_sandbox_does_not_stand_for_another() -> None:
    with Namespaces() as namespaces:
        descriptor = namespaces.of(sandbox(os.getpid()))
        ended = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(ended, 0)
        with pytest.raises(NamespaceGone):
            namespaces.of(sandbox(ended))
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


def test_whoever_judges_a_container_and_whoever_makes_its_links_have_the_same_one() -> None:
    with Namespaces() as namespaces:
        judged = namespaces.by_pid((os.getpid(),), OWN.stat().st_ino)
        os.set_inheritable(judged, True)  # one that is opened anew is not
        assert os.get_inheritable(namespaces.of(sandbox(os.getpid())))
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(judged)
