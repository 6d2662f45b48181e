"""The lease store is removed, moved or replaced by hand while the service has it open.

Nobody's traffic is interrupted, nobody loses what he has, and nobody is given what is another's.
"""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from select import select
from subprocess import PIPE
from typing import Any, Final

import pytest

from tests.support.host import BEYOND, GATE_OFF, UPLINK, Host, HostMaker, Service
from tests.support.traffic import Answer
from tests.support.waiting import eventually
from watcher.events.inotify import CREATED, Inotify

pytestmark = pytest.mark.accident

ACCIDENTS: Final = {
    "all of it is removed": "rm -f {db}*",
    "the file is removed": "rm {db}",
    "its journal is removed": "rm {db}-wal",
    "its index is removed": "rm {db}-shm",
    "journal and index are removed": "rm -f {db}-wal {db}-shm",
    "the file is moved away": "mv {db} {db}.old",
    "all of it is moved away": "mv {db}* {base} || true",
    "its directory is removed": "rm -r {state} || true",
    "an older one is put in its place": "mv {older} {db}",
    "an older one is put in place of all": "rm -f {db}*; mv {older} {db}",
    "an empty file is put in its place": ">{base}/new && mv {base}/new {db}",
}
"""What is many files at once may find some gone, or made anew: the service is quick."""

LATER: Final = {
    "its directory is moved away": "mv {state} {base}/elsewhere",
    "it is damaged and moved away": (
        "dd if=/dev/urandom of={db} bs=4096 seek=1 count=20 conv=notrunc && mv {db} {base}"
    ),
}
"""Of the first nobody tells: it is seen at the next look. After the second, the past is lost."""


