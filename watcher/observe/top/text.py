"""Text for the cells of a terminal: numbers of few digits, and names of any characters."""

from __future__ import annotations

import locale
import unicodedata
from typing import Final

HAS_ALL: Final = locale.nl_langinfo(locale.CODESET).upper() == "UTF-8"
"""Whether the terminal has every character, and not only those of ASCII."""

_MORE: Final = "…" if HAS_ALL else "~"
"""Ends a text that was cut."""

_UNITS: Final = " kMGTPEZY"
_THOUSAND: Final = 999.5  # what is rounded to a thousand
_WIDE: Final = ("W", "F")
_RIGHT_TO_LEFT: Final = ("R", "AL", "AN")
_JOINING: Final = (
    *(range(0x1160, 0x1200), range(0xD7B0, 0xD800), (0x3164, 0xFFA0)),
    *(range(0x1F1E6, 0x1F200), range(0x1F3FB, 0x1F400)),
)
"""What a terminal draws into the cells of the character before: vowels, finals and
fillers of Hangul; the letters of which two make a flag; and the colours of skin of emojis."""

_UNSURE: Final = (
    *(range(0x2630, 0x2638), range(0x268A, 0x2690)),
    *(range(0x4DC0, 0x4E00), range(0x1D300, 0x1D380)),
)
"""Signs of divination: they are wide since Unicode 16, which not every terminal has, nor Python."""


def short(value: float) -> str:
    """`value` in three digits with the prefix of a thousand, a million …: `0`, `12.3k`, `1.20M`."""
    unit = 0
    while value >= _THOUSAND and unit < len(_UNITS) - 1:
        value /= 1000
        unit += 1
    if not unit:
        return f"{value:.1f}".removesuffix(".0") if value < 9.95 else f"{value:.0f}"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}{_UNITS[unit]}"


def fitted(text: str, width: int) -> str:
    """`text` in exactly `width` cells of a terminal: cut, or with spaces behind it.

    Characters that could move anything are escaped: control characters, those that join the one
    before them, and those that are written from right to left.
    """
    found: list[str] = []
    used = cut = 0  # the cells, and the pieces of them that leave room for the mark
    for character in text:
        piece = character if _is_plain(character) else ascii(character)[1:-1]
        cells = 2 if unicodedata.east_asian_width(character) in _WIDE else 1
        used += cells if piece is character else len(piece)
        if used > width:
            return _closed(found, cut, width)
        found.append(piece)
        if used < width:
            cut = len(found)
    return "".join(found) + " " * (width - used)


def _closed(pieces: list[str], kept: int, width: int) -> str:
    """The first `kept` of `pieces`, the mark, and spaces."""
    if not width:
        return ""
    text = "".join(pieces[:kept])
    cells = sum(2 if unicodedata.east_asian_width(one) in _WIDE else 1 for one in text)
    return text + _MORE + " " * (width - cells - 1)


def _is_plain(character: str) -> bool:
    """Whether it takes cells of its own, and none but these, in the order of the text."""
    if " " <= character <= "~":
        return True
    return (
        HAS_ALL
        and character.isprintable()
        and unicodedata.category(character)[0] != "M"
        and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT
        and not any(ord(character) in part for part in (*_JOINING, *_UNSURE))
    )
