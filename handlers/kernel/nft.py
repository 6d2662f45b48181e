"""nftables through its own library: commands, each list as one transaction, and listings.

Source: libnftables(3), libnftables-json(5), nft(8).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from typing import Any, Final, NamedTuple

import msgspec
from nftables import Nftables


class NftError(OSError):
    """nftables refused a transaction, and changed nothing."""


class NotThere(NftError):
    """The table, or a chain, set, map or element of it, is missing."""


class Element(NamedTuple):
    """One element of a set or map: the key, and the value (empty in a set)."""

    family: str
    name: str
    key: tuple[str, ...]
    value: tuple[str, ...] = ()

    def text(self, verb: str) -> str:
        """Its text in a command with `verb` (`add`, `destroy`)."""
        key = " . ".join(self.key)
        return f"{key} : {' . '.join(self.value)}" if self.value and verb == "add" else key


def commands(verb: str, elements: Iterable[Element]) -> str:
    """The commands that `verb` (`add`, `destroy`) `elements` of tables named `watcher`.

    Neighbours of one set or map share a command, which halves the time for thousands.
    """
    text: list[str] = []
    before = None
    for element in elements:
        set_ = element.family, element.name
        if set_ == before:
            text.append(", ")
        else:
            text.append(_END if text else "")
            text.append(f"{verb} element {element.family} watcher {element.name} {{ ")
            before = set_
        text.append(element.text(verb))
    text.append(_END if text else "")
    return "".join(text)


_END: Final = " }\n"


class Nft:
    """An nftables context, opened once in the host's network namespace."""

    def __init__(self) -> None:
        self._context = Nftables()
        self._context.set_stateless_output(True)
        self._has_read = False
        """Whether nothing has been carried out since :meth:`read_ahead`."""

    def run(self, commands: str) -> None:
        """Carry out `commands`, as `nft -f` reads them, as one transaction.

        Raises:
            NotThere: they name something that is missing.
            NftError: they were refused for another reason.
        """
        self._call(commands)

    def read_ahead(self, nothing: str) -> None:
        """Have libnftables read all tables and sets now, as it has to before elements change.

        Then the next command need not, which takes most of its time. libnftables keeps what it has
        read until the ruleset has another generation (`nft_cache_update` in `src/cache.c`). That of
        `nothing`, a command about an element that changes nothing, is none (`nf_tables_commit` in
        `net/netfilter/nf_tables_api.c`). If it is refused, the next command reads by itself.
        """
        if not self._has_read:
            with suppress(NftError):
                self._call(nothing)
            self._has_read = True

    def listing(self, family: str, table: str) -> list[dict[str, Any]] | None:
        """All objects of `table`, as libnftables-json(5) has them; `None` if it is missing."""
        return self._listed(f"list table {family} {table}")

    def listing_without(
        self, family: str, table: str, without: Collection[str]
    ) -> list[dict[str, Any]] | None:
        """As :meth:`listing`, but the sets and maps named `without` have no elements.

        It reads each other set on its own, and costs nothing for the elements that it leaves out.
        """
        self._context.set_terse_output(True)
        try:
            listing = self.listing(family, table)
        finally:
            self._context.set_terse_output(False)
        for object_ in listing or ():
            for kind, value in object_.items():
                if kind in ("set", "map") and value["name"] not in without:
                    name = f"{family} {table} {value['name']}"
                    for other in self._listed(f"list {kind} {name}") or ():
                        value.update(other.get(kind, {}))
        return listing

    def elements(self, family: str, kind: str, name: str) -> list[Any]:
        """The elements of a `set` or `map` of the table `watcher`, with the time that each has."""
        self._context.set_stateless_output(False)
        try:
            listing = self._listed(f"list {kind} {family} watcher {name}") or ()
        finally:
            self._context.set_stateless_output(True)
        return [e for object_ in listing for e in object_.get(kind, {}).get("elem", ())]

    def _listed(self, command: str) -> list[dict[str, Any]] | None:
        """What a command lists; `None` if it is missing."""
        self._context.set_json_output(True)
        try:
            text = self._call(command)
        except NotThere:
            return None
        finally:
            self._context.set_json_output(False)
        objects: list[dict[str, Any]] = msgspec.json.decode(text)["nftables"]
        return objects

    def _call(self, commands: str) -> str:
        self._has_read = False
        status, output, error = self._context.cmd(commands)
        if status == 0:
            return str(output)
        first = str(error).strip().partition("\n")[0] or "nftables gave no reason"
        if "No such file or directory" in error:
            raise NotThere(first)
        raise NftError(first)
