"""What of the cluster is logged, for who runs this host: each once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from watcher.cluster.protocol import NumberRow, RefusedRow
from watcher.cluster.registry.changes import Claim, GiveBack, Lend, Take

if TYPE_CHECKING:
    from watcher.cluster.agent.look import Look
    from watcher.cluster.agent.tables import Place, Service
    from watcher.cluster.protocol import StatusRow
    from watcher.cluster.registry.changes import Change
    from watcher.log.logger import Log

_UNKNOWN: Final = "undecided"


class Journal:
    """See the module's docstring."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._kind = _UNKNOWN
        self._problem = ""
        self._away: float | None = None
        self._lost: set[Place] = set()
        self._networks: dict[str, str] = {}
        self._full = set[str]()
        self.text = ""
        """How this host stands, in a line."""

    def etcd(self, problem: str, now: float) -> None:
        """Whether etcd answers; empty if it does."""
        if problem and self._away is None:
            self._away = now
            self._log.warning("etcd does not answer, what is known stays", reason=problem)
        elif not problem and self._away is not None:
            self._log.info("etcd answers", after=round(now - self._away, 1))
            self._away = None

    def restored(self, before: int, now: int) -> None:
        """Etcd has less than was seen."""
        self._log.warning(
            "etcd was restored from an older state, or is another one; what this host has is put"
            " back", seen=before, has=now,
        )  # fmt: skip

    def looked(self, found: Look, service: Service) -> None:
        """What a look has found."""
        how = found.standing
        if how.kind in ("in", "out", "removed") and (how.kind, how.problem) != (
            self._kind, self._problem,
        ):  # fmt: skip
            if how.kind == "in" and service.host is not None:
                self._log.info(
                    "in the cluster", host=service.host.host, address=str(service.host.address)
                )
            else:
                self._log.error("this host takes no part in the cluster", reason=how.problem)
            self._kind, self._problem = how.kind, how.problem
        if found.rows is not None:
            self._look_at_lost(found, service)
            self._look_at_networks(found)

    def _look_at_lost(self, found: Look, service: Service) -> None:
        refused = {
            (row.network, row.prefix): row.reason
            for row in found.rows or ()
            if isinstance(row, RefusedRow)
        }
        for place, reason in refused.items():
            row = service.blocks.get(place)
            if row is not None and row.state == "held" and place not in self._lost:
                self._log.error("block lost", network=place[0], block=str(place[1]), reason=reason)
        self._lost = {place for place in refused if place in service.blocks}

    def _look_at_networks(self, found: Look) -> None:
        now = {row.network: row.problem for row in found.rows or () if isinstance(row, NumberRow)}
        for name, problem in now.items():
            if problem and problem != self._networks.get(name):
                self._log.error(
                    "this host takes no part in a network", network=name, reason=problem
                )
        self._networks = now

    def full(self, found: Look) -> str:
        """Why this host gets no block, if so."""
        problem = "".join(
            f"no block of network {name} is free; give it a larger subnet"
            for name in found.full[:1]
        )
        for name in found.full:
            if name not in self._full:
                self._full.add(name)
                self._log.error("no block is free", network=name)
        return problem

    def made(self, change: Change) -> None:
        """A change was made."""
        match change:
            case Take(network=network, prefix=prefix):
                self._full.discard(network)
                self._log.info("block taken", network=network, block=str(prefix))
            case Claim(network=network, prefix=prefix, counts=True):
                self._log.info("address claimed", network=network, address=str(prefix[0]))
            case GiveBack(network=network, prefix=prefix, claim=False):
                self._log.info("block given back", network=network, block=str(prefix))
            case GiveBack(network=network, prefix=prefix):
                self._log.info("address given back", network=network, address=str(prefix[0]))
            case Lend(part=part, record=record):
                self._log.info(
                    "address lent", network=part.network, address=str(part.address),
                    host=record.host,
                )  # fmt: skip
            case _:
                pass

    def status(self, status: StatusRow) -> None:
        """How this host stands."""
        self.text = status.problem or ("in the cluster" if self._kind == "in" else "")
