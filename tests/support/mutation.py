"""Inputs made out of real ones by changing, cutting and joining them."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random


def mutate(
    random: Random,
    data: bytearray,
    known: Sequence[bytes],
    words: Sequence[bytes],
    *,
    first: int = 0,
    lengths: Sequence[int],
) -> None:
    """Change one part of `data`, behind its `first` bytes.

    Args:
        known: inputs of which parts may be taken.
        words: what may be put anywhere.
        lengths: how many bytes are changed, each as likely as the others.
    """
    at = random.randrange(first, len(data) + 1) if len(data) >= first else 0
    length = min(random.choice(lengths), len(data) - at)
    match random.randrange(7):
        case 0:
            data[at:at] = random.choice(words)
        case 1:
            data[at : at + length] = random.choice(words)
        case 2:
            data[at : at + length] = random.randbytes(length)
        case 3:
            del data[at : at + length]
        case 4:
            data[at:at] = data[at : at + length] * random.choice((1, 2, 50))
        case 5:
            data[at : at + length] = data[at : at + length].upper()
        case 6:
            other = random.choice(known)
            data[at:] = other[random.randrange(len(other) + 1) :]
