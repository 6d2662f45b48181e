"""`watcher top`: traffic by container, live."""

from __future__ import annotations

import argparse
import sys

from watcher.commands.output import print_table
from watcher.config.settings import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Show the traffic until a key ends it; off a terminal, print that of 2 seconds."""
    del options
    if sys.stdin.isatty() and sys.stdout.isatty():
        from watcher.observe.top.live import live

        live(config.run_dir)
    else:
        from watcher.observe.top.once import once

        print_table(*once(config.run_dir))
    return 0
