"""nftables by its own library: commands, each list as one transaction, and listings.

Source: libnftables(3), libnftables-json(5).
"""

from __future__ import annotations

from typing import Any

import msgspec
from nftables import Nftables


class NftError(OSError):
    """nftables refused a transaction; nothing of it was done."""


class NotThere(NftError):
    """The table, or a chain, set, map or element of it, is missing."""


class Nft:
    """An nftables context: opened once, in the host's network namespace."""

    def __init__(self) -> None:
        self._context = Nftables()
        self._context.set_stateless_output(True)

    def run(self, commands: str) -> None:
        """Carry out `commands`, as `nft -f` reads them, as one transaction.

        Raises:
            NotThere: they name something that is not there.
            NftError: they were refused for another reason.
        """
        self._call(commands)

    def listing(self, family: str, table: str) -> list[dict[str, Any]] | None:
        """All objects of `table`, as libnftables-json(5) has them; `None` if it is not there."""
        self._context.set_json_output(True)
        try:
            text = self._call(f"list table {family} {table}")
        except NotThere:
            return None
        finally:
            self._context.set_json_output(False)
        objects: list[dict[str, Any]] = msgspec.json.decode(text)["nftables"]
        return objects

    def _call(self, commands: str) -> str:
        status, output, error = self._context.cmd(commands)
        if status == 0:
            return str(output)
        first = str(error).strip().partition("\n")[0] or "nftables gave no reason"
        if "No such file or directory" in error:
            raise NotThere(first)
        raise NftError(first)
