"""The firewall: this program's nftables tables, as they should be for all sandboxes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

import msgspec

from handlers.context import Context
from handlers.firewall import elements, ruleset
from handlers.firewall.ruleset import TABLES
from handlers.handler import Difference, Handler, apply
from handlers.kernel.nft import Element, Nft, NftError, NotThere, commands
from handlers.networks import all_drivers
from watcher.model.address import Address
from watcher.model.errors import WatcherError
from watcher.model.network import Network
from watcher.model.repair import Repair
from watcher.model.sandbox import Member, Sandbox, without

_NOTE: Final = "ruleset"
"""The note with the digest of the complete tables as nftables lists them."""


class FirewallHandler(Handler):
    """Owns the tables named `watcher`: port maps, masquerade, the forward policy and the guard."""

    def __init__(self, context: Context) -> None:
        self._nft = Nft()
        self._drivers = context.drivers
        self._notes = context.notes
        self._sandboxes = context.sandboxes

    def appear(self, sandbox: Sandbox) -> None:
        """Add the elements of `sandbox` in one transaction; make missing tables."""
        wanted = elements.of_sandbox(sandbox, self._drivers)
        if not wanted:
            return
        add = commands("add", wanted)
        try:
            self._nft.run(add)
        except NotThere:
            self._rebuild_with(wanted)
        except NftError:
            # An element with another value is in the way, left behind by a killed predecessor, or
            # a range of the same sandbox that this one extends.
            beside = self._overlapping(wanted)
            self._nft.run(commands("destroy", (*wanted, *beside)) + add)

    def appear_all(self, sandboxes: Mapping[int, Sandbox]) -> dict[int, WatcherError | OSError]:
        """Add the elements of all `sandboxes` in one transaction; if it fails, those of each."""
        wanted: dict[Element, None] = {}
        for sandbox in sandboxes.values():
            wanted |= elements.of_sandbox(sandbox, self._drivers)
        if len(sandboxes) < 2 or not wanted:
            return super().appear_all(sandboxes)
        try:
            self._nft.run(commands("add", sorted(wanted)))
        except NotThere:
            self._rebuild_with(wanted)
        except NftError:
            return super().appear_all(sandboxes)
        return {}

    def _rebuild_with(self, wanted: dict[Element, None]) -> None:
        """Make missing tables, with `wanted` and the elements of all sandboxes of the store."""
        for other in self._sandboxes():
            wanted |= elements.of_sandbox(other, self._drivers)
        self._rebuild(wanted)

    def vanish(self, sandbox: Sandbox, leaving: Sequence[Member]) -> None:
        """Remove the elements that `sandbox` no longer needs, in one transaction."""
        there = elements.of_sandbox(sandbox, self._drivers)
        rest = without(sandbox, leaving)
        wanted = {} if rest is None else elements.of_sandbox(rest, self._drivers)
        text = commands("destroy", (e for e in there if e not in wanted))
        # A range that becomes shorter is replaced.
        text += commands("add", (e for e in wanted if e not in there))
        if text:
            try:
                self._nft.run(text)
            except NotThere:  # the table is gone, and so are its elements
                return

    def sync(self, sandboxes: Sequence[Sandbox], *, dry_run: bool) -> list[Repair]:
        """Make the tables hold the rules and exactly the elements of `sandboxes`."""
        return apply(self._differences(sandboxes), dry_run=dry_run)

    def remove(self, networks: Iterable[Network]) -> list[str]:  # noqa: ARG002
        """Delete the tables."""
        there = [t for t in TABLES if self._nft.listing(*t) is not None]
        if there:
            self._nft.run("".join(f"destroy table {f} {t}\n" for f, t in there))
        self._notes.erase(_NOTE)
        return [f"removed table {family} {table}" for family, table in there]

    def guarded(self) -> dict[str, tuple[Address, ...]]:
        """The addresses that the guard allows each host end, except unguarded ones."""
        owners = {name for driver in all_drivers() for name in driver.rules.owners}
        found: dict[str, list[Address]] = {}
        for element in _elements(self._nft.listing(*table) for table in TABLES):
            if element.name in owners:
                address = ip_address(element.key[-1])
                if not address.is_link_local:
                    found.setdefault(element.key[0].strip('"'), []).append(address)
        return {name: tuple(addresses) for name, addresses in found.items()}

    def _differences(self, sandboxes: Sequence[Sandbox]) -> Iterator[Difference]:
        wanted: dict[Element, str] = {}
        for sandbox in sandboxes:
            wanted |= dict.fromkeys(elements.of_sandbox(sandbox, self._drivers), sandbox.id)
        listings = [self._nft.listing(*table) for table in TABLES]
        if not wanted and not any(listings):
            return
        if any(listing is None for listing in listings) or self._digest(listings) != self._noted():
            yield Difference(
                Repair(
                    "made the nftables tables", "", "rules were missing or not as they should be"
                ),
                lambda: self._rebuild(wanted),
            )
            return
        there = set(_elements(listings))
        missing = [element for element in wanted if element not in there]
        surplus = sorted(there - wanted.keys())
        if missing or surplus:
            # One transaction. Removals come first, because a map has one value per key.
            text = commands("destroy", surplus) + commands("add", missing)
            todo = iter([lambda: self._nft.run(text)])
            for what, which, why in (
                ("added", missing, "it was missing"),
                ("removed", surplus, "no sandbox has it"),
            ):
                for element in which:
                    yield Difference(
                        Repair(
                            f"{what} {element.name} {' '.join(element.key)}",
                            wanted.get(element, ""),
                            why,
                        ),
                        next(todo, _nothing),
                    )

    def _overlapping(self, wanted: Iterable[Element]) -> list[Element]:
        """The present ranges that overlap one of `wanted`."""
        ranges = [element for element in wanted if element.name in elements.RANGES]
        if not ranges:
            return []
        there = _elements([self._nft.listing("inet", "watcher")])
        return [
            element
            for element in there
            if element.name in elements.RANGES
            and any(elements.overlapping(element, other) for other in ranges)
        ]

    def _rebuild(self, wanted: Iterable[Element]) -> None:
        """Make both tables and all of `wanted` in one transaction; connections continue."""
        text = ruleset.base(self._drivers.values())
        self._nft.run(text + commands("add", wanted))
        self._notes.note(_NOTE, self._digest([self._nft.listing(*table) for table in TABLES]))

    def _noted(self) -> str | None:
        return self._notes.noted(_NOTE)

    def _digest(self, listings: Iterable[list[dict[str, Any]] | None]) -> str:
        """A hash of the listed rules and of the text that they were made from."""
        whole = [_rules(listing or []) for listing in listings]
        made_of = ruleset.base(self._drivers.values())
        return hashlib.sha256(msgspec.json.encode([whole, made_of])).hexdigest()


def _nothing() -> None:
    """The close of a difference that the first difference's transaction closed."""


