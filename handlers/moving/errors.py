"""What can go wrong with a move."""

from __future__ import annotations

from watcher.model.errors import WatcherError


class CannotMove(WatcherError):
    """An init cannot be moved. Nothing has changed: it is where it was, and as it was.

    Args:
        what: the reason, about the init or the host, without the container's name.
        remedy: what to do about it, as an imperative; empty if only `watcher bundle` helps.
    """


class HalfMoved(WatcherError):
    """An init was killed in the middle of its move, so that it starts nowhere.

    Args:
        what: the reason, without the container's name.
        remedy: what to do about it, as an imperative.
    """