class Busy:
    """A host with a service, containers of several kinds, and a past.

    Attributes:
        host: the host.
        service: its service.
        before: what `watcher ls` says.
        says: asks the server of one of them, by a connection that was made before all else.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.service: Service = host.service()
        self._older = host.base / "older.db"
        host.attach("old")
        with closing(sqlite3.connect(self._store)) as database:
            database.execute("PRAGMA page_size = 4096")  # as version 0.1.0 made it
            database.execute("VACUUM INTO ?", (str(self._older),))
        with closing(sqlite3.connect(self._older)) as older:
            assert older.execute("PRAGMA page_size").fetchone() == (4096,)
        host.attach("web", ports="8080:80").serve(tcp=(80,))
        host.attach("founder")
        host.share("heir", "founder", ports="8081:81")
        host.delete("founder")
        host.attach("fixed", annotations={"io.watcher.ip": "172.19.7.7"})
        gone = host.container("old")
        self.past: str = gone.address
        host.delete("old")
        host.gone(gone)
        self.before: dict[str, dict[str, Any]] = host.ls()
        self.says: Callable[[str], str] = host.beyond.stream(UPLINK, 8080).say
        assert self.says("before") == "before"

    @property
    def _store(self) -> Path:
        return self.host.state_dir / "leases.db"

    def befalls(self, accident: str) -> None:
        """Do what an accident is."""
        names = {"base": self.host.base, "state": self.host.state_dir}
        command = accident.format(db=self._store, older=self._older, **names)
        self.host.command("sh", "-c", command)

    def is_as_before(self) -> bool:
        """Whether everybody has what he had, and whoever looks is told so."""
        assert self.host.ls() == self.before
        assert self.says("after") == "after"
        assert self.host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
        return True

    def told(self) -> list[str]:
        """What the log says of the store."""
        lines = [e for e in self.service.log() if "lease store" in str(e.get("what"))]
        return [entry["why"] for entry in lines]

    def ends(self) -> None:
        """Everybody goes, and nothing is left."""
        for name in self.host.ls():
            self.host.delete(name)
        self.host.empty()
        warnings = [entry for entry in self.service.warnings() if "no gate" not in entry["event"]]
        assert warnings == []


@pytest.fixture
def busy(make_host: HostMaker) -> Busy:
    """See the class. Without names `watcher ls` has nothing to say of a service for them."""
    return Busy(make_host("[network.default]\nnames = false\n"))


@pytest.mark.parametrize("accident", ACCIDENTS)
def test_the_service_notices_and_has_it_again(busy: Busy, accident: str) -> None:
    busy.befalls(ACCIDENTS[accident])
    busy.service.logged("repaired", "opened the lease store anew", str(busy.host.state_dir))
    eventually(busy.is_as_before)
    busy.host.attach("old")
    assert busy.host.container("old").address == busy.past, "it had that address before"
    assert busy.host.watcher("sync").stdout == "nothing to do\n"
    busy.ends()


@pytest.mark.parametrize("accident", ACCIDENTS | LATER)
def test_who_comes_at_that_moment_gets_what_is_nobodys(busy: Busy, accident: str) -> None:
    host = busy.host
    for name in ("n1", "n2", "n3"):
        host.bundle(name)
    busy.befalls((ACCIDENTS | LATER)[accident])
    for name in ("n1", "n2", "n3"):
        host.launch("run", name, "--detach")
    addresses = [host.attached(name).address for name in ("n1", "n2", "n3")]
    addresses += [address for row in busy.before.values() for address in row["address"]]
    assert len(set(addresses)) == len(addresses)
    assert busy.told()
    for name in ("n1", "n2", "n3"):
        host.delete(name)
    eventually(busy.is_as_before)
    busy.ends()


@pytest.mark.parametrize("accident", ["all of it is removed", "the file is moved away"])
def test_a_sync_in_between_does_no_harm(make_host: HostMaker, accident: str) -> None:
    """The service is stopped, and so cannot notice before it."""
    busy = Busy(make_host(GATE_OFF))
    with busy.host.unwritable():
        busy.service.signal(signal.SIGSTOP)  # while it does not have the lock, which it would keep
    busy.befalls(ACCIDENTS[accident])
    assert busy.host.watcher("sync", "--dry-run").returncode == 0
    assert busy.host.watcher("sync").returncode == 0
    assert busy.is_as_before()
    busy.service.signal(signal.SIGCONT)
    busy.service.logged("repaired", "opened the lease store anew")
    assert busy.is_as_before()
    busy.ends()


EVIDENCE: Final = "this is not a database\n" * 100_000


def test_what_is_put_in_its_place_and_is_no_store_is_put_aside_and_kept(busy: Busy) -> None:
    """The service waits for nobody: each start would fail until somebody comes."""
    (busy.host.base / "new").write_text(EVIDENCE)
    busy.befalls("mv {base}/new {db}")
    aside = busy.host.state_dir / "leases.db.damaged-1"
    busy.service.logged("opened the lease store anew", "is not a lease store", str(aside))
    eventually(busy.is_as_before)
    assert aside.read_text() == EVIDENCE
    assert busy.host.attach("old").address == busy.past
    assert busy.host.watcher("sync").stdout == "nothing to do\n"
    assert "Traceback" not in busy.service.log_text()


@pytest.mark.parametrize("first", ["all of it is removed", "journal and index are removed"])
@pytest.mark.parametrize("which", ["leases.db", "leases.db*", "leases.db-*"])
def test_it_is_removed_again_as_soon_as_it_is_there(busy: Busy, first: str, which: str) -> None:
    """The service is in the midst of opening it, or of the sync that follows."""
    done = list[str]()

    def again(name: str) -> None:
        if len(done) < 40:
            done.append(name)
            for file in list(busy.host.state_dir.glob(which)):
                file.unlink(missing_ok=True)

    inotify = Inotify(lambda: None)
    inotify.add(str(busy.host.state_dir), CREATED, lambda _, name: again(name))
    busy.befalls(ACCIDENTS[first])
    while select([inotify], [], [], 1)[0]:
        inotify.read()
    inotify.close()
    assert done
    eventually(busy.is_as_before)
    assert busy.host.attach("old").address == busy.past
    assert busy.host.watcher("sync").stdout == "nothing to do\n"
    assert "Traceback" not in busy.service.log_text()


@pytest.mark.parametrize("which", ["leases.db", "leases.db*", "leases.db-*"])
def test_commands_beside_an_accident_succeed(busy: Busy, which: str) -> None:
    for number in range(5):
        ended = [
            busy.host.popen(
                busy.host.watcher_command(*command), env=busy.host.watcher_env,
                stdout=PIPE, stderr=PIPE,
            )
            for command in (("sync",), ("publish", "web", f"{9000 + number}:80"), ("ls",))
        ]  # fmt: skip
        while any(process.poll() is None for process in ended):
            for file in list(busy.host.state_dir.glob(which)):
                file.unlink(missing_ok=True)
            time.sleep(0.01)
        for process in ended:
            out, err = process.communicate()
            lines = [one for one in err.splitlines() if not one.startswith("watcher: waiting: ")]
            assert len(lines) == (process.returncode != 0), (out, err)
        busy.host.watcher("unpublish", "web", f"{9000 + number}:80", check=False)
    busy.host.watcher("sync")
    eventually(busy.is_as_before)
    assert "Traceback" not in busy.service.log_text()


OVERWRITTEN: Final = {
    "all of it": "cat {base}/new >{db}",
    "its beginning": "dd if={base}/new of={db} conv=notrunc bs=8192 count=1 status=none",
    "all but its beginning": "dd if={base}/new of={db} conv=notrunc bs=1024 seek=1 status=none",
    "all of it and its journal": "cat {base}/new >{db}; cat {base}/new >{db}-wal",
    "it is cut short": "truncate --size=1500 {db}",
    "it is emptied": ": >{db}",
    "it is emptied, and its journal": ": >{db}; : >{db}-wal",
}
"""Garbage in the file itself, of which nobody is told."""


@pytest.mark.parametrize("what", OVERWRITTEN)
@pytest.mark.parametrize("then", ["a start", "a sync", "a restart", "its removal"])
def test_garbage_in_the_store_is_told_and_it_is_made_anew(busy: Busy, what: str, then: str) -> None:
    (busy.host.base / "new").write_text(EVIDENCE)
    busy.befalls(OVERWRITTEN[what])
    if then == "a sync":
        # An empty file cannot become a store while the service has it open: the sync says so.
        busy.host.watcher("sync", check=not what.startswith("it is emptied"))
    elif then == "a restart":
        busy.service.kill9()
        busy.service.start()
    elif then == "its removal":
        busy.befalls("rm -f {db}*")
    busy.host.bundle("new")
    assert busy.host.launch("run", "new", "--detach").returncode == 0
    busy.host.attached("new")
    busy.host.delete("new")
    eventually(busy.is_as_before)
    assert busy.host.watcher("sync").stdout == "nothing to do\n"
    assert "Traceback" not in busy.service.log_text()


@pytest.mark.parametrize("version", ["another program's", "a newer version's"])
def test_what_another_can_read_is_left_as_it_is(host: Host, version: str) -> None:
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    store = host.state_dir / "leases.db"
    pragma = "application_id = 7" if version == "another program's" else "user_version = 999"
    with closing(sqlite3.connect(store)) as database:
        database.execute(f"PRAGMA {pragma}")
    for command in (("sync",), ("sync", "--dry-run"), ("run",)):
        assert host.watcher(*command, check=False, timeout=20).returncode == 1
    assert {file.name for file in host.state_dir.glob("leases.db*")} <= {
        "leases.db", "leases.db-wal", "leases.db-shm"
    }  # fmt: skip
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
