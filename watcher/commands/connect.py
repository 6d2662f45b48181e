"""`watcher connect CONTAINER NETWORK`: gives a running container one more interface."""

from __future__ import annotations

import argparse
from contextlib import closing

from watcher.clustering.waiting import Waiting
from watcher.commands.running import as_arguments, running
from watcher.config.keys import link_name
from watcher.config.rules import ConfigKeyError
from watcher.config.settings import Config
from watcher.containers.annotations import parse_request
from watcher.model import keys
from watcher.model.errors import InvalidRequest, Unclaimed, UsageError, quoted
from watcher.model.request import Request
from watcher.model.sandbox import Interface
from watcher.reconcile.connect import connect


def run(config: Config, options: argparse.Namespace) -> int:
    """Connect it, and print the interface with its addresses.

    Raises:
        WatcherError: an option cannot be read, or the container cannot be connected.
    """
    request, name = _asked(options), _name(options.interface)
    interface = _connected(config, options, request, name)
    print(interface.name, *interface.addresses)  # noqa: T201
    return 0


def _connected(
    config: Config, options: argparse.Namespace, request: Request, name: str
) -> Interface:
    """Connect it; each address that is in no block of this host is waited for, without the lock."""
    with closing(Waiting(config.run_dir)) as waiting:
        while True:
            with running(config, options) as it:
                who = it.member
                try:
                    return connect(
                        it.context, it.steps, it.sandbox, who, options.network, request, name
                    )
                except Unclaimed as unclaimed:
                    wanted = unclaimed
            with as_arguments(who):
                waiting.wait(wanted)


def _asked(options: argparse.Namespace) -> Request:
    """The addresses and the MAC, read as those of annotations are."""
    asked = {}
    if options.ip:
        asked[keys.IP] = ",".join(options.ip)
    if options.mac is not None:
        asked[keys.MAC] = options.mac
    try:
        return parse_request(asked)
    except InvalidRequest as error:
        option = error.key.replace(keys.PREFIX, "--")
        raise UsageError(f"{option} {quoted(error.value)}: {error.reason}", error.remedy) from error


def _name(text: str | None) -> str:
    """The name of the interface, read as `interface` of the configuration is; empty for none."""
    if text is None:
        return ""
    try:
        return link_name(text, ())
    except ConfigKeyError as error:
        raise UsageError(f"--interface {quoted(text)}: {error.reason}", error.remedy) from error
