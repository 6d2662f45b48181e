"""What `watcher ls` shows of ids, names and reasons, and what CONTAINER stands for."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import termios
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.host import GATE_OFF, Host, HostMaker
from tests.support.host.watched import toml
from tests.support.processes import Done
from tests.support.waiting import eventually

ENGINES = "0123456789ab" + "c" * 52
OTHERS = "0123456789ab" + "d" * 52
NAMED = {"io.watcher.name": "DB,app-1"}


def table(text: str) -> list[dict[str, str]]:
    """The rows of a table, by the names of its columns."""
    header, *lines = text.splitlines()
    names = header.split()
    starts = [header.index(name) for name in names]
    ends = [*starts[1:], None]
    return [
        {name: line[a:b].strip() for name, a, b in zip(names, starts, ends, strict=True)}
        for line in lines
    ]


# --- what is shown -------------------------------------------------------------------------------


def test_ids_names_and_reasons(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    web = host.attach(ENGINES, annotations=NAMED)
    (row,) = table(host.watcher("ls").stdout)
    assert (row["ID"], row["NAME"], row["PID"]) == (ENGINES[:12], "db,app-1", str(web.pid))
    assert "REASON" not in row

    host.run("left", annotations={"io.watcher.network": "none"})
    host.run("bad", annotations={"io.watcher.network": "nowhere"})
    host.watcher("sync", check=False)
    host.kill(ENGINES)
    rows = {row["ID"]: row for row in table(host.watcher("ls", "--no-trunc").stdout)}
    assert rows["left"]["REASON"] == "io.watcher.network = none"
    assert rows["bad"]["REASON"].startswith('io.watcher.network = "nowhere": ')
    assert rows[ENGINES]["STATUS"] == "exited"
    assert rows[ENGINES]["REASON"]
    assert rows[ENGINES]["NAME"] == "db,app-1"  # its annotations are still there

    by_id = host.ls()
    assert by_id[ENGINES]["name"] == ["db", "app-1"]
    assert by_id["bad"]["reason"] == f'container "bad": {rows["bad"]["REASON"]}'


def on_terminal(host: Host, columns: int, *words: str) -> list[str]:
    """The lines of `watcher ls` on a terminal of that width."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    process = host.popen(host.watcher_command("ls", *words), env=host.watcher_env, stdout=theirs)
    os.close(theirs)
    text = b""
    try:
        while more := os.read(ours, 4096):
            text += more
    except OSError:  # its end (EIO)
        pass
    os.close(ours)
    assert process.wait() == 0
    return text.decode().splitlines()


