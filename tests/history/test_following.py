"""`watcher events` has neither a gap nor a double, whatever happens to it or to the service."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.history.played import START, PlayedService, Watching, event, numbered, sandbox
from watcher.feed.history import NEWER
from watcher.feed.lines import ContainerPart, Missed

JSON = ("--json",)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[PlayedService]:
    with PlayedService(tmp_path) as played:
        yield played


def test_from_now_on(service: PlayedService) -> None:
    service.write(*numbered(range(1, 6)))
    with Watching(service.command(*JSON)) as watching:
        service.accept(5)
        service.send(event(6), event(7))
        assert watching.numbers(2) == [6, 7]
        assert watching.ends(signal.SIGINT) == 130


def test_the_history_goes_over_into_what_happens(service: PlayedService) -> None:
    """What is sent is written a moment later, and the reader waits for it."""
    service.write(*numbered(range(1, 6)))
    with Watching(service.command(*JSON, "--since", "1h"), terminal=True) as watching:
        service.accept(8)
        assert watching.numbers(5) == [1, 2, 3, 4, 5]
        service.send(event(9))
        service.write(event(6))
        assert watching.numbers(1) == [6]
        service.write(event(7), event(8), event(9), event(10))
        service.send(event(10), event(11))
        assert watching.numbers(5) == [7, 8, 9, 10, 11]


def test_a_clock_that_is_set_back_hides_nothing(service: PlayedService) -> None:
    service.write(event(1, 3600), event(2, 10), event(3, 1))
    at = START.timestamp() + 5
    with Watching(service.command(*JSON, f"--since=@{at}"), terminal=True) as watching:
        service.accept(3)
        assert watching.numbers(2) == [1, 2]
        service.send(event(4, 2))
        assert watching.numbers(1) == [4]
        service.stop()
        service.write(event(4, 2), event(5, 3))
        service.start()
        service.accept(5)
        assert watching.numbers(1) == [5]


def test_without_a_terminal_it_ends_with_the_history(service: PlayedService) -> None:
    service.write(*numbered(range(1, 6)))
    with (service.state_dir / NEWER).open("ab") as file:
        file.write(b'\0\0\n{"type":"event","seq":7,' + b"x" * (3 << 20))
    service.write(event(6))
    at = (START.timestamp()) + 2.5
    with Watching(service.command(*JSON, f"--since=@{at}")) as watching:
        assert watching.numbers(4) == [3, 4, 5, 6]
        assert watching.ends() == 0
    with Watching(service.command("--since", "now")) as watching:
        assert watching.ends() == 0


def test_what_was_missed_is_in_the_history(service: PlayedService) -> None:
    with Watching(service.command(*JSON)) as watching:
        service.accept(5)
        service.send(event(6))
        service.write(*numbered([7, 8, 9]))
        service.send(Missed(3))
        service.state(9)
        service.send(event(10))
        assert watching.numbers(5) == [6, 7, 8, 9, 10]
        service.write(*numbered([12, 13, 16]))  # the disk was full meanwhile
        service.send(Missed(6))
        service.state(16)
        assert watching.numbers(5) == ["missed 1", 12, 13, "missed 2", 16]
        service.send(Missed(0))  # the state was wrong; nothing is missed
        service.state(16)
        service.send(event(17))
        assert watching.numbers(1) == [17]


def test_what_is_lost_is_told(service: PlayedService) -> None:
    with Watching(service.command()) as watching:
        service.accept(5)
        service.send(event(6), event(9))
        assert watching.said() == "watcher: 2 events were missed"
        assert watching.line().endswith("repaired")
        assert watching.line().endswith("repaired")


def test_a_killed_service_gives_numbers_again(service: PlayedService) -> None:
    """6 to 8 were sent, and 7 and 8 not written any more: they are numbers of later events now."""
    service.write(*numbered([5]))
    with Watching(service.command(*JSON)) as watching:
        service.accept(5)
        service.send(*numbered([6, 7, 8]))
        service.write(event(6))
        assert watching.numbers(3) == [6, 7, 8]
        service.stop()
        assert watching.said() == "watcher: the service has ended; waiting for it"
        service.write(event(7, 20))
        service.start()
        service.accept(7)
        service.send(event(8, 21), event(9, 22))
        assert watching.said() == "watcher: the service is back"
        assert watching.numbers(3) == [7, 8, 9]
        service.drop()  # the broker alone, of which nobody wants to hear
        service.write(event(10, 23))
        service.accept(10)
        service.send(event(11, 24))
        assert watching.numbers(2) == [10, 11]
        assert watching.ends(signal.SIGTERM) == -signal.SIGTERM


def test_it_waits_for_a_directory_that_is_removed(service: PlayedService) -> None:
    with Watching(service.command(*JSON)) as watching:
        service.accept(5)
        for path in service.run_dir.iterdir():
            path.unlink()
        service.run_dir.rmdir()
        service.stop()
        assert "waiting" in watching.said()
        service.write(*numbered([6, 7]))
        service.start()
        service.accept(7)
        assert watching.numbers(2) == [6, 7]


def test_a_service_that_hangs_is_waited_for(service: PlayedService) -> None:
    with Watching(service.command(*JSON)) as watching:
        assert watching.said() == "watcher: the service does not answer; waiting for it"
        service.accept(5)
        service.send(event(6))
        assert watching.numbers(1) == [6]


def test_without_a_service_there_is_the_history_alone(service: PlayedService) -> None:
    service.write(event(1))
    service.stop()
    with Watching(service.command()) as watching:
        assert "start it" in watching.said()
        assert watching.ends() == 1
    with Watching(service.command(*JSON, "--since", "1h"), terminal=True) as watching:
        assert watching.numbers(1) == [1]
        assert "start it" in watching.said()
        assert watching.ends() == 1


def test_it_ends_when_nobody_reads_it(service: PlayedService) -> None:
    """Even while nothing happens."""
    with Watching(service.command()) as watching:
        service.accept(5)
        service.send(event(6))
        watching.line()
        os.close(watching.output)
        assert watching.ends() == 1


def test_colours_are_for_terminals(service: PlayedService) -> None:
    service.write(event(1, kind="failed", containers=(ContainerPart("/r", "web"),), reason="no"))
    cases: tuple[tuple[bool, dict[str, str], bool], ...] = (
        (True, {}, True), (True, {"NO_COLOR": "1"}, False), (False, {}, False),
    )  # fmt: skip
    for terminal, env, red in cases:
        command = service.command("--since", "1h")
        with Watching(command, terminal=terminal, env=env) as watching:
            if terminal:
                service.accept(1)
            line = watching.line()
            assert ("\x1b[31mfailed\x1b[0m" in line) == red, line
            assert ("\x1b" in line) == red


def test_a_container_that_has_gone_is_found_by_the_beginning_of_its_id(
    service: PlayedService,
) -> None:
    old = ContainerPart("/r", "abc1", names=("web",))
    new = ContainerPart("/r", "abd2", names=("web",))
    service.write(
        event(1, containers=(old,)),
        event(2, containers=(ContainerPart("/r", "abc1"),)),
        event(3, containers=(new,)),
    )
    for words, numbers in (("abc", [1, 2]), ("abc1", [1, 2]), ("web", [1, 2, 3]), ("abd", [3])):
        with Watching(service.command(*JSON, "--since=1h", "--container", words)) as watching:
            assert watching.numbers(len(numbers)) == numbers
            assert watching.ends() == 0
    with Watching(service.command("--since=1h", "--container=ab")) as watching:
        assert "is the beginning of the ids of 2 containers: abc1, abd2" in watching.said()
        assert watching.ends() == 1
    live = (*JSON, "--container", "abd")
    with Watching(service.command(*live)) as watching:
        service.accept(3, [sandbox(new)])
        service.send(event(4, containers=(old,)), event(5, containers=(new,)))
        assert watching.numbers(1) == [5]


def test_others_than_root_have_no_history() -> None:
    """They have what happens, and are told how much they have missed."""
    with TemporaryDirectory() as base, PlayedService(Path(base)) as service:
        Path(base).chmod(0o755)
        service.write(*numbered(range(1, 6)))
        service.let_all_read()
        with Watching(as_nobody(service, *JSON, "--since", "1h")) as watching:
            assert "is for root" in watching.said()
            assert watching.ends() == 1
        with Watching(as_nobody(service, *JSON)) as watching:
            service.accept(5)
            service.send(event(6), Missed(2))
            service.write(*numbered([6, 7, 8]))
            service.state(8)
            service.send(event(9))
            assert watching.numbers(3) == [6, "missed 2", 9]


def as_nobody(service: PlayedService, *words: str) -> list[str]:
    """The command of another user, who may read neither the program's files nor the interpreter's.

    So all that is imported is imported before.
    """
    command, code = service.command(*words), (
        "import os, sys, watcher.cli, watcher.config.load, watcher.commands.events;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534);"
        "watcher.cli.main(sys.argv[1:])"
    )  # fmt: skip
    return [command[0], "-c", code, *command[3:]]


def test_it_starts_without_what_the_service_needs(service: PlayedService) -> None:
    code = (
        "import sys, watcher.commands.events as e;"
        "print(sorted(m for m in sys.modules if m.partition('.')[0] in"
        " ('handlers','structlog','pyroute2','sqlite3','asyncio','watchdog','prometheus_client')))"
    )
    with Watching([service.command()[0], "-c", code]) as watching:
        assert watching.line() == "[]"
