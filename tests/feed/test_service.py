"""The service and its broker: who reads the socket knows what there is, whatever ends meanwhile."""

from __future__ import annotations

import os
import random
import shutil
import signal
import stat
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.brokers import broker, children_of_all_threads, stopped_broker
from tests.support.connected import BACK
from tests.support.logs import entries
from tests.support.reading import Reading, agrees
from tests.support.tampering import lose_store
from tests.support.waiting import PATIENCE, eventually
from watcher.feed.lines import State
from watcher.feed.names import ANSWERS, EVENTS, TOLD
from watcher.observe.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.host import Host, HostMaker, Json, Service

STEPS: Final = 14
HOUR: Final = 3600 * 1000
EPOLL: Final = ("232", "281", "22")
"""The numbers of epoll_wait(2) and epoll_pwait(2) on x86-64, and of the latter on aarch64."""


def history(host: Host) -> list[Json]:
    """The events of the history, but for one that is being written."""
    return entries((host.state_dir / "events.jsonl").read_text())


def assert_kinds(host: Host, kinds: list[str]) -> bool:
    """Whether the history has events of exactly those kinds."""
    assert [event["kind"] for event in history(host)] == kinds, history(host)[-1]
    return True


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_reader_gets_the_state_and_then_each_change(make_host: HostMaker) -> None:
    host = make_host(BACK)
    host.service()
    host.attach("web", ports="8080:80", annotations={"io.watcher.name": "front"})
    with Reading(host.run_dir) as reading:
        assert agrees(host, reading.picture)
        assert reading.picture.networks["default"].subnets[0].leases == (1 << 16) - 3
        assert reading.picture.roots[str(host.root)].held
        totals = reading.picture.totals
        assert totals is not None
        assert totals.events == {"attached": 1}
        host.share("side", "web")
        host.delete("web")
        reading.event("detached", "web")
        host.run_to_end("bad", ("true",), check=False, annotations={"io.watcher.ip": "10.0.0.1"})
        assert reading.event("refused", "bad").cause == "io.watcher.ip"
        host.delete("side")
        reading.event("detached", "side")
        assert agrees(host, reading.picture)
        assert [event.seq for event in reading.events] == [2, 3, 4, 5]
        assert reading.states == 1
        eventually(lambda: [event["seq"] for event in history(host)] == [1, 2, 3, 4, 5])


def test_what_a_command_has_changed_is_told(make_host: HostMaker) -> None:
    host = make_host(BACK)
    service = host.service()
    host.attach("web")
    with Reading(host.run_dir) as reading:
        host.watcher("connect", "web", "back")
        host.watcher("publish", "web", "9000:80")
        reading.event("published", "web")
        assert agrees(host, reading.picture)
        host.watcher("disconnect", "web", "back")
        host.watcher("unpublish", "web", "9000:80")
        reading.event("unpublished", "web")
        assert agrees(host, reading.picture)
        kinds = ["attached", "connected", "published", "disconnected", "unpublished"]
        eventually(lambda: assert_kinds(host, kinds))
    service.stop()
    host.watcher("publish", "web", "9001:80")
    last = history(host)[-1]
    assert (last["kind"], last["seq"]) == ("published", 6)


@pytest.mark.parametrize("seed", [1, 2])
def test_picture_and_events_are_the_store(make_host: HostMaker, seed: int) -> None:
    """After whatever happens in whatever order; so nothing has to be told a second time."""
    chance = random.Random(seed)
    host = make_host(BACK)
    service = host.service()
    web = host.attach("web", ports="8080:80")
    with Reading(host.run_dir) as reading:
        for number in range(STEPS):
            step(host, chance, number)
        host.delete(web.id)
        eventually(lambda: agrees(host, reading.picture))
        numbers = [event.seq for event in reading.events]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert not any(reading.missed)  # 0: between a command's change and its word, all was told
        with Reading(host.run_dir) as other:
            assert agrees(host, other.picture)
        assert not service.warnings() or all(
            entry["event"] in ("failed", "refused") for entry in service.warnings()
        )


