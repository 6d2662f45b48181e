"""Numbers of lists as nft(8) writes values of type classid, which `meta priority` is of."""

from __future__ import annotations


def classid(number: int) -> str:
    """A number as nft writes it."""
    return f"{number >> 16:x}:{number & 0xFFFF:x}"


def number_of(text: str) -> int:
    """The number that nft lists so."""
    if text == "root":
        return 0xFFFFFFFF
    if text == "none":
        return 0
    high, _, low = text.partition(":")
    return int(high or "0", 16) << 16 | int(low or "0", 16)
