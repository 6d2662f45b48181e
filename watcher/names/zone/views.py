"""Views: what those who ask can see, and the answers that were made for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.names.opening.limits import NameLimits
    from watcher.names.zone.answer import Answer
    from watcher.names.zone.segments import Segment


type Use = bytes | str
"""What an answer follows from: what is called so, in lower case; or who has that address."""

_OF_ONE_USE: Final = 64
"""Answers that follow from one name: what is dropped at once when that changes. There are few
kinds of questions, but whoever asks may write a name in capitals in very many ways."""

_OVERHEAD: Final = 450
"""Bytes that an answer takes beside its key and itself, in dictionaries and objects."""


class View:
    """What sandboxes see that ask in one network and have the same networks.

    Args:
        segments: the networks.
        share: how many bytes of answers it may keep at present.

    Attributes:
        segments: the networks in it; first that in which they ask.
        by_name: the networks by their names in lower case.
        forwards: whether other questions may go out: not all its networks are internal.
        answers: the answers that were made, by the question (:attr:`Query.key`).
        users: how many sandboxes have it.
    """

    __slots__ = (
        "_bytes", "_share", "_uses", "answers", "by_name", "forwards", "segments", "users",
    )  # fmt: skip

    def __init__(self, segments: Iterable[Segment], share: Callable[[], int]) -> None:
        self.segments = tuple(segments)
        self.by_name: dict[bytes, list[Segment]] = {}
        for segment in self.segments:
            self.by_name.setdefault(segment.label, []).append(segment)
        self.forwards = not all(segment.internal for segment in self.segments)
        self.answers: dict[bytes, Answer] = {}
        self.users = 0
        self._uses: dict[Use, set[bytes]] = {}
        self._share = share
        self._bytes = 0

    def keep(self, key: bytes, answer: Answer) -> None:
        """Keep `answer` until something that it follows from changes; the oldest make room."""
        if key in self.answers:  # the question had options of EDNS
            return
        most = self._share()
        if _size(key, answer) > most // 4:
            return
        if any(len(self._uses.get(use, ())) >= _OF_ONE_USE for use in answer.uses):
            return
        self._bytes += _size(key, answer)
        while self._bytes > most and self.answers:
            self._take(next(iter(self.answers)))
        self.answers[key] = answer
        for use in answer.uses:
            self._uses.setdefault(use, set()).add(key)

    def drop(self, use: Use) -> None:
        """Forget what follows from `use`, which has changed."""
        for key in tuple(self._uses.get(use, ())):
            self._take(key)

    def clear(self) -> None:
        """Forget all answers."""
        self.answers.clear()
        self._uses.clear()
        self._bytes = 0

    def _take(self, key: bytes) -> None:
        answer = self.answers.pop(key)
        self._bytes -= _size(key, answer)
        for use in answer.uses:
            keys = self._uses[use]
            keys.discard(key)
            if not keys:
                del self._uses[use]


def _size(key: bytes, answer: Answer) -> int:
    return len(key) + answer.length + _OVERHEAD


class Asker:
    """Who asks from one address, or from several of one sandbox in one network.

    Attributes:
        key: what it is told from others by, where questions at once are bounded.
        view: what it sees.
        forwards: whether its other questions may go to somebody else.
        is_host: it is the host itself.
        servers: who is asked for it; empty: those of the configuration; `None`: nobody.
        limits: which names it may ask for, if its lists of `egress` have names.
        hostnames: its own, and whether each counts whatever others are called.
        v4, v6: its own addresses, which these stand for.
        wires: these as they stand in a question, in lower case, also in the domain.
        answers: the answers that were made for it alone.
    """

    __slots__ = (
        "answers", "forwards", "hostnames", "is_host", "key", "limits", "servers", "v4", "v6",
        "view", "wires",
    )  # fmt: skip

    def __init__(
        self,
        key: str,
        view: View,
        *,
        is_host: bool = False,
        servers: tuple[str, ...] | None = (),
        limits: NameLimits | None = None,
        hostnames: dict[bytes, bool] | None = None,
        wires: frozenset[bytes] = frozenset(),
        v4: tuple[bytes, ...] = (),
        v6: tuple[bytes, ...] = (),
    ) -> None:
        self.key = key
        self.view = view
        self.forwards = view.forwards and not is_host
        self.is_host = is_host
        self.servers = servers
        self.limits = limits
        self.hostnames = hostnames or {}
        self.wires = wires
        self.v4 = v4
        self.v6 = v6
        self.answers: dict[bytes, Answer] = {}
