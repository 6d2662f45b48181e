"""Failures cost what they are worth: not their square, not their bytes, and nobody else's start."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from tests.support.host import BEYOND, GATE_OFF, UPLINK, Host, HostMaker
from tests.support.processes import descriptors, end
from tests.support.traffic import Answer
from tests.support.waiting import eventually

MANY: Final = 1500
HUGE: Final = 7 << 20
"""Bytes of a value that is refused; the file that it is in is still read."""
FIRST: Final = ["ip", "-4", "addr", "show", "eth0"]


def spoil(host: Host, count: int) -> None:
    """So many containers have a `state.json` that ends in the middle."""
    for number in range(count):
        directory = host.root / f"bad{number}"
        directory.mkdir()
        (directory / "state-1").write_text('{"id": "bad", "init_process_pid": 12')
        (directory / "state-1").rename(directory / "state.json")


def store_size(host: Host) -> int:
    return sum(file.stat().st_size for file in host.state_dir.glob("leases.db*"))


def test_very_many_that_cannot_be_read_hold_up_nobody(host: Host) -> None:
    service = host.service()
    spoil(host, MANY)
    for number in range(10):
        name = f"good{number}"
        assert "inet 172.19." in host.run_to_end(name, FIRST).stdout
    eventually(lambda: sum(e["event"] == "failed" for e in service.log()) == MANY)
    service.restart()
    assert "inet 172.19." in host.run_to_end("after", FIRST).stdout
    assert all(entry["event"] != "held too long" for entry in service.log())
    assert sum(entry["event"] == "failed" for entry in service.log()) == MANY, "each is told once"


def test_a_value_is_not_kept_whole(host: Host) -> None:
    """It is the bundle's owner who writes it."""
    service = host.service()
    for number in range(3):
        host.bundle(f"big{number}", annotations={"io.watcher.ip": "1" * HUGE})
        assert host.launch("run", f"big{number}", "--detach", check=False).returncode != 0
    assert host.ls()["big2"]["status"] == "failed"
    service.stop()
    assert store_size(host) < 1 << 20


def test_a_store_that_has_kept_them_whole_shrinks(host: Host) -> None:
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    file = host.state_dir / "leases.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as store:
        for number in range(5):
            store.execute(
                "INSERT INTO failure (root, id, key, value, reason, refused, at)"
                " VALUES (?, ?, 'io.watcher.ip', ?, ?, 1, ?)",
                (str(host.root), f"big{number}", "1" * HUGE, "it is no address", time.time()),
            )
    assert store_size(host) > 5 * HUGE
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert store_size(host) < 1 << 20
    assert host.ls()["big4"]["reason"] == "it is no address"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)


def is_held(host: Host, name: str) -> bool:
    return any(path.name.startswith("state-") for path in (host.root / name).iterdir())


def test_who_is_killed_while_it_is_held_has_not_failed(make_host: HostMaker) -> None:
    """There is no such container, and never was: nothing is left that tells of one."""
    host = make_host("[gate]\ntimeout = 60.0\n")
    service = host.service()
    names = [f"c{number}" for number in range(6)]
    for name in names:
        host.bundle(name)
    with host.unwritable():
        for name in names:
            process = host.launching("run", name, "--detach")
            eventually((host.root / name / "exec.fifo").exists)
            eventually(partial(is_held, host, name))
            end(process)
    host.attach("last")
    assert {row for row in host.ls() if host.ls()[row]["status"] == "failed"} == set()
    told = [entry for entry in service.warnings() if entry["event"] in ("failed", "refused")]
    assert told == []


def test_one_whose_state_is_too_large_to_read_stays_attached(host: Host) -> None:
    """It has its network by then, and needs the file no more."""
    service = host.service()
    big = host.attach("big", ports="8080:80")
    big.serve(tcp=(80,))
    host.share("beside", "big")
    for name in ("big", "beside"):
        state = json.loads((host.root / name / "state.json").read_text())
        state["config"]["labels"].append("padding=" + "x" * (9 << 20))
        (host.root / name / "state-1").write_text(json.dumps(state))
        (host.root / name / "state-1").rename(host.root / name / "state.json")
    service.logged("big", "more than", level="warning")
    service.restart()
    host.watcher("sync")
    rows = host.ls()
    assert (rows["big"]["status"], rows["big"]["reason"]) == ("attached", "")
    assert rows["big"]["address"] == [big.address]
    assert rows["beside"]["status"] == "shared"
    assert host.inspect("big")["pid"] == rows["big"]["pid"] != 0
    assert host.beyond.reach(UPLINK, 8080) == Answer("big", BEYOND)
    told = [entry for entry in service.warnings() if "big" in json.dumps(entry)]
    assert all("remove" not in json.dumps(entry) for entry in told)


@pytest.mark.parametrize("config", ["", GATE_OFF])
def test_a_name_that_is_no_utf8_is_shown_as_its_bytes(make_host: HostMaker, config: str) -> None:
    host = make_host(config)
    service = host.service()
    directory = Path(os.fsdecode(os.fsencode(host.root) + b"/a\xffb"))
    directory.mkdir()
    (directory / "state.json").write_text("{}")
    entry = service.logged("failed", "a\\\\xffb", level="error")
    assert "leases.db" not in entry["reason"]
    host.attach("web", ports="8080:80").serve(tcp=(80,))
    output = host.watcher("ls", "--json").stdout
    assert {row["id"] for row in json.loads(output)} == {"web", "a\\xffb"}
    assert "\\ud" not in output, "what is no character is nobody's to read"
    assert "a\\xffb" in host.watcher("ls").stdout
    assert host.inspect("a\\xffb")["status"] == "failed"
    done = host.watcher("sync", check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "a\\xffb" in done.stderr
    (directory / "state.json").unlink()
    directory.rmdir()
    eventually(lambda: set(host.ls()) == {"web"})
    assert host.watcher("sync").stdout == "nothing to do\n"
    assert "damaged" not in service.log_text()


def test_out_of_descriptors_nobody_is_told_to_remove_a_healthy_file(host: Host) -> None:
    service = host.service()
    web = host.attach("web", ports="8080:80")
    web.serve(tcp=(80,))
    now = descriptors(service.pid)
    _, hard = resource.prlimit(service.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (now + 1, hard))
    directory = host.root / "web"
    (directory / "other").write_text((directory / "state.json").read_text())
    (directory / "other").rename(directory / "state.json")
    entry = service.logged("web", "cannot be read")
    resource.prlimit(service.pid, resource.RLIMIT_NOFILE, (hard, hard))
    assert "raise LimitNOFILE" in entry["reason"]
    host.attach("last")
    assert host.status("web") == "attached"
    assert host.beyond.reach(UPLINK, 8080) == Answer("web", BEYOND)
