"""Pauses between tries that fail: each is twice as long as the one before."""

from __future__ import annotations


def longer(pause: float, bounds: tuple[float, float]) -> float:
    """The pause after `pause`, which is 0 at first; `bounds` are the first and the longest."""
    first, longest = bounds
    return min(max(pause * 2, first), longest)
