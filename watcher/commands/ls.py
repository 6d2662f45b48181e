"""`watcher ls`: a table of containers."""

from __future__ import annotations

import argparse

from watcher.commands.output import print_json, print_table
from watcher.commands.status import Entry, entries
from watcher.config.settings import Config
from watcher.containers.ports import format_ports
from watcher.store.reading import read_store

HEADER = ("ID", "PID", "STATUS", "NETWORK", "ADDRESS", "PORTS", "VETH")


def run(config: Config, options: argparse.Namespace) -> int:
    """Print every container of every root."""
    with read_store(config) as store:
        found = [as_json(entry) for entry in entries(config, store)]
    if options.json:
        print_json(found)
        return 0
    print_table(HEADER, [_row(item) for item in found])
    return 0


def as_json(entry: Entry) -> dict[str, object]:
    """A container as `--json` shows it."""
    interfaces = entry.sandbox.interfaces if entry.sandbox else ()
    return {
        "id": entry.id,
        "pid": entry.pid,
        "status": str(entry.status),
        "network": [interface.network for interface in interfaces],
        "address": [str(a.ip) for interface in interfaces for a in interface.addresses],
        "ports": format_ports(entry.member.ports).split(",")
        if entry.member and entry.member.ports
        else [],
        "veth": [interface.host_name for interface in interfaces],
        "root": entry.root,
        "reason": entry.reason,
    }


def _row(item: dict[str, object]) -> list[str]:
    cells = []
    for name in HEADER:
        value = item[name.lower()]
        cells.append(",".join(value) if isinstance(value, list) else str(value or ""))
    return cells
