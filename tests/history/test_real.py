"""`watcher events` and the history beside a real service and real containers."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from tests.history.played import Watching
from tests.support.brokers import broker
from tests.support.host import Host
from tests.support.waiting import eventually
from watcher.feed.history import NEWER, last_seq
from watcher.feed.lines import AnyLine, Event

_decode = msgspec.json.Decoder(AnyLine).decode


@contextmanager
def watching(host: Host) -> Iterator[Watching]:
    """`watcher events` on the host, in front of a terminal: all that has happened, and happens."""
    command = host.watcher_command("events", "--json", "--since", "1h")
    with Watching(command, terminal=True, host=host) as found:
        yield found


def kept(host: Host) -> list[Event]:
    lines = (host.state_dir / NEWER).read_bytes().splitlines()
    return [event for line in lines if isinstance(event := _decode(line), Event)]


def until(watching: Watching, kind: str, container: str) -> list[Event]:
    """Reads until there is such an event."""
    seen: list[Event] = []
    while not seen or seen[-1].kind != kind or container not in [c.id for c in seen[-1].containers]:
        event = _decode(watching.line())
        assert isinstance(event, Event), event
        seen.append(event)
    return seen


def test_what_happens_and_what_has_happened(served: Host) -> None:
    with watching(served) as live:
        served.attach("web", annotations={"io.watcher.name": "www"})
        (attached,) = until(live, "attached", "web")
        assert attached.containers[0].names == ("www",)
        served.watcher("publish", "www", "8080:80")
        assert until(live, "published", "web")[-1].ports == ("8080:80/tcp",)
        asks = {"io.watcher.network": "nowhere"}
        assert served.run_to_end("bad", ["true"], annotations=asks, check=False).returncode != 0
        until(live, "refused", "bad")
        served.kill("web")
        last = until(live, "detached", "web")[-1]
        assert live.ends(signal.SIGINT) == 130
    eventually(lambda: last_seq(str(served.state_dir)) >= last.seq)
    done = served.watcher("events", "--since", "1h", "--json", "--filter", "kind=refused")
    (line,) = map(json.loads, done.stdout.splitlines())
    assert line["containers"][0]["id"] == "bad"
    lines = served.watcher("events", "--since=1h", "--container=www").stdout.splitlines()
    # Whether a sync is the first to see that it has ended, which is a repair as well, is by chance.
    assert [line.split()[2:4] for line in lines if " repaired " not in line] == [
        ["attached", "www"], ["published", "www"], ["detached", "www"],
    ]  # fmt: skip


def test_no_gap_and_no_double_through_restarts_and_kills(host: Host) -> None:
    """What the service had sent and not written when it was killed is seen, and is no history."""
    service = host.service()
    seen: list[Event] = []
    with watching(host) as live:
        host.attach("a")
        seen += until(live, "attached", "a")
        service.restart()
        host.kill("a")
        seen += until(live, "detached", "a")
        os.kill(eventually(lambda: broker(service)), signal.SIGKILL)
        host.run_to_end("b", ["true"])
        seen += until(live, "detached", "b")
        host.run("c")
        service.kill9()
        service.start()
        host.attach("d")
        seen += until(live, "attached", "d")
        last = seen[-1].seq
        eventually(lambda: last_seq(str(host.state_dir)) >= last)
    in_history = [(event.seq, event.time) for event in kept(host) if event.seq <= last]
    shown = [(event.seq, event.time) for event in seen]
    assert len(set(shown)) == len(shown)
    assert [event for event in shown if event in set(in_history)] == in_history
    assert [seq for seq, _ in in_history] == list(range(1, last + 1))
