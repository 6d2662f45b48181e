"""Which addresses are wanted, for how long, and who is told that one is refused."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from watcher.clustering.claims import GRACE, PATIENCE, Claims
from watcher.model.cluster import claim_of
from watcher.model.errors import Unclaimed

ADDRESS = ip_address("10.9.200.7")
KEY = ("default", claim_of(ADDRESS))
WANTED = Unclaimed("default", ADDRESS, str(ADDRESS))


class Clock:
    """The loop's."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def claims(clock: Clock) -> Claims:
    return Claims(clock)


def test_who_waits_is_told_once_that_it_is_refused(claims: Claims) -> None:
    assert claims.want(WANTED)
    assert claims.refuse(*KEY, 'host "b" has it')
    assert not claims.refuse(*KEY, "nobody waits")
    with pytest.raises(Unclaimed, match='host "b" has it'):
        claims.want(WANTED)
    assert claims.want(WANTED)


def test_an_old_refusal_is_told_to_nobody(claims: Claims, clock: Clock) -> None:
    """Its container was killed as it waited; another one asks later, when the address is free."""
    claims.want(WANTED)
    claims.refuse(*KEY, 'host "b" has it')
    clock.now += PATIENCE + 0.1
    assert claims.want(WANTED)
    assert claims.wants(*KEY)


def test_who_has_waited_for_long_enough_does_so_no_more(claims: Claims, clock: Clock) -> None:
    claims.want(WANTED)
    assert claims.due() == GRACE
    clock.now += GRACE / 2
    claims.want(WANTED)
    assert not claims.give_up()
    assert claims.due() == GRACE / 2
    clock.now += GRACE / 2
    assert claims.give_up()
    assert not claims.wants(*KEY)
    assert claims.due() is None


def test_nobody_wants_it_for_ever(claims: Claims, clock: Clock) -> None:
    claims.want(WANTED)
    clock.now += GRACE
    due = claims.due()
    assert due is not None
    assert due == PATIENCE - GRACE
    clock.now += due
    assert not claims.lapse()
