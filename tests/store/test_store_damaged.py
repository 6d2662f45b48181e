"""What can be wrong with the lease store's file: damage, locks, full disks, and who was killed."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import textwrap
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.leases import DEFAULT, HTTP, container, content, python
from watcher.model.errors import WatcherError
from watcher.model.request import Request
from watcher.store import schema
from watcher.store.leases import LeaseStore

pytestmark = pytest.mark.accident

MIB = 1024 * 1024


# What can be wrong with it


def randomly(path: Path) -> None:
    path.write_bytes(random.Random(7).randbytes(64 * 1024))


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def cut_short(path: Path) -> None:
    os.truncate(path, 1000)


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(random.Random(7).randbytes(32 * 1024))


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.execute("PRAGMA user_version = 1")
    db.close()


@pytest.mark.parametrize("damage", [randomly, cut, cut_short, overwritten, foreign])
@pytest.mark.parametrize("read_only", [False, True])
def test_a_damaged_file(path: Path, damage: Callable[[Path], None], read_only: bool) -> None:
    with LeaseStore.open(path) as store:
        for n in range(50):
            store.create_sandbox(container(f"c{n}", n), [DEFAULT], Request())
    damage(path)
    before = path.read_bytes()
    with pytest.raises(WatcherError) as caught:
        LeaseStore.open(path, read_only=read_only)
    assert str(path) in caught.value.what
    assert "run `watcher sync`" in caught.value.remedy
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before
    path.unlink()
    with LeaseStore.open(path) as store:
        assert store.sandboxes() == []


def test_a_file_damaged_while_it_is_open(store: LeaseStore, path: Path) -> None:
    for n in range(50):
        store.create_sandbox(container(f"c{n}", n), [DEFAULT], Request())
    store.checkpoint()
    store.close()
    with LeaseStore.open(path) as store:
        overwritten(path)
        with suppress(WatcherError):  # it looks at the file, but not at all of it
            store.checkpoint()
        store._database.db.execute("PRAGMA shrink_memory")
        with pytest.raises(WatcherError, match="is damaged"):
            store.sandboxes()


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_programs_file(path: Path, read_only: bool) -> None:
    LeaseStore.open(path).close()
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    with pytest.raises(WatcherError) as caught:
        LeaseStore.open(path, read_only=read_only)
    known = f"schema {schema.VERSION + 1}, and this program knows {schema.VERSION}"
    assert known in caught.value.what
    assert caught.value.remedy == "upgrade watcher"


def test_a_file_that_another_holds_for_too_long(store: LeaseStore, path: Path) -> None:
    made = store.create_sandbox(container("web"), [DEFAULT], Request())
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(WatcherError, match="is locked by another process"):
        store.release(made.key)
    holder.close()
    assert store.sandboxes() == [made]
    store.release(made.key)


def test_a_state_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(WatcherError, match="cannot be opened"):
        LeaseStore.open(tmp_path / "state" / "leases.db")


def test_a_store_that_is_a_directory(path: Path) -> None:
    path.mkdir(parents=True)
    for read_only in (False, True):
        with pytest.raises(WatcherError, match="cannot be opened"):
            LeaseStore.open(path, read_only=read_only)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system: run as root")


SETUP = """
    import sys, subprocess
    from pathlib import Path
    from watcher.model.network import Network
    from watcher.model.errors import WatcherError
    from watcher.store.leases import LeaseStore
    from watcher.model.container import Container, Namespace, Process
    from watcher.model.request import Request
    def container(n):
        return Container("/r", f"c{n}", Process(n, n), "", {}, Namespace.OWN, "", n)
    state = Path(sys.argv[1])
    path = state / "leases.db"
    def mount(*options):
        subprocess.run(["mount", *options, str(state)], check=True)
