"""Addresses outside of this host's blocks that containers and commands wait for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from watcher.model.cluster import claim_of
from watcher.model.errors import Unclaimed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from watcher.model.address import Address, Subnet

PATIENCE: Final = 10.0
"""Seconds that a claim is wanted, or kept, after a container that starts has asked for it last."""

GRACE: Final = 3.0
"""Seconds that a container waits although nothing is granted at present: etcd may be choosing its
leader. `watcher cluster` refuses by itself, after 3 or 4, what cannot be granted."""

MOST: Final = 1024
"""The most claims that are wanted at a time."""


def not_granted(reason: str) -> str:
    """Why an address is refused that the registry does not grant, as the end of a sentence."""
    return f"cannot be claimed: {reason}"


class _Wanted(Struct):
    """What containers that start want: since when they wait, and until when it is wanted."""

    since: float
    until: float


class Claims:
    """Those that are wanted, and why others were refused.

    Args:
        now: the loop's clock.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._wanted: dict[tuple[str, Subnet], _Wanted] = {}
        self._kept: Counter[tuple[str, Subnet]] = Counter()
        """How many commands want each."""
        self._refused: dict[tuple[str, Subnet], tuple[str, float]] = {}
        """Why, and until when that is told: who has waited for it may have ended, and asks no more.
        """

    def want(self, wanted: Unclaimed) -> bool:
        """Want an address from now on; returns whether it was not wanted before.

        Raises:
            Unclaimed: it was refused, which is forgotten then; or too many are wanted.
        """
        key = (wanted.network, claim_of(wanted.address))
        known, now = self._wanted.get(key), self._now()
        reason, until = self._refused.pop(key, ("", now))
        if until < now:
            reason = ""
        if not reason and known is None and len(self._wanted) >= MOST:
            reason = "is not claimed, because very many others are waited for"
        if reason:
            raise Unclaimed(wanted.network, wanted.address, wanted.value, reason)
        if known is None:
            self._wanted[key] = _Wanted(now, now + PATIENCE)
        else:
            known.until = now + PATIENCE
        return known is None

    def keep(self, network: str, address: Address) -> None:
        """Want an address for a command, until :meth:`let_go`."""
        self._kept[network, claim_of(address)] += 1

    def let_go(self, network: str, address: Address) -> None:
        """The command has got it, or wants it no more."""
        key = (network, claim_of(address))
        self._kept[key] -= 1
        if not self._kept[key]:
            del self._kept[key]

    def refuse(self, network: str, prefix: Subnet, reason: str) -> bool:
        """Tell a container that waits for it why it is not granted; returns whether one does."""
        if self._wanted.pop((network, prefix), None) is None:
            return False
        self._refused[network, prefix] = reason, self._now() + PATIENCE
        return True

    def give_up(self) -> bool:
        """Nothing is granted at present: want no more what containers have waited for long enough.

        Returns whether there are such. They ask again, and are told why.
        """
        late = [key for key, one in self._wanted.items() if one.since + GRACE <= self._now()]
        for key in late:
            del self._wanted[key]
        return bool(late)

    def met(self, network: str, address: Address) -> None:
        """A container has that address: nobody waits for it any more."""
        self._wanted.pop((network, claim_of(address)), None)

    def wants(self, network: str, prefix: Subnet) -> bool:
        """Whether somebody waits for it, or has lately."""
        if (network, prefix) in self._kept:
            return True
        wanted = self._wanted.get((network, prefix))
        return wanted is not None and wanted.until > self._now()

    def lapse(self) -> Iterable[tuple[str, Subnet]]:
        """Forget those that nobody waits for any more, and old refusals; returns the rest."""
        now = self._now()
        for key in [key for key, one in self._wanted.items() if one.until <= now]:
            del self._wanted[key]
        for key in [key for key, (_, until) in self._refused.items() if until < now]:
            del self._refused[key]
        return self._wanted.keys() | self._kept.keys()

    def due(self) -> float | None:
        """Seconds until a container has waited long enough, or nobody waits any more, if so."""
        now = self._now()
        times = [
            one.until if one.since + GRACE <= now else one.since + GRACE
            for one in self._wanted.values()
        ]
        return max(0.0, min(times) - now) if times else None
