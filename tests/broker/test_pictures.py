"""Pictures of the past, in random histories: each is as it was, or not to be had any more."""

from __future__ import annotations

import random
from itertools import count

import pytest

from watcher.observe.broker import ring
from watcher.observe.broker.pictures import Pictures


def whole(pictures: Pictures, seq: int, most: int) -> dict[str, bytes]:
    """The picture after the event `seq`, read in parts of `most` lines."""
    found: dict[str, bytes] = {}
    after = ""
    while True:
        keys, lines = pictures.part(after, seq, most)
        assert len(keys) == len(lines) <= most
        if not keys:
            return found
        assert sorted(keys) == keys
        found |= dict(zip(keys, lines, strict=True))
        after = keys[-1]


@pytest.mark.parametrize("seed", range(20))
def test_each_picture_is_as_it_was(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(ring, "EVENTS", 20)
    monkeypatch.setattr(ring, "BYTES", chance.choice((200, 2000, 1 << 20)))
    names = [f"sandbox/{number}" for number in range(8)]
    pictures, number = Pictures(), count()
    pictures.begin()
    pictures.end(0)
    now: dict[str, bytes] = {}
    were = {0: dict(now)}
    for seq in range(1, 200):
        gone = chance.sample(names, k=chance.randrange(3))
        new = [
            (key, b"%d" % next(number) * chance.randrange(1, 40))
            for key in chance.choices(names, k=chance.randrange(3))
        ]
        pictures.change(seq, b"event %d" % seq, new, gone)
        now = {key: line for key, line in now.items() if key not in gone} | dict(new)
        were[seq] = dict(now)
        if chance.random() < 0.1:
            correct(pictures, now, chance)
            if pictures.ring.first > seq:
                were = {seq: dict(now)}
        assert pictures.ring.next == seq + 1
        for old in range(pictures.ring.first - 1, seq + 1):
            assert whole(pictures, old, chance.randrange(1, 9)) == were[old]
        assert len(pictures.ring.since(pictures.ring.first)) == seq + 1 - pictures.ring.first


def correct(pictures: Pictures, now: dict[str, bytes], chance: random.Random) -> None:
    """Have a pass that perhaps corrects something."""
    if chance.random() < 0.5 and now:
        now[chance.choice(sorted(now))] = b"corrected %d" % pictures.seq
    epoch, changed = pictures.epoch, whole(pictures, pictures.seq, 100) != now
    pictures.begin()
    for key, line in now.items():
        pictures.tell(key, line)
    pictures.end(pictures.seq)
    assert (pictures.epoch > epoch) == changed
