"""The command line: runs the command, and turns an error into one line and an exit status."""

from __future__ import annotations

import argparse
import io
import os
import sys
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from watcher import __version__
from watcher.model.errors import WatcherError, message_with_remedy, printable

_STDOUT, _STDERR = 1, 2
LEVELS = ("debug", "info", "warning", "error")
_CONTAINER = "an id, a name, or the beginning of an id"
FORMATS = ("auto", "console", "json")


class _Parser(argparse.ArgumentParser):
    """Prints a usage error in one line, like every other error."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command in `arguments` (by default the process's own) and exit."""
    _open_closed_streams()
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):  # not every locale has every character
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        sys.exit(_run(options))
    except WatcherError as error:
        _fail(error.exit_status, str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(1, message_with_remedy(error))


def _open_closed_streams() -> None:
    """Have a null device in place of each standard stream that whoever started us has closed.

    A file that is opened later would get its number, and what a library writes there.
    """
    with suppress(OSError):
        while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
            pass
        os.close(descriptor)
        sys.stdout = sys.stdout or os.fdopen(_STDOUT, "w", closefd=False)
        sys.stderr = sys.stderr or os.fdopen(_STDERR, "w", closefd=False)


def _run(options: argparse.Namespace) -> int:
    from watcher.config import load
    from watcher.config.settings import Config

    # What the file may say does not depend on what it says.
    config = Config() if getattr(options, "schema", False) else load.load(options.config)
    command = import_module(f"watcher.commands.{options.command}")
    status: int = command.run(config, options)
    sys.stdout.flush()
    return status


def _fail(status: int, message: str) -> NoReturn:
    line = printable(" ".join(message.split("\n")))
    sys.stderr.write(f"watcher: {line}\n")
    sys.exit(status)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="watcher",
        description="Gives every runc container its network when it appears, without a hook.",
    )
    parser.add_argument("--version", action="version", version=f"watcher {__version__}")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="default: /etc/watcher/watcher.toml, if there"
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info")
    parser.add_argument("--log-format", choices=FORMATS, default="auto")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    commands.add_parser("run", help="the service, in the foreground")
    sync = commands.add_parser("sync", help="find and repair every difference, once")
    sync.add_argument("--dry-run", action="store_true", help="only print them")
    _json(sync)
    ls = commands.add_parser("ls", help="a table of containers")
    ls.add_argument("--no-trunc", action="store_true", help="shorten nothing")
    ls.add_argument("--all", action="store_true", help="those as well that were refused lately")
    _json(ls)
    inspect = commands.add_parser("inspect", help="everything known of one container, as JSON")
    inspect.add_argument("container", metavar="CONTAINER", help=_CONTAINER)
    check = commands.add_parser("check", help="what stands in the way of this host or a container")
    check.add_argument(
        "container", metavar="CONTAINER", nargs="?", help=f"{_CONTAINER}; else this host"
    )
    _json(check)
    network = commands.add_parser("network", help="the networks")
    actions = network.add_subparsers(dest="action", required=True, metavar="ACTION")
    _json(actions.add_parser("ls", help="the configured and existing networks"))
    remove = actions.add_parser("rm", help="remove one that no sandbox uses")
    remove.add_argument("name", metavar="NAME")
    _hosts(commands)
    _port_changes(commands)
    _changes(commands)
    bundle = commands.add_parser("bundle", help="have a bundle share a sandbox, or check it")
    bundle.add_argument("directory", metavar="DIR", type=Path)
    does = bundle.add_mutually_exclusive_group(required=True)
    does.add_argument(
        "--share", metavar="CONTAINER", help="make it join the sandbox of that one: " + _CONTAINER
    )
    does.add_argument(
        "--check",
        action="store_true",
        help="what it would get now, or why not",
    )
    metrics = commands.add_parser("metrics", help="the metrics for Prometheus, once or served")
    metrics.add_argument("--listen", metavar="ADDRESS:PORT", help="serve them there by HTTP")
    commands.add_parser("names", help="the name service, in the foreground")
    commands.add_parser("cluster", help="speaks to etcd for the service, in the foreground")
    config = commands.add_parser("config", help="the configuration, and where each value is from")
    config.add_argument("--schema", action="store_true", help="print its JSON Schema instead")
    _json(config)
    events = commands.add_parser("events", help="what happens, as it happens")
    events.add_argument(
        "--since", metavar="TIME", help="what has happened since then, e.g. 10:00, 30m, yesterday"
    )
    events.add_argument("--container", metavar="CONTAINER", help="of that one alone: " + _CONTAINER)
    events.add_argument(
        "--filter", action="append", metavar="KEY=VALUE", help="e.g. kind=failed; may be repeated"
    )
    _json(events)
    commands.add_parser("top", help="traffic by container, live")
    commands.add_parser("down", help="remove everything this program ever made on the host")
    return parser


def _hosts(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add what is about the hosts of a cluster."""
    hosts = commands.add_parser("hosts", help="the hosts of the cluster")
    actions = hosts.add_subparsers(dest="action", required=True, metavar="ACTION")
    _json(actions.add_parser("ls", help="each with its address, state and blocks"))
    remove = actions.add_parser("rm", help="give back what a host has that is gone for good")
    remove.add_argument("host", metavar="HOST")
    remove.add_argument("--force", action="store_true", help="one as well that lives")


def _port_changes(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add the commands that change the ports of a running container."""
    for name, does, help_ in (
        ("publish", "publish more ports of a running container", "as in io.watcher.ports"),
        ("unpublish", "take published ports back", "as `watcher ls` shows it, or a part of it"),
    ):
        parser = commands.add_parser(name, help=does)
        parser.add_argument("container", metavar="CONTAINER", help=_CONTAINER)
        parser.add_argument("maps", metavar="MAP", nargs="+", help=help_)


def _changes(commands: argparse._SubParsersAction[_Parser]) -> None:
    """Add the commands that change a running sandbox."""
    connect = commands.add_parser("connect", help="give a running container one more interface")
    connect.add_argument("container", metavar="CONTAINER", help=_CONTAINER)
    connect.add_argument("network", metavar="NETWORK")
    connect.add_argument(
        "--ip",
        action="append",
        metavar="ADDRESS",
        help="its address; with a comma, one of each family",
    )
    connect.add_argument("--mac", metavar="MAC", help="its MAC")
    connect.add_argument("--interface", metavar="NAME", help="what it is called inside")
    disconnect = commands.add_parser(
        "disconnect", help="take an interface of a running container away"
    )
    disconnect.add_argument("container", metavar="CONTAINER", help=_CONTAINER)
    disconnect.add_argument("network", metavar="NETWORK")


def _json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="JSON on stdout")
