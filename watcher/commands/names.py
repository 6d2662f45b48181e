"""`watcher names`: the name service, in the foreground."""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

from watcher.config.load import read
from watcher.log.logger import adopt_others, make_log
from watcher.model.errors import WatcherError

if TYPE_CHECKING:
    from watcher.config.settings import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Answer questions until SIGTERM or Ctrl-C.

    Raises:
        WatcherError: dnspython is missing, or another name service runs on this host.
    """
    try:
        import dns.wire  # noqa: F401
    except ImportError as error:
        raise WatcherError(
            "the Python package dnspython is missing",
            "install it, e.g. `apt-get install python3-dnspython`",
        ) from error

    from watcher.names.server import run as serve
    from watcher.observe.name_service import STATUS, is_there

    if is_there(config.run_dir):
        raise WatcherError(
            f"another `watcher names` runs on this host already, and serves"
            f" {config.run_dir}/{STATUS}",
            "stop it first, e.g. `systemctl stop watcher-names`",
        )
    log = make_log(options.log_level, options.log_format)
    adopt_others(log)
    serve(config, partial(read, options.config), log)
    return 0
