"""`watcher publish CONTAINER MAP…`: publishes ports of a running container."""

from __future__ import annotations

from typing import TYPE_CHECKING

from watcher.commands.running import running
from watcher.containers.ports import parse_entries
from watcher.model.errors import BadValue, UsageError
from watcher.reconcile.publish import publish

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from watcher.config.settings import Config
    from watcher.model.request import PortMap


def run(config: Config, options: argparse.Namespace) -> int:
    """Publish all of the ports, and print each port map with its host ports.

    Raises:
        WatcherError: a port map cannot be read, or none of them has been published.
    """
    wanted = maps(options.maps)
    with running(config, options) as it:
        found = publish(it.context, it.steps, it.sandbox, it.member, wanted)
    for port in found:  # others do not wait for who reads this
        print(port)  # noqa: T201
    return 0


def maps(texts: Sequence[str]) -> list[PortMap]:
    """The port maps of the arguments `texts`, each as in the annotation.

    Raises:
        UsageError: one of them is wrong.
    """
    text = ",".join(texts)
    try:
        found = parse_entries(text) if text.strip() else ()
    except BadValue as error:
        raise UsageError(f"port map {error.reason}", error.remedy) from error
    if not found:
        raise UsageError("port map: none is given", 'write port maps such as "8080:80"')
    return list(found)
