"""`watcher top` on a terminal, with real containers and real traffic."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support import traffic
from tests.support.brokers import stopped_broker
from tests.support.host import Container, Host
from tests.support.processes import children
from tests.support.screen import Screen

SIZES = ((24, 80), (10, 40), (60, 200))
"""Lines and columns."""


@contextmanager
def repeated(call: Callable[[], object]) -> Iterator[None]:
    """Has `call` called all the time."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(0.01):
            call()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def talk(host: Host, container: Container) -> Iterator[None]:
    """Has the host and a container talk all the time."""
    with container.place.serve(tcp=(80,)):
        stream = host.here.stream(container.address, 80)
        with repeated(lambda: stream.say("x" * 1000)):
            yield


@contextmanager
def send(host: Host, container: Container) -> Iterator[None]:
    """Has the host send datagrams to a container all the time, where nobody listens."""
    with (
        traffic.make_socket(host.here.netns, socket.AF_INET, socket.SOCK_DGRAM) as sender,
        repeated(lambda: sender.sendto(b"x" * 1400, (container.address, 9))),
    ):
        yield


def number(text: str) -> float:
    """A number that is shown with the prefix of a thousand or more."""
    unit = " kMG".find(text[-1])
    return float(text[:-1]) * 1000**unit if unit > 0 else float(text)


def top(host: Host, lines: int = 24, columns: int = 80) -> Screen:
    return Screen(host, lines, columns, *host.watcher_command("top"))


def cell(screen: Screen, row: str, title: str) -> str:
    """What is below the end of `title` in the row of a container."""
    end = screen.line("CONTAINER").index(title) + len(title)
    return screen.line(f"{row} ")[:end].split()[-1]


def first(screen: Screen) -> str:
    """The container of the first row."""
    return screen.lines()[3].split()[0]


def test_traffic_as_it_flows(served: Host) -> None:
    quiet = served.attach("a-quiet")
    web = served.attach("web", annotations={"io.watcher.name": "db"})
    screens = [top(served, *size) for size in SIZES]
    with talk(served, web):
        for screen, (height, width) in zip(screens, SIZES, strict=True):
            screen.shows(lambda s: first(s) == "db" and cell(s, "db", "IN bit/s")[-1] in "kM")
            screen.shows(lambda s: cell(s, "db", "OUT bit/s")[-1] in "kM")
            assert "2 containers" in screen.lines()[0]
            # A picture that takes its time is told there meanwhile.
            screen.shows(lambda s, last=height - 1: "q end" in s.lines()[last])  # type: ignore[misc]
            assert ("ADDRESS" in screen.line("CONTAINER")) == (width >= 80)
            assert ("OUT B " in screen.line("CONTAINER")) == (width >= 100)
        small, wide = screens[0], screens[2]
        assert wide.line("db ").split()[1:3] == ["default", web.address]
        assert quiet.address in wide.line("a-quiet ")

        small.press("C")
        small.shows(lambda s: first(s) == "a-quiet" and "by container" in s.lines()[1])
        small.press("R")
        small.shows(lambda s: first(s) == "db")
        small.press("bI")
        small.shows(lambda s: cell(s, "db", "IN B/s") != "0" and "by in," in s.lines()[1])
        small.press("h")
        small.shows(lambda s: "sort by packets" in "".join(s.lines()))
        small.press("hd7\r")
        small.shows(lambda s: "every 7 s" in s.lines()[1])
        small.resize(12, 60)
        small.shows(lambda s: "q end" in s.lines()[11] and s.line("CONTAINER").split()[-1])
        assert "NETWORK" not in small.line("CONTAINER")
        small.resize(2, 9)
        small.shows(lambda s: s.lines()[0].startswith("watcher"))
        small.resize(1, 1)
        small.shows(lambda s: s.lines()[0] not in ("w", " "))  # a part of the last line
        small.resize(12, 60)
        small.shows(lambda s: "q end" in s.lines()[11])
        small.press("\x1b[B")
        small.shows(lambda s: first(s) == "db")

    # A container that comes back has counters that begin anew; one that ends is gone.
    served.kill("web")
    served.delete("web")
    served.gone(web)
    screens[2].shows(lambda s: "1 container" in s.lines()[0])
    served.attach("web")
    screens[2].shows(lambda s: "-" not in cell(s, "web", "IN bit/s"))
    for screen in screens:
        screen.press("q")
        assert screen.status() == 0
        assert screen.attributes() == screen.before


