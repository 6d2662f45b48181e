"""Rates and counts as users write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from watcher.model.errors import BadValue, quoted

_RATE: Final = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)([kMGT]?)")
_UNITS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_LEAST: Final = 8000
"""Bits a second: below it, a full packet takes longer than connections wait."""

_MOST: Final = 10**12
_MOST_CONNECTIONS: Final = 2**31
_REMEDY: Final = 'write bits a second, such as "10M" or "1.5G"'


def parse_rate(text: str) -> int:
    """The bits a second of a text such as `10M`; k, M, G and T are powers of 1000.

    Raises:
        BadValue: it is no rate, or none that can be kept to.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise BadValue("not a rate", _REMEDY)
    rate = int(Decimal(match[1]) * _UNITS[match[2]])
    if not _LEAST <= rate <= _MOST:
        raise BadValue(f"{quoted(text)} is not from 8k to 1T", _REMEDY)
    return rate


def parse_count(text: str) -> int:
    """A number of connections.

    Raises:
        BadValue: it is none.
    """
    if re.fullmatch(r"[0-9]{1,10}", text.strip()) is None:
        raise BadValue("not a whole number", 'write one such as "20000"')
    number = int(text)
    if not 1 <= number <= _MOST_CONNECTIONS:
        raise BadValue(f"{number} is not from 1 to {_MOST_CONNECTIONS}", "write such a number")
    return number
