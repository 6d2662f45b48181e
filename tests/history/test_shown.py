"""An event as a line for people, and which events are shown."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.host import Host
from watcher.feed.lines import ContainerPart, Event, InterfacePart
from watcher.model.errors import UsageError, WatcherError
from watcher.observe.people import line_for
from watcher.observe.selection import FIELDS, Selection

NOW = datetime(2026, 11, 26, 10, 0, tzinfo=UTC)
WEB = ContainerPart("/run/runc", "0123456789ab" + "c" * 52, 7, ("web",), ("8080:80/tcp",))
DB = ContainerPart("/run/other", "db", 8)
ETH0 = InterfacePart("eth0", "netnsv0-7", "default", "02:42:ac:13:00:02", ("172.19.0.2", "fd00::2"))
ATTACHED = Event(1, NOW, "attached", (WEB,), WEB.id, (ETH0,), seconds=0.0019)


def shown(event: Event) -> str:
    """The line behind the time."""
    line = line_for(event, colour=False)
    when = event.time.astimezone().isoformat(" ", "seconds")
    assert line.startswith(when)
    return line.removeprefix(when).strip()


def test_lines() -> None:
    assert shown(ATTACHED) == (
        "attached      web network=default address=172.19.0.2,fd00::2 ports=8080:80/tcp"
        " seconds=0.0019"
    )
    failed = Event(
        2, NOW, "failed", (DB,), reason='container "db": io.watcher.ip = "x": no; write one',
        cause="io.watcher.ip",
    )  # fmt: skip
    assert shown(failed) == 'failed        db io.watcher.ip = "x": no; write one'
    assert line_for(failed, colour=True) != line_for(failed, colour=False)
    repaired = Event(3, NOW, "repaired", sandbox=WEB.id, what="added eth0", reason="it was gone")
    assert shown(repaired) == "repaired      0123456789ab added eth0 (it was gone)"
    taken = Event(4, NOW, "port-taken", (DB,), ports=("80:80/tcp",), reason="why", remedy="stop")
    assert shown(taken) == "port-taken    db ports=80:80/tcp why; stop"


TEXT = st.text()
CONTAINERS = st.tuples(st.builds(ContainerPart, TEXT, TEXT))


@given(st.builds(
    Event, st.just(1), st.just(NOW), TEXT, CONTAINERS, TEXT, network=TEXT, what=TEXT, reason=TEXT,
    remedy=TEXT, cause=TEXT,
))  # fmt: skip
def test_nothing_in_a_line_can_move_the_cursor(event: Event) -> None:
    assert line_for(event, colour=False).isprintable()


def chosen(*filters: str, container: str | None = None, known: bool = True) -> list[int]:
    other = Event(2, NOW, "failed", (DB,), cause="ENOSPC", annotation="io.watcher.ip")
    repaired = Event(3, NOW, "repaired", sandbox=WEB.id)
    late = Event(4, NOW, "held-too-long", (ContainerPart("/run/runc", WEB.id),), verdict="deny")
    selection = Selection(filters, container)
    if known:
        selection.learn((WEB, DB, ContainerPart("/run/runc", "0124")))
    selection.settle()
    return [e.seq for e in (ATTACHED, other, repaired, late) if selection.has(e)]


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        ([], [1, 2, 3, 4]),
        (["kind=failed"], [2]),
        (["kind=failed", "kind=repaired"], [2, 3]),
        (["kind=failed", "root=/run/runc"], []),
        (["root=/run/runc"], [1, 4]),
        (["network=default"], [1]),
        (["cause=ENOSPC"], [2]),
        (["annotation=io.watcher.ip"], [2]),
        (["verdict=deny"], [4]),
        (["container=web"], [1]),
        (["interface=netnsv0-7"], [1]),
        (["address=fd00::2"], [1]),
        (["mac=02:42:ac:13:00:02"], [1]),
        (["port=8080:80/tcp"], [1]),
        ([f"sandbox={WEB.id}"], [1, 3]),
    ],
)  # fmt: skip
def test_filters(filters: list[str], numbers: list[int]) -> None:
    assert chosen(*filters) == numbers


def test_a_container_is_an_id_a_name_or_the_beginning_of_an_id() -> None:
    assert chosen(container="db") == [2]
    assert chosen(container="WEB") == chosen(container="01234") == chosen(container=WEB.id)
    assert chosen(container="WEB") == [1, 3, 4]
    assert chosen(container="web", known=False) == [1, 3, 4]
    assert chosen(container="01234", known=False) == chosen(container="other") == []
    with pytest.raises(WatcherError, match=r'"012" is the beginning of the ids of 2 containers: 0'):
        chosen(container="012")
    with pytest.raises(UsageError, match='--container "" is no container'):
        chosen(container="")


@pytest.mark.parametrize("option", ["--since", "--container"])
def test_an_empty_option_is_not_taken_for_none(host: Host, option: str) -> None:
    done = host.watcher("events", f"{option}=", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f'watcher: {option} "" is no ')


@pytest.mark.parametrize(
    ("filter_", "said"),
    [
        ("kind", "write e.g. kind=failed"),
        ("kind=", "write e.g. kind=failed"),
        ("kin=failed", 'write "kind"'),
        ("kind=fail", 'write "failed"'),
        ("kind=held", 'write "held-too-long"'),
        ("zzz=1", f"write one of {', '.join(FIELDS)}"),
        ("\x1b=1", "no event has the key"),
    ],
)
def test_a_wrong_filter_names_the_nearest(filter_: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as error:
        Selection([filter_])
    assert str(error.value).isprintable()
