"""Every kind of fact; each is about one container, sandbox or link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from watcher.model.container import Container, Process
    from watcher.model.repair import Repair
    from watcher.model.request import PortMap
    from watcher.model.sandbox import Member, Sandbox


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that has happened."""


@dataclass(frozen=True, slots=True)
class Appeared(Fact):
    """A container without a network is to get one; published again for each attempt."""

    container: Container


@dataclass(frozen=True, slots=True)
class Attached(Fact):
    """The containers `members` have their network, that of `sandbox`."""

    sandbox: Sandbox
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Detached(Fact):
    """The containers `members` have left `sandbox`, which is given as it was before."""

    sandbox: Sandbox
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Repaired(Fact):
    """A difference was repaired."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class NotRepaired(Fact):
    """A difference cannot be repaired; published once for each cause."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class RightAgain(Fact):
    """A link that could not be repaired is as it should be."""

    link: str


@dataclass(frozen=True, slots=True)
class OfContainer(Fact):
    """Something that has happened to the container `id` of `root`."""

    root: str
    id: str


@dataclass(frozen=True, slots=True)
class Failed(OfContainer):
    """It has no network; a failure that stays the same is published once.

    Attributes:
        init: its first process, if known.
        key, value: the annotation at fault; empty if none is.
        reason: why, with the remedy.
        refused: whether its start was denied.
    """

    init: Process | None
    key: str
    value: str
    reason: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Unread(OfContainer):
    """It keeps its network, though its files can no longer be read."""

    reason: str


@dataclass(frozen=True, slots=True)
class Moved(OfContainer):
    """Its init has left the network namespace that has its network."""


@dataclass(frozen=True, slots=True)
class BundleChanged(OfContainer):
    """Its runtime read another `config.json` than the gate did."""


@dataclass(frozen=True, slots=True)
class RequestChanged(OfContainer):
    """Its request has changed from `before`, and is met anew."""

    before: tuple[PortMap, ...]


@dataclass(frozen=True, slots=True)
class HeldTooLong(OfContainer):
    """The gate's deadline passed before its network was ready. Published by the gate's thread."""

    timeout: float
    verdict: str


@dataclass(frozen=True, slots=True)
class NotHeld(OfContainer):
    """It could not be held: too many bundles are on file systems that do not answer."""

    verdict: str


@dataclass(frozen=True, slots=True)
class Evaded(OfContainer):
    """It started in a root with a gate, but was not held."""