"""


def in_a_mount_namespace(script: str, directory: Path) -> None:
    script = textwrap.dedent(SETUP) + textwrap.dedent(script)
    child = python(script, directory, prefix=("unshare", "-m"))
    _, errors = child.communicate()
    assert (child.returncode, errors) == (0, "")


@needs_root
def test_a_full_disk(tmp_path: Path) -> None:
    in_a_mount_namespace(
        """
        mount("-t", "tmpfs", "-o", "size=512k", "tmpfs")
        with LeaseStore.open(path) as store:
            made = [store.create_sandbox(container(1), [Network()], Request())]
            with (state / "fill").open("wb", buffering=0) as fill:
                try:
                    while True:
                        fill.write(bytes(4096))
                except OSError:
                    pass
            try:
                for n in range(2, 100):
                    made.append(store.create_sandbox(container(n), [Network()], Request()))
            except WatcherError as error:
                assert "no space left" in error.what, error
                assert "free some space" in error.remedy, error
            else:
                raise AssertionError("it all fits")
            assert store.sandboxes() == made
            (state / "fill").unlink()
            made.append(store.create_sandbox(container(500), [Network()], Request()))
            assert store.sandboxes() == made
        with LeaseStore.open(path) as store:
            assert store.sandboxes() == made
        """,
        tmp_path,
    )


@needs_root
def test_a_disk_too_full_to_begin(tmp_path: Path) -> None:
    in_a_mount_namespace(
        """
        mount("-t", "tmpfs", "-o", "size=16k", "tmpfs")
        (state / "fill").write_bytes(bytes(12 * 1024))
        try:
            LeaseStore.open(path)
        except WatcherError as error:
            assert "space" in str(error), error
        else:
            raise AssertionError("it fits")
        (state / "fill").unlink()
        mount("-o", "remount,size=1m")
        LeaseStore.open(path).close()
        """,
        tmp_path,
    )


@needs_root
def test_a_read_only_disk(tmp_path: Path) -> None:
    in_a_mount_namespace(
        """
        mount("-t", "tmpfs", "tmpfs")
        with LeaseStore.open(path) as store:
            made = store.create_sandbox(container(1), [Network()], Request())
        mount("-o", "remount,ro")
        with LeaseStore.open(path, read_only=True) as store:
            assert store.sandboxes() == [made]
        for there in (path, state / "other" / "leases.db"):
            try:
                LeaseStore.open(there)
            except WatcherError as error:
                assert "make its file system writable" in error.remedy, error
            else:
                raise AssertionError("it opened")
        """,
        tmp_path,
    )


@needs_root
def test_a_user_who_may_not(path: Path) -> None:
    LeaseStore.open(path).close()
    path.parent.chmod(0o700)
    script = """
        import os, sys
        from pathlib import Path
        from watcher.model.errors import WatcherError
        from watcher.store.leases import LeaseStore
        os.setgroups([]), os.setgid(65534), os.setuid(65534)
        for read_only in (False, True):
            try:
                LeaseStore.open(Path(sys.argv[1]), read_only=read_only)
            except WatcherError as error:
                assert "run as root" in error.remedy, error
            else:
                raise AssertionError("it opened")
    """
    child = python(script, path)
    _, errors = child.communicate()
    assert (child.returncode, errors) == (0, "")


# Killed at any moment


KILLED = """
    import os, signal, sys
    from ipaddress import IPv4Network
    from pathlib import Path
    from watcher.model.network import Network
    from watcher.store.leases import LeaseStore
    from watcher.model.container import Container, Namespace, Process
    from watcher.model.request import PortMap, Request
    path, verb, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    def container(name, n):
        return Container("/run/runc", name, Process(n, n), "", {}, Namespace.OWN, "", n)
    store = LeaseStore.open(path)
    def count(statement):
        global left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    store._database.db.set_trace_callback(count)
    if verb == "found":
        asked = Request(ports=(PortMap("tcp", None, 5, 5),))
        store.create_sandbox(container("db", 2), [Network()], asked)
    elif verb == "join":
        store.join(container("side", 3), 1, Request(ports=(PortMap("tcp", None, 6, 6),)))
    else:
        store.release(1)
"""


@pytest.mark.parametrize("verb", ["found", "join", "release"])
def test_killed_between_any_two_statements(path: Path, verb: str) -> None:
    with LeaseStore.open(path) as store:
        before = [store.create_sandbox(container("web"), [DEFAULT], Request(ports=(HTTP,)))]
    for statement in range(1, 100):
        child = python(KILLED, path, verb, statement)
        child.communicate()
        if child.returncode == 0:
            break
        assert child.returncode == -signal.SIGKILL
        with LeaseStore.open(path) as store:
            assert store.sandboxes() == before
            (problem,) = store._database.db.execute("PRAGMA integrity_check").fetchone()
            assert problem == "ok"
            assert store._database.db.execute("PRAGMA foreign_key_check").fetchall() == []
    assert statement > 3
    assert content(path) != before


def test_reading_what_a_killed_program_left(path: Path) -> None:
    LeaseStore.open(path).close()
    script = """
        import os, signal, sys
        from pathlib import Path
        from watcher.store.leases import LeaseStore
        from watcher.model.container import Container, Namespace, Process
        from watcher.model.request import Request
        store = LeaseStore.open(Path(sys.argv[1]))
        made = Container("/r", "web", Process(1, 1), "", {}, Namespace.OWN, "", 1)
        store.create_sandbox(made, [], Request())
        os.kill(os.getpid(), signal.SIGKILL)
    """
    child = python(script, path)
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert [sandbox.id for sandbox in content(path)] == ["web"]
