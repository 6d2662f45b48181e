"""`watcher metrics`: the metrics in Prometheus' text format, once, or served by HTTP."""

from __future__ import annotations

import argparse
import asyncio
import gc
import re
import signal
import socket
import sys
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

from watcher.log.logger import make_log
from watcher.model.errors import UsageError, WatcherError, message_of, quoted

if TYPE_CHECKING:
    from watcher.config.settings import Config
    from watcher.log.logger import Log

_LISTEN: Final = re.compile(r"(?:\[([^]]*)\]|([^:\[\]]*)):(\d{1,5})", re.ASCII)
_BACKLOG: Final = 64
_NEW: Final = 100_000
"""New objects after which Python looks for garbage."""


def run(config: Config, options: argparse.Namespace) -> int:
    """Print the metrics, or serve them until SIGTERM or Ctrl-C.

    Without a service they say so by `watcher_up 0`: for who reads what is printed, the exit status
    is 1 then.
    """
    address = None if options.listen is None else _address(options.listen)
    try:
        import prometheus_client  # noqa: F401
    except ImportError as error:
        raise WatcherError(
            "the Python package prometheus-client is missing",
            "install it, e.g. `apt-get install python3-prometheus-client`",
        ) from error
    if address is None:
        return _print(config)
    log = make_log(options.log_level, options.log_format)
    with _listener(*address) as listener:
        asyncio.run(_serve(config, listener, log))
    return 0


def _print(config: Config) -> int:
    from watcher.observe.metrics.source import Source
    from watcher.observe.metrics.text import PLAIN

    scrape = Source(config.run_dir).scrape()
    sys.stdout.flush()
    sys.stdout.buffer.write(scrape.text(PLAIN, gzip=False))
    if scrape.reason:
        sys.stdout.buffer.flush()
        raise WatcherError(scrape.reason)
    return 0


async def _serve(config: Config, listener: socket.socket, log: Log) -> None:
    from watcher.observe.metrics.server import Server
    from watcher.observe.metrics.source import Shared, Source

    def tell(reason: str) -> None:
        if reason:
            log.warning("the service does not tell its state", reason=reason)
        else:
            log.info("the service tells its state")

    # A picture of thousands of containers is no garbage while it is made, and has no cycles.
    gc.freeze()
    gc.set_threshold(_NEW)
    server = Server(Shared(Source(config.run_dir), tell), log)
    serving = asyncio.ensure_future(server.serve(listener))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, serving.cancel)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("serving metrics", url=f"http://{shown}:{port}/metrics")
    try:
        await serving
    except asyncio.CancelledError:
        log.info("stopped")


def _address(text: str) -> tuple[str, int]:
    """The address and port in `text`; no name, which may stand for several addresses.

    Raises:
        UsageError: they are none.
    """
    found = _LISTEN.fullmatch(text)
    if found is not None:
        in_brackets, plain, port = found.groups()
        try:
            address = ip_address(plain if in_brackets is None else in_brackets)
        except ValueError:
            pass
        else:
            if (address.version == 6) == (in_brackets is not None) and int(port) < 1 << 16:
                return str(address), int(port)
    raise UsageError(
        f"--listen {quoted(text)} is not an IP address and a port",
        "write them as 127.0.0.1:9973 or [::1]:9973",
    )


def _listener(host: str, port: int) -> socket.socket:
    """A socket that listens there; `[::]` is for IPv4 as well.

    Raises:
        WatcherError: the address is taken, or not of this host.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, port), family=family, backlog=_BACKLOG, dualstack_ipv6=host == "::"
        )
    except OSError as error:
        reason = message_of(error).partition(" (while")[0]  # Python adds the address as a tuple
        raise WatcherError(
            f"cannot listen on {host} port {port}: {reason}",
            "choose another address or port, or end what listens there",
        ) from error
