"""What is on the screen: the lines of a picture, and what each key changes about them."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from watcher.observe.top.columns import columns, header, layout, line
from watcher.observe.top.rates import NOTHING, Row, rows, whole
from watcher.observe.top.text import fitted, short

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.observe.top.rates import Figures, Sample

DELAY: Final = 2.0
"""Seconds between two pictures."""

_LEAST_DELAY: Final = 1.0  # the counters are read once a second at the most
_MOST_DELAY: Final = 3600.0
_HEAD: Final = 3  # lines above the rows
_DIGITS: Final = 8  # of a delay that is typed

HELP: Final = (
    "T  sort by all traffic            C  sort by container",
    "I  sort by what comes in          N  sort by network",
    "O  sort by what goes out          A  sort by address",
    "P  sort by packets                R  the other way round",
    "D  sort by drops",
    "",
    "i  each interface by itself       b  bits or bytes",
    "d  seconds between two pictures   space  one now",
    "up, down, page up, page down, home, end",
    "h  this                           q  the end",
    "",
    "In is what the container receives, out is what it sends.",
)
_KEYS: Final = "q end  h help  sort: T I O P D C N A  R reverse  i interfaces  b bits or bytes"


class Sort(Struct, frozen=True):
    """An order of the rows.

    Attributes:
        word: what it sorts by.
        key: of a row.
        down: whether the greatest comes first.
    """

    word: str
    key: Callable[[Row], Any]
    down: bool = False


def _by(of: Callable[[Figures], object]) -> Callable[[Row], object]:
    return lambda row: of(row.rates or NOTHING)


SORTS: Final = {
    "T": Sort("traffic", _by(lambda of: of.received + of.sent), down=True),
    "I": Sort("in", _by(attrgetter("received")), down=True),
    "O": Sort("out", _by(attrgetter("sent")), down=True),
    "P": Sort("packets", _by(attrgetter("packets")), down=True),
    "D": Sort("drops", _by(attrgetter("dropped")), down=True),
    "C": Sort("container", attrgetter("container")),
    "N": Sort("network", attrgetter("network")),
    "A": Sort("address", lambda row: (len(row.address.partition(",")[0]), row.address)),
}
"""By key. A longer address is a higher one, more or less; no address is parsed for this."""


class Screen(Struct, frozen=True):
    """The lines of a screen; each has as many cells as the screen is wide."""

    head: tuple[str, ...]
    titles: str
    body: tuple[str, ...]
    foot: str


class View:
    """The state of the screen.

    Attributes:
        delay: seconds between two pictures.
        message: what the user has to know, in place of the keys.
    """

    def __init__(self) -> None:
        self.delay = DELAY
        self.message = ""
        self._sort, self._reversed = "T", False
        self._bits, self._apart, self._help = True, False, False
        self._typed: str | None = None  # a delay that is being typed
        self._first = 0  # the row at the top
        self._page = 1
        self._now: Sample | None = None
        self._before: Sample | None = None
        self._rows: list[Row] = []
        self._sum = NOTHING

    def take(self, sample: Sample) -> None:
        """Show the traffic since the sample before."""
        if self._now is None or sample.at > self._now.at:
            self._before = self._now
        self._now = sample
        self.message = ""
        self._arrange(anew=True)

    def press(self, key: str) -> bool:
        """Do what `key` asks for; whether the program goes on."""
        if self._typed is not None:
            self._type(key)
        elif self._help:
            self._help = False
        elif key in SORTS:
            self._sort, self._reversed, self._first = key, False, 0
            self._arrange()
        elif key == "q":
            return False
        else:
            self._change(key)
        return True

    def screen(self, height: int, width: int, clock: str) -> Screen:
        """The lines for so many lines and cells, at the time of day `clock`."""
        self._page = max(1, height - _HEAD - 1)
        self._first = max(0, min(self._first, len(self._rows) - self._page))
        laid_out = layout(columns(bits=self._bits), width)
        shown = self._rows[self._first : self._first + self._page]
        body = HELP if self._help else tuple(line(laid_out, row) for row in shown)
        return Screen(
            tuple(fitted(text, width) for text in (self._title(clock), self._sums())),
            fitted(header(laid_out), width),
            tuple(fitted(text, width) for text in body[: self._page]),
            fitted(self._foot(), width),
        )

    def _change(self, key: str) -> None:
        match key:
            case "R":
                self._reversed, self._first = not self._reversed, 0
                self._arrange()
            case "i":
                self._apart, self._first = not self._apart, 0
                self._arrange(anew=True)
            case "b":
                self._bits = not self._bits
            case "d" | "s":
                self._typed = ""
            case "h" | "?":
                self._help = True
            case "up" | "down" | "page up" | "page down" | "home" | "end":
                self._scroll(key)

    def _scroll(self, key: str) -> None:
        far = len(self._rows)
        by = {"up": -1, "down": 1, "page up": -self._page, "page down": self._page}
        self._first = max(0, min(self._first + by.get(key, -far if key == "home" else far), far))

    def _type(self, key: str) -> None:
        typed = self._typed or ""
        match key:
            case "enter":
                self._typed = None
                self._set_delay(typed)
            case "backspace":
                self._typed = typed[:-1]
            case "escape":
                self._typed = None
            case _ if key in "0123456789." and len(typed) < _DIGITS:
                self._typed = typed + key

    def _set_delay(self, typed: str) -> None:
        if not typed:
            return
        try:
            seconds = float(typed)
        except ValueError:
            self.message = f"{typed} is no number of seconds"
            return
        self.delay = min(max(seconds, _LEAST_DELAY), _MOST_DELAY)

    def _arrange(self, *, anew: bool = False) -> None:
        if self._now is None:
            return
        if anew:
            self._rows = rows(self._now, self._before, apart=self._apart)
            self._rows.sort(key=attrgetter("container", "key"))
            self._sum = whole(self._rows)
        sort = SORTS[self._sort]
        self._rows.sort(key=sort.key, reverse=sort.down != self._reversed)

    def _title(self, clock: str) -> str:
        if self._now is None:
            return f"watcher top  {clock}"
        picture = self._now.picture
        containers = sum(len(sandbox.containers) for sandbox in picture.sandboxes.values())
        failed = f", {len(picture.failures)} failed" if picture.failures else ""
        plural = "" if containers == 1 else "s"
        return f"watcher top  {clock}  {containers} container{plural}{failed}"

    def _sums(self) -> str:
        of = self._sum
        unit, factor = ("bit/s", 8) if self._bits else ("B/s", 1)
        return (
            f"in {short(of.received * factor)} out {short(of.sent * factor)} {unit}"
            f"  {short(of.packets)} packet/s  {short(of.dropped)} drop/s"
            f"  by {SORTS[self._sort].word}{' reversed' if self._reversed else ''}"
            f", every {self.delay:g} s"
        )

    def _foot(self) -> str:
        if self._typed is not None:
            return f"seconds between two pictures (now {self.delay:g}): {self._typed}"
        return self.message or _KEYS
