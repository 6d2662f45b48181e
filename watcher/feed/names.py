"""The sockets of the feed: their names in `run_dir`, and their numbers in the broker."""

from typing import Final

from watcher.model.errors import WatcherError

EVENTS: Final = "events.sock"
"""Who connects there gets the lines of :mod:`.lines`."""

ANSWERS: Final = "answers.sock"
"""There the name service hands over its answers, to have their addresses opened."""

TOLD: Final = "told.sock"
"""There the commands that change something tell the service what has happened."""

GROUP: Final = "watcher"
"""The members of this group may read the events, beside root."""

FEED: Final = 3
"""The broker's descriptor of its connection to the service."""

LISTENER: Final = 4
"""The broker's descriptor of the events socket, from which it accepts."""


def not_for_you(path: str) -> WatcherError:
    """The error of who may not connect to the socket at `path`, which is for :data:`GROUP`."""
    return WatcherError(
        f"{path} is for root and the group `{GROUP}`",
        f"be root, or have root run `usermod --append --groups {GROUP} <your name>`",
    )
