"""Every kind of fact: frozen, and about one container, sandbox or link."""

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
    """The containers `members` have their network, which is that of `sandbox`."""

    sandbox: Sandbox
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Detached(Fact):
    """The containers `members` have left `sandbox`, as it was before."""

    sandbox: Sandbox
    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class Repaired(Fact):
    """Something was not as it should be, and was put right."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class NotRepaired(Fact):
    """Something is not as it should be, and cannot be put right; published once for a cause."""

    repair: Repair


@dataclass(frozen=True, slots=True)
class RightAgain(Fact):
    """A link that could not be put right is as it should be."""

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
        init: its first process; `None` if it is not known.
        key, value: the annotation that is at fault; empty if none is.
        reason: why, with what to do about it.
        refused: whether its start was denied.
    """

    init: Process | None
    key: str
    value: str
    reason: str
    refused: bool


@dataclass(frozen=True, slots=True)
class Unread(OfContainer):
    """It keeps its network, though its files cannot be read any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Moved(OfContainer):
    """Its init has left the network namespace that has its network."""


@dataclass(frozen=True, slots=True)
class BundleChanged(OfContainer):
    """Its runtime read another `config.json` than the gate did."""


@dataclass(frozen=True, slots=True)
class RequestChanged(OfContainer):
    """It asks for something else than `before`, and gets that instead."""

    before: tuple[PortMap, ...]


@dataclass(frozen=True, slots=True)
class HeldTooLong(OfContainer):
    """Its start was still held when its time was over. Published by the gate's own thread."""

    timeout: float
    verdict: str


@dataclass(frozen=True, slots=True)
class NotHeld(OfContainer):
    """Its start could not be held: too many bundles are on file systems that do not answer."""

    verdict: str


@dataclass(frozen=True, slots=True)
class Evaded(OfContainer):
    """It started in a root that is held, and was not held."""
