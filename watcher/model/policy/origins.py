"""The lists that a sandbox is held to, for people: each with where it is from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from watcher.model.keys import PREFIX

if TYPE_CHECKING:
    from watcher.model.network import Network
    from watcher.model.policy.entries import Direction
    from watcher.model.policy.limits import SandboxLimits


class Origin(Struct, frozen=True):
    """One list, and where it is written.

    Attributes:
        where: the annotation or the key of the configuration.
        entries: the entries; without any, it lets nothing pass.
    """

    where: str
    entries: tuple[str, ...]


def origins(
    direction: Direction, limits: SandboxLimits, network: Network, forced: Network | None
) -> list[Origin]:
    """The lists for the interface in `network` of a sandbox with `limits`; all have to be passed.

    `forced` is the network whose policy its root forces upon it.
    """
    own: tuple[str, ...] | None = getattr(limits, direction)
    found = []
    for one, text in ((network, ""), (forced, " (limits.policy of its root)")):
        if one is not None:
            found.append((f"network.{one.name}.{direction}{text}", getattr(one, direction)))
    found.append((f"{PREFIX}{direction}", own))
    return [Origin(where, entries) for where, entries in found if entries is not None]