def step(host: Host, chance: random.Random, number: int) -> None:
    """Something happens on the host."""
    there = [name for name, row in host.ls().items() if row["status"] in ("attached", "shared")]
    one = chance.choice(there)
    match chance.randrange(8):
        case 0 | 1:
            host.run(f"c{number}", ports=f"{9000 + number}:80")
        case 2:
            host.run(f"c{number}", netns_path=host.netns_dir / "web")
        case 3:
            asked = {"io.watcher.ip": "10.0.0.1"}
            host.run_to_end(f"c{number}", ("true",), check=False, annotations=asked)
        case 4 if one != "web":
            host.delete(one)
        case 5:
            host.watcher("publish", one, f"{8100 + number}:80", check=False)
        case 6:
            network = chance.choice(("connect", "disconnect"))
            host.watcher(network, one, "back", check=False)
        case _:
            host.watcher("sync")


@pytest.mark.parametrize("end", ["stop", "kill9"])
def test_readers_come_back_to_the_next_service(host: Host, end: str) -> None:
    service = host.service()
    host.attach("web")
    with Reading(host.run_dir) as reading:
        first = reading.picture.state
        before = broker(service)
        getattr(service, end)()
        eventually(lambda: not Path(f"/proc/{before}").exists(), what="the end of the broker")
        host.run("other")
        service.start()
        reading.until(lambda: reading.states == 2 and reading.picture.complete)
        assert first is not None
        assert reading.picture.state is not None
        assert reading.picture.state.service != first.service
        assert agrees(host, reading.picture)
        host.delete("web")
        seq = reading.event("detached", "web").seq
    eventually(lambda: [e["seq"] for e in history(host)] == list(range(1, seq + 1)))


@pytest.mark.parametrize("what", ["all", EVENTS, TOLD])
def test_lost_sockets_are_made_anew(host: Host, what: str) -> None:
    host.service()
    host.attach("web")
    with Reading(host.run_dir) as reading:
        if what == "all":
            host.run_dir.rename(host.base / "away")
            shutil.rmtree(host.base / "away")
        else:
            (host.run_dir / what).unlink()
        for name in (EVENTS, TOLD):
            eventually((host.run_dir / name).exists)
        assert mode(host.run_dir) == 0o755
        if what != TOLD:
            reading.until(lambda: reading.states == 2 and reading.picture.complete)
        host.watcher("publish", "web", "9000:80")
        reading.event("published", "web")


def test_a_lost_store_is_told_anew(host: Host) -> None:
    host.service()
    host.attach("web", ports="8080:80")
    with Reading(host.run_dir) as reading:
        lose_store(host)
        reading.event("repaired")
        host.delete("web")
        reading.event("detached", "web")
        eventually(lambda: agrees(host, reading.picture))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_broker_that_is_killed_is_replaced(host: Host, number: signal.Signals) -> None:
    service = host.service()
    host.attach("web")
    with Reading(host.run_dir) as reading:
        os.kill(broker(service), number)
        reading.until(lambda: reading.states == 2 and reading.picture.complete)
        host.delete("web")
        reading.event("detached", "web")
        assert agrees(host, reading.picture)
    assert service.running
    assert [entry["event"] for entry in service.warnings()] == ["the broker of events has ended"]


def test_nobody_waits_for_a_stopped_broker(host: Host) -> None:
    service = host.service()
    with Reading(host.run_dir) as reading:
        with stopped_broker(service):
            web = host.attach("web")
            host.watcher("publish", "web", "9000:80")
            host.delete("web")
            host.gone(web)
            eventually(lambda: {"published", "detached"} <= {e["kind"] for e in history(host)})
        reading.event("detached", "web")
        assert agrees(host, reading.picture)


HURRIED: Final = """\
import sys
from watcher.feed import hanging
hanging.SOON, hanging.LATER = 0.5, 2.5
from watcher.cli import main
sys.exit(main())
"""
"""A broker is well that reads within five seconds and a half, as one does that has just begun."""


def test_a_broker_that_hangs_is_replaced(host: Host) -> None:
    script = host.base / "hurried.py"
    script.write_text(HURRIED)
    service = host.service(script=script)
    with Reading(host.run_dir) as reading:
        web = host.attach("web")
        reading.event("attached", "web")
        os.kill(broker(service), signal.SIGSTOP)
        host.delete("web")
        host.gone(web)
        reading.until(lambda: reading.states == 2 and reading.picture.complete)
        assert agrees(host, reading.picture)
        host.attach("web")
        reading.event("attached", "web", since=2)
    assert [entry["event"] for entry in service.warnings()] == [
        "the broker of events hangs", "the broker of events has ended",
    ]  # fmt: skip


