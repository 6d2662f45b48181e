"""`watcher events`: what happens, as it happens, and what has happened."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import datetime

from msgspec.structs import replace

from watcher.config.settings import Config
from watcher.feed.lines import Event, Missed, encoded
from watcher.model.errors import WatcherError, printable
from watcher.observe.following import Follower, settle
from watcher.observe.history import HistoryReader, kept
from watcher.observe.moments import moment
from watcher.observe.people import line_for
from watcher.observe.selection import Selection
from watcher.observe.stream import NotServed
from watcher.observe.waiting import Wait


def run(config: Config, options: argparse.Namespace) -> int:
    """Print the events since a moment, and where stdout is a terminal or without one, new ones.

    Raises:
        WatcherError: no service runs, or the history cannot be read.
    """
    since = None
    if options.since is not None:
        since = moment(options.since, datetime.now().astimezone())
    selection = Selection(options.filter or (), options.container)
    if since is None:
        found = _follower(config, None, selection).events()
    else:
        _require_history(config)
        found = _since(config, since, selection)
    _show(found, selection, as_json=options.json)
    return 0


def _require_history(config: Config) -> None:
    if config.events.keep == 0:
        raise WatcherError(
            "no history is kept (events.keep is 0)",
            "leave --since out for what happens from now on",
        )
    HistoryReader(config.state_dir).close()


def _since(config: Config, since: datetime, selection: Selection) -> Iterator[Event | Missed]:
    """The history, and on a terminal what follows."""
    away = None
    if sys.stdout.isatty():
        try:
            yield from _follower(config, since, selection).events()
        except NotServed as error:  # there is a history all the same
            away = error
    settle(selection, config)
    is_kept = kept(config.state_dir, config.events)
    with closing(HistoryReader(config.state_dir)) as history:
        yield from history.read(lambda seq, at: at >= since and is_kept(seq, at))
    if away is not None:
        raise away


def _follower(config: Config, since: datetime | None, selection: Selection) -> Follower:
    return Follower(config, since, selection, Wait(sys.stdout.fileno()), _tell)


def _tell(text: str) -> None:
    sys.stderr.write(f"watcher: {printable(text)}\n")
    sys.stderr.flush()


def _show(found: Iterable[Event | Missed], selection: Selection, *, as_json: bool) -> None:
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    for event in found:
        if isinstance(event, Missed) and not as_json:
            events = "event was" if event.count == 1 else "events were"
            _tell(f"{event.count} {events} missed")
        elif isinstance(event, Missed):
            _print(encoded(event))
        elif selection.has(event) and as_json:
            _print(encoded(replace(event, set=(), unset=())))  # the state is not shown
        elif selection.has(event):
            _print(f"{line_for(event, colour=colour)}\n".encode(errors="backslashreplace"))


def _print(line: bytes) -> None:
    """Print a line at once, and whatever the locale: what is printable is UTF-8."""
    sys.stdout.buffer.write(line)
    sys.stdout.flush()
