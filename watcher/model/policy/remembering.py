"""Remembers what was worked out, up to a bound of its size.

Whoever writes bundles chooses how large lists are, and how many there are one after the other. So a
bound of their number, as :func:`functools.lru_cache` has one, would be none of the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def remembering[**P, V](
    most: int, weigh: Callable[..., int]
) -> Callable[[Callable[P, V]], Callable[P, V]]:
    """Has a function remember what it has returned; the oldest is forgotten first.

    Args:
        most: what all that is remembered may weigh.
        weigh: returns the weight of a value, which it gets first, then the arguments.
    """

    def decorate(function: Callable[P, V]) -> Callable[P, V]:
        known: dict[Any, tuple[V, int]] = {}
        weight = 0

        def remembered(*args: P.args, **kwargs: P.kwargs) -> V:
            nonlocal weight
            key = (args, *kwargs.items()) if kwargs else args
            found = known.get(key)
            if found is not None:
                return found[0]
            value = function(*args, **kwargs)
            own = weigh(value, *args, **kwargs)
            if own <= most:
                known[key] = value, own
                weight += own
                while weight > most:
                    weight -= known.pop(next(iter(known)))[1]
            return value

        remembered.__doc__, remembered.__name__ = function.__doc__, function.__name__
        return remembered

    return decorate