def test_a_broker_that_hangs_is_replaced_for_a_new_reader(host: Host) -> None:
    """Though nothing happens: the service looks whenever it looks at its sockets."""
    script = host.base / "hurried.py"
    script.write_text(HURRIED)
    service = host.service(script=script)
    with Reading(host.run_dir):
        stopped = broker(service)
        eventually(lambda: min(timeouts(service.pid), default=0.0) > HOUR / 2)
        os.kill(stopped, signal.SIGSTOP)
        with Stream(str(host.run_dir), PATIENCE) as stream:
            (host.run_dir / "any").touch()
            (host.run_dir / "any").unlink()
            assert isinstance(next(iter(stream.lines())), State)
        assert broker(service) != stopped


@pytest.fixture
def hung(host: Host) -> Iterator[Service]:
    """A service that hangs, and whose socket for commands is full."""
    service = host.service()
    host.attach("web")
    with host.unwritable():
        service.signal(signal.SIGSTOP)  # while it does not have the lock, which it would keep
    yield service
    service.signal(signal.SIGCONT)


def test_a_hung_service_delays_a_command_a_little_and_it_says_so(host: Host, hung: Service) -> None:
    said = ""
    for number in range(1000):
        command = "unpublish" if number % 2 else "publish"
        said = host.watcher(command, "web", "9000:80").stderr
        if said:
            break
    assert said.startswith("watcher: the service hangs, and misses 1 event")
    assert len(said.splitlines()) == 1
    assert hung.running


def test_who_has_no_reader_makes_nothing_of_it(host: Host) -> None:
    """No process, and no module of a reader."""
    service = host.service(cold=True, env={"PYTHONPROFILEIMPORTTIME": "1"})
    web = host.attach("web")
    host.delete("web")
    host.gone(web)
    assert children_of_all_threads(service.pid) == []
    assert "watcher.feed.feed" in service.log_text()
    assert "watcher.observe" not in service.log_text()


def test_a_directory_of_an_older_version_is_opened_for_readers(host: Host) -> None:
    host.run_dir.mkdir(mode=0o700)
    host.service()
    assert mode(host.run_dir) == 0o755
    host.attach("web")
    host.watcher("publish", "web", "80")
    modes = {path.name: mode(path) for path in host.run_dir.iterdir()}
    assert modes == {
        "lock": 0o600, "service.lock": 0o600, "sandboxes": 0o700, EVENTS: 0o600, TOLD: 0o600,
        ANSWERS: 0o600,
        "resolv": 0o755,
    }  # fmt: skip


def test_what_others_send_to_the_socket_of_commands_is_no_event(host: Host) -> None:
    service = host.service()
    with Reading(host.run_dir) as reading:
        script = (
            "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
            "s.connect(sys.argv[1]); [s.send(d) for d in (b'', b'{', b'[' * 100000, b'\\xff' * 9,"
            ' b\'{"type":"event","seq":1,"time":"never","kind":"attached"}\')]'
        )
        host.command("python3", "-c", script, str(host.run_dir / TOLD))
        host.attach("web")
        assert reading.event("attached", "web").seq == 1
    service.logged("a command of another version has told something that is not understood")
    assert len({entry["event"] for entry in service.warnings()}) == 1


def timeouts(pid: int) -> list[int]:
    """Milliseconds that each thread with an event loop waits at the most (epoll_wait(2))."""
    calls = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            calls.append((task / "syscall").read_text().split())
    return [int(call[4], 16) for call in calls if call[0] in EPOLL]


@pytest.mark.parametrize("reads", [False, True], ids=["nobody reads", "somebody reads"])
def test_the_service_has_no_timer_while_nothing_happens(host: Host, *, reads: bool) -> None:
    """But for the sync of every hour."""
    service = host.service()
    host.attach("web")
    with Reading(host.run_dir) if reads else nullcontext():

        def rests() -> bool:
            waits = timeouts(service.pid)
            return bool(waits) and min(waits) > HOUR / 2

        eventually(rests)
