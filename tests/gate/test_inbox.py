"""A queue of calls for the thread that waits for its descriptor."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest

from watcher.gate.inbox import Inbox


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    inbox = Inbox()
    yield inbox
    inbox.close()


def readable(inbox: Inbox) -> bool:
    return bool(select.select([inbox.fileno()], [], [], 0)[0])


def fail() -> None:
    raise RuntimeError


def test_calls_run_in_their_order(inbox: Inbox) -> None:
    done: list[int] = []
    for number in range(3):
        inbox.put(done.append, number)
    assert inbox.waiting
    assert readable(inbox)
    inbox.run()
    assert done == [0, 1, 2]
    assert (inbox.waiting, readable(inbox)) == (False, False)


def test_calls_that_ran_early_do_not_run_again(inbox: Inbox) -> None:
    done: list[int] = []
    inbox.put(done.append, 1)
    inbox.run_any()
    inbox.run_any()  # the loop had seen already that it was readable
    assert done == [1]


def test_what_follows_a_call_that_raises_is_not_lost(inbox: Inbox) -> None:
    done: list[int] = []
    inbox.put(fail)
    inbox.put(done.append, 1)
    with pytest.raises(RuntimeError):
        inbox.run_any()
    assert readable(inbox)
    inbox.run_any()
    assert done == [1]