def test_lines_stay_within_a_terminal(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    host.attach(ENGINES, ports="8080:80,127.0.0.1:5353:53/udp,9000-9010:9000-9010")
    host.run("bad", annotations={"io.watcher.network": "nowhere"})
    host.watcher("sync", check=False)
    whole = host.watcher("ls").stdout.splitlines()
    assert max(map(len, whole)) > 120
    for columns in (100, 120):
        lines = on_terminal(host, columns)
        assert len(lines) == len(whole)
        assert max(map(len, lines)) <= columns
        assert "…" in lines[1]
        assert "172.19.0.2" in lines[1]
    assert on_terminal(host, 500) == whole
    assert on_terminal(host, 80, "--no-trunc")[1].startswith(ENGINES)
    assert len(on_terminal(host, 20)) == len(whole)


def test_who_was_refused_is_shown_for_an_hour(make_host: HostMaker) -> None:
    host = make_host()
    service = host.service()
    host.bundle("bad", annotations={"io.watcher.network": "nowhere"})
    assert host.launch("run", "bad", "--detach", check=False).returncode == 1
    assert table(host.watcher("ls").stdout) == []
    (row,) = table(host.watcher("ls", "--all").stdout)
    assert (row["ID"], row["STATUS"]) == ("bad", "failed")
    assert "there is no such network" in row["REASON"]
    assert host.ls()["bad"]["refused"]
    assert "no such network" in host.inspect("bad")["reason"]

    service.stop()
    with closing(sqlite3.connect(host.state_dir / "leases.db")) as db, db:
        db.execute("UPDATE failure SET at = at - 3600")
    assert table(host.watcher("ls", "--all").stdout) == []
    assert host.watcher("inspect", "bad", check=False).returncode == 1


def test_what_a_locale_lacks_is_escaped(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF)
    host.service()
    host.run("web", annotations={"io.watcher.network": "\u2713"})
    host.fails("web")
    done = host.command(*host.watcher_command("ls"), env={"PYTHONIOENCODING": "ascii"})
    assert 'io.watcher.network = "\\u2713"' in done.stdout


def test_hostile_bytes_are_escaped(make_host: HostMaker) -> None:
    host = make_host()
    host.service()
    host.bundle("bad", annotations={"io.watcher.network": "\x1b[2J\u202e\n"})
    assert host.launch("run", "bad", "--detach", check=False).returncode == 1
    output = host.watcher("ls", "--all").stdout
    assert r"\x1b[2J\u202e\n" in output
    assert len(output.splitlines()) == 2


# --- CONTAINER -----------------------------------------------------------------------------------


def failing(done: Done) -> str:
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    return line


def test_an_id_then_a_name_then_a_beginning(host: Host) -> None:
    host.run(ENGINES, annotations={"io.watcher.name": "db"})
    host.run(OTHERS, annotations={"io.watcher.name": "web,app"})
    host.run("app", annotations={"io.watcher.name": "db"})
    host.run("web-1")
    host.watcher("sync")

    found = {text: host.inspect(text)["id"] for text in ("app", "WEB", ENGINES, ENGINES[:13])}
    assert found == {"app": "app", "WEB": OTHERS, ENGINES: ENGINES, ENGINES[:13]: ENGINES}
    for text, ids, remedy in (
        ("db", f"{ENGINES}, app", "name one of them by its id"),
        (ENGINES[:12], f"{ENGINES}, {OTHERS}", "write more of the id"),
    ):
        line = failing(host.watcher("inspect", text, check=False))
        assert f"2 containers: {ids}; {remedy}" in line
        bundle = str(host.bundle("sidecar"))
        assert failing(host.watcher("bundle", bundle, "--share", text, check=False)) == line
    for text in ("", "nobody", "b"):
        assert "there is no container" in failing(host.watcher("inspect", text, check=False))


@pytest.mark.parametrize("text", ["db", ENGINES[:12], ENGINES])
def test_watcher_bundle_takes_whatever_names_one(host: Host, text: str) -> None:
    web = host.attach(ENGINES, annotations=NAMED)
    bundle = host.bundle("sidecar")
    host.watcher("bundle", str(bundle), "--share", text)
    config = json.loads((Path(bundle) / "config.json").read_text())
    assert config["annotations"]["io.watcher.share"] == ENGINES
    host.launch("run", "sidecar", "--detach")
    assert host.attached("sidecar", "shared").address == web.address


# --- names ---------------------------------------------------------------------------------------


def test_share_takes_a_name_that_one_other_has(make_host: HostMaker) -> None:
    host = make_host()
    service = host.service()
    web = host.run("first", annotations=NAMED)
    pin = host.netns_dir / "first"
    sharing = {"io.watcher.share": "DB", "io.watcher.name": "db"}
    assert host.run("sidecar", netns_path=pin, annotations=sharing).address == web.address

    # Its own name does not count for itself; nor do later ones for who is there.
    host.run("second", annotations=NAMED)
    service.restart()
    host.watcher("sync")
    assert host.ls()["sidecar"]["status"] == "shared"
    assert not host.ls()["sidecar"]["reason"]
    host.bundle("late", netns_path=pin, annotations={"io.watcher.share": "db"})
    done = host.launch("run", "late", "--detach", check=False)
    why = "several containers have that name: first, sidecar, second; name one of them by its id"
    assert f'container "late": io.watcher.share = "db": {why}' in done.stderr
    host.delete("first")
    eventually(lambda: "first" not in host.ls())
    host.watcher("sync")
    assert host.ls()["sidecar"]["status"] == "shared"


def test_no_id_stands_in_for_a_name_that_its_root_may_not_give(make_host: HostMaker) -> None:
    host = make_host()
    other = host.base / "other"
    limits = 'limits.names = ["guest-*"]\n'
    host.configure(f"[[root]]\npath = {toml(str(other))}\n{limits}")
    host.service()
    first = host.run("first", annotations=NAMED)
    for id_ in ("db", "guest-1"):
        host.bundle(id_)
        host.launch("run", id_, "--detach", root=other)
    assert host.inspect("db")["id"] == "first"
    assert host.inspect("guest-1")["id"] == "guest-1"

    sharing = {"io.watcher.share": "db"}
    pin = host.netns_dir / "first"
    assert host.run("one", netns_path=pin, annotations=sharing).address == first.address
    bundle = str(host.bundle("two"))
    host.watcher("bundle", bundle, "--share", "db")
    host.launch("run", "two", "--detach")
    assert host.attached("two", "shared").address == first.address

    # In its own root, and where nobody has that name, it is an id like any other.
    theirs = host.ls()["db"]
    assert theirs["status"] == "attached"
    host.bundle("three", netns_path=host.netns_dir / "db", annotations=sharing)
    host.launch("run", "three", "--detach", root=other)
    assert host.ls()["three"]["address"] == theirs["address"]
    for id_ in ("three", "db", "guest-1"):
        host.runc("delete", "--force", id_, root=other)


def test_names_that_a_root_does_not_allow(make_host: HostMaker) -> None:
    host = make_host('limits.names = ["App-*", "web"]\n')
    host.service()
    host.run("one", annotations={"io.watcher.name": "app-1,WEB"})
    for netns in (None, host.netns_dir / "one"):
        host.bundle("bad", netns_path=netns, annotations=NAMED)
        done = host.launch("run", "bad", "--detach", check=False)
        assert 'io.watcher.name = "db": the limits of root' in done.stderr
        assert "write a name like app-*, web" in done.stderr
    # Who is ignored asks for nothing, and is called nothing either.
    host.run("left", annotations={**NAMED, "io.watcher.network": "none"})
    assert host.ls()["left"]["name"] == ["app-1"]
    assert "there is no container" in failing(host.watcher("inspect", "db", check=False))
