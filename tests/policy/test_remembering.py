"""What is remembered of lists has a bound, however large those are that bundles have."""

from __future__ import annotations

import pytest

from watcher.model.network import Network
from watcher.model.policy.access import MAX_BOXES, MOST_ENTRIES, AccessList, access
from watcher.model.policy.entries import MAX_ENTRIES, checked
from watcher.model.policy.limits import SandboxLimits
from watcher.model.policy.remembering import remembering


def test_the_oldest_is_forgotten_first() -> None:
    made: list[int] = []

    @remembering(10, lambda found, _: len(found))
    def several(number: int) -> list[int]:
        made.append(number)
        return [number] * number

    assert several(4) is several(4)
    assert several(6) is several(6)
    assert several(1) == [1]
    assert several(6) == [6] * 6
    assert made == [4, 6, 1]
    several(4)
    assert made == [4, 6, 1, 4], "it was the oldest"
    several(11)
    several(11)
    assert made == [4, 6, 1, 4, 11, 11], "it is more than all that may be remembered"
    with pytest.raises(ZeroDivisionError):
        remembering(1, lambda _: 1)(lambda: 1 // 0)()


def test_lists_of_those_who_have_gone_are_forgotten() -> None:
    network = Network()

    def large(number: int) -> AccessList | None:
        texts = [f"10.{number >> 8}.{number & 255}.{n}:{n + 1}" for n in range(MAX_ENTRIES)]
        return access("egress", SandboxLimits(egress=checked(texts, "egress")), network, None)

    first = large(0)
    assert first is not None
    assert len(first.boxes(4)) <= MAX_BOXES
    assert large(0) is first
    kept = [large(number) for number in range(1, MOST_ENTRIES // MAX_ENTRIES + 2)]
    assert len(kept) > 1000
    assert large(0) is not first