@pytest.mark.parametrize("how", ["\x03", "\x1c", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_it_was(served: Host, how: str | signal.Signals) -> None:
    screen = top(served)
    screen.shows(lambda s: "q end" in s.lines()[-1])
    assert screen.attributes() != screen.before
    if isinstance(how, str):
        screen.press(how)
    else:
        os.kill(children(screen.pid)[0], how)
    assert screen.status() == 0
    assert screen.attributes() == screen.before


def test_a_terminal_that_goes_away(served: Host) -> None:
    screen = top(served)
    screen.shows(lambda s: "q end" in s.lines()[-1])
    screen.hang_up()
    assert screen.status() == 0


def test_the_terminal_is_as_it_was_after_a_crash(host: Host) -> None:
    crash = "with Terminal() as t:\n t.wait(0)\n 1 / 0"
    program = f"from watcher.observe.top.terminal import Terminal\n{crash}"
    screen = Screen(host, 24, 80, sys.executable, "-c", program)
    assert screen.status() == 1
    assert "ZeroDivisionError" in "".join(screen.lines())
    assert screen.attributes() == screen.before


def test_a_stop_leaves_the_terminal_to_the_shell(served: Host) -> None:
    """A shell that changes no attributes of its own; it has job control and a prompt."""
    screen = Screen(served, 24, 80, "sh", "-i")
    screen.press(" ".join(served.watcher_command("top")) + "\n")
    screen.shows(lambda s: "q end" in s.lines()[-1])
    screen.press("\x1a")
    screen.shows(lambda s: "Stopped" in "".join(s.lines()))
    assert screen.attributes() == screen.before
    screen.resize(15, 70)
    screen.press("fg\n")
    screen.shows(lambda s: "q end" in s.lines()[14] and s.line("CONTAINER"))
    assert screen.attributes() != screen.before
    screen.press("q")
    screen.shows(lambda s: s.attributes() == s.before)
    screen.press("echo status $((6 * 7)) $?\n")
    screen.shows(lambda s: "status 42 0" in "".join(s.lines()))
    assert screen.attributes() == screen.before
    screen.press("exit\n")
    assert screen.status() == 0


def test_a_service_that_ends_and_comes_back(host: Host) -> None:
    service = host.service()
    host.attach("web")
    screen = top(host)
    screen.press("d1\r")
    screen.shows(lambda s: cell(s, "web", "IN bit/s") != "-")
    with stopped_broker(service):
        screen.shows(lambda s: "has not answered" in s.lines()[-1])
    screen.shows(lambda s: "q end" in s.lines()[-1])
    service.kill9()
    screen.shows(lambda s: "no service serves" in s.lines()[-1])
    assert screen.line("web ")
    service.start()
    screen.shows(lambda s: "q end" in s.lines()[-1])
    service.stop()
    screen.press("q")
    assert screen.status() == 0
    done = host.watcher("top", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "no service serves" in done.stderr


def test_one_table_where_no_terminal_is(served: Host) -> None:
    web = served.attach("web")
    served.attach("a-quiet")
    with send(served, web):
        done = served.watcher("top")
    header, busy, quiet = done.stdout.splitlines()
    assert header.split("  ")[0] == "CONTAINER"
    name, network, address, received, sent, *_ = busy.split()
    assert (name, network, address) == ("web", "default", web.address)
    assert number(received) > 10 * number(sent)
    assert quiet.split()[0] == "a-quiet"


def test_a_terminal_of_an_unknown_kind(served: Host) -> None:
    command = served.watcher_command("top")
    screen = Screen(served, 24, 80, "env", "TERM=dumb", *command)
    assert screen.status() == 1
    assert 'TERM="dumb"' in "".join(screen.lines())
    assert screen.attributes() == screen.before
