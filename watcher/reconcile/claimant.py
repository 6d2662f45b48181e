"""Who claims addresses of clustered networks that are in no block of this host."""

from __future__ import annotations

from typing import Protocol

from watcher.model.errors import Unclaimed


class Claimant(Protocol):
    """Where an address is claimed that a container asks for."""

    def claim(self, wanted: Unclaimed) -> None:
        """Have the address claimed; who asks again once it is granted gets it.

        Raises:
            Unclaimed: it cannot be claimed, with the reason.
        """


class NoService:
    """Claims nothing: this process is a command, and only the service can claim."""

    def claim(self, wanted: Unclaimed) -> None:
        """Say so."""
        why = "is in no block of this host, and only the service claims one as a container starts"
        raise Unclaimed(wanted.network, wanted.address, wanted.value, why)
