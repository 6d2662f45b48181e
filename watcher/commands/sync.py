"""`watcher sync`: one-shot recovery."""

from __future__ import annotations

import argparse
import sys

from watcher.commands.output import print_json
from watcher.commands.status import taken_ports
from watcher.config.settings import Config
from watcher.gate.placed_now import PlacedNow
from watcher.log.logger import SILENCE, make_log
from watcher.model.errors import printable
from watcher.service.assemble import assembled


def run(config: Config, options: argparse.Namespace) -> int:
    """Repair every difference, or with `--dry-run` only find them; print each.

    stderr names the containers that cannot be attached, those that get no resolv.conf, and those
    whose ports a process of the host took, which is nothing that this can repair.
    """
    log = make_log("debug", options.log_format) if options.log_level == "debug" else SILENCE
    dry_run = options.dry_run
    with assembled(config, log, starting=True, dry_run=dry_run) as (reconciler, store, _):
        placed = PlacedNow(reconciler)
        repairs = reconciler.sync(dry_run=dry_run)
        without = [] if dry_run else placed.place()
        failures = [failure.reason for failure in store.failures() if not failure.refused]
        taken = taken_ports(config, store.sandboxes())
    failures += [f"{r.what} [{r.sandbox}]: {r.why}: {r.error}" for r in repairs if r.error]
    repairs = [repair for repair in repairs if not repair.error]
    for reason in [*failures, *without, *taken.values()]:
        sys.stderr.write(f"watcher: {printable(reason)}\n")
    status = 1 if failures else 0
    if options.json:
        print_json([{"what": r.what, "sandbox": r.sandbox, "why": r.why} for r in repairs])
        return status
    for repair in repairs:
        where = f" [{repair.sandbox}]" if repair.sandbox else ""
        print(f"{printable(repair.what)}{printable(where)}: {printable(repair.why)}")  # noqa: T201
    if not repairs:
        print("nothing to do")  # noqa: T201
    return status
