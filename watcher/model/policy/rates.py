"""Rates and counts as users write them."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from watcher.model.errors import BadValue, quoted

_RATE: Final = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)([kMGT]|[KMGT]i)?")
_UNITS: Final = {
    "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
"""Those of a Quantity of Kubernetes (`apimachinery/pkg/api/resource`) that make sense here."""

_LEAST: Final = 8000
"""Bits a second: below it, a full packet takes longer than connections wait."""

_MOST: Final = 10**12
_MOST_CONNECTIONS: Final = 2**31
_REMEDY: Final = 'write bits a second, such as "10M" or "1.5G"'


def parse_rate(text: str) -> int:
    """The bits a second of a text such as `10M`; k, M, G and T are powers of 1000, Ki… of 1024.

    Raises:
        BadValue: it is no rate, or none that can be kept to.
    """
    match = _RATE.fullmatch(text.strip())
    if match is None:
        raise BadValue("not a rate", _REMEDY)
    rate = int(Decimal(match[1]) * _UNITS.get(match[2], 1))
    if not rate:
        raise BadValue(
            "a rate of zero lets nothing pass",
            f'{_REMEDY}; what may open no connections has io.watcher.egress = "none"',
        )
    if not _LEAST <= rate <= _MOST:
        raise BadValue(f"{quoted(text)} is not from 8k to 1T", _REMEDY)
    return rate


def rate_text(rate: int) -> str:
    """A rate as users write it: with the largest unit of 1000 that leaves a whole number."""
    for unit in ("T", "G", "M", "k"):
        if rate % _UNITS[unit] == 0:
            return f"{rate // _UNITS[unit]}{unit}"
    return str(rate)


def parse_count(text: str) -> int:
    """A number of connections.

    Raises:
        BadValue: it is none.
    """
    if re.fullmatch(r"[0-9]{1,10}", text.strip()) is None:
        raise BadValue("not a whole number", 'write one such as "20000"')
    number = int(text)
    if not number:
        raise BadValue(
            "no connection at all could be opened",
            'write a number from 1, or io.watcher.egress = "none" and io.watcher.ingress = "none"',
        )
    if number > _MOST_CONNECTIONS:
        raise BadValue(f"more than {_MOST_CONNECTIONS}", "write such a number, or none at all")
    return number