def _rules(listing: list[dict[str, Any]]) -> list[Any]:
    """`listing` without what changes by itself: handles, and the elements of sandboxes."""
    found = []
    for object_ in listing:
        for kind, value in object_.items():
            if kind == "metainfo":
                continue
            dropped = {"handle"} if value.get("name") == "bridges" else {"handle", "elem"}
            found.append([kind, {k: v for k, v in value.items() if k not in dropped}])
    return found


def _elements(listings: Iterable[list[dict[str, Any]] | None]) -> Iterator[Element]:
    for listing in listings:
        for object_ in listing or []:
            for kind, value in object_.items():
                if kind in ("set", "map") and value["name"] != "bridges":
                    for entry in value.get("elem", []):
                        key, found = entry if kind == "map" else (entry, None)
                        yield Element(
                            value["family"],
                            value["name"],
                            _parts(key, value["type"]),
                            () if found is None else _parts(found, ()),
                        )


def _parts(expression: Any, types: Any) -> tuple[str, ...]:
    parts = expression["concat"] if isinstance(expression, dict) else [expression]
    kinds = types if isinstance(types, list) else [types]
    text = tuple(map(_part, parts))
    return (f'"{text[0]}"', *text[1:]) if kinds[0] == "ifname" else text


def _part(part: Any) -> str:
    """A part of a key or a value as nft(8) writes it; a range is an object in its JSON."""
    return f"{part['range'][0]}-{part['range'][1]}" if isinstance(part, dict) else str(part)
