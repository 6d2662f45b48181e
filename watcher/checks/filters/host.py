"""The packet filters of other programs on the host: nftables, iptables, iptables-legacy.

Tables that iptables made are read with iptables if it is installed, because libnftables does not
understand everything in them.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
from nftables import Nftables

from handlers.firewall.ruleset import OLD_TABLE, TABLE
from watcher.checks.filters import iptables, nftables

if TYPE_CHECKING:
    from watcher.checks.filters.chains import Family, Table

_LEGACY: Final[tuple[tuple[Family, str, str], ...]] = (
    ("ip", "iptables-legacy", "ip_tables_names"),
    ("ip6", "ip6tables-legacy", "ip6_tables_names"),
)
"""Family, command, and the file in `/proc/net` with the names of its tables."""

_IPTABLES: Final[dict[str, str]] = {"ip": "iptables", "ip6": "ip6tables"}
_IPTABLES_TABLES: Final = frozenset(("filter", "mangle", "nat", "raw", "security"))
_PATIENCE: Final = 10
"""Seconds for a program that prints rules."""


def tables() -> list[Table]:
    """Every readable table, in any order."""
    context = Nftables()
    context.set_json_output(True)
    there = [o["table"] for o in _objects(context, "list tables") if "table" in o]
    listed = [(table["family"], table["name"]) for table in there]
    found: list[Table] = []
    read: set[tuple[str, str]] = set()
    for family in ("ip", "ip6"):
        if any(f == family and name in _IPTABLES_TABLES for f, name in listed):
            by_iptables = _saved(f"{_IPTABLES[family]}-nft-save", family, _IPTABLES[family])
            found += by_iptables
            read |= {(family, table.name) for table in by_iptables}
    for family, name in listed:
        if (family, name) not in (TABLE, OLD_TABLE) and (family, name) not in read:
            table = nftables.read(_objects(context, f"list table {family} {name}"))
            if table is not None:
                found.append(table)
    for family, command, _ in _legacy():
        found += _saved(f"{command}-save", family, command)
    return found


def unreadable() -> Iterator[tuple[str, str]]:
    """Command and name of each table of iptables-legacy that no program here can print."""
    for _, command, names in _legacy():
        if shutil.which(f"{command}-save") is None:
            for name in names:
                yield command, name


def _legacy() -> Iterator[tuple[Family, str, list[str]]]:
    """The families in which iptables-legacy has tables; printing others would make them."""
    for family, command, file in _LEGACY:
        try:
            names = Path("/proc/self/net", file).read_text(encoding="ascii").split()
        except OSError:
            continue
        if names:
            yield family, command, names


def _objects(context: Any, command: str) -> list[dict[str, Any]]:
    status, output, _ = context.cmd(command)
    if status != 0 or not output:  # the table was removed, or cannot be listed
        return []
    objects: list[dict[str, Any]] = msgspec.json.decode(output)["nftables"]
    return objects


def _saved(program: str, family: Family, command: str) -> list[Table]:
    try:
        done = subprocess.run(
            [program], capture_output=True, text=True, timeout=_PATIENCE, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return iptables.read(done.stdout, family, command)
