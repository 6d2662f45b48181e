"""`watcher down`: remove everything this program ever made on the host, and nothing else."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from handlers.resolv_conf import remove_all
from watcher.cluster.endpoints import reading
from watcher.cluster.endpoints.lines import SOCKET as HOSTS
from watcher.cluster.protocol import SOCKET as ROWS
from watcher.clustering.identity import host_name
from watcher.clustering.waiting import SOCKET as CLAIMS
from watcher.config.settings import Config
from watcher.containers.life import Snapshot
from watcher.containers.present import present
from watcher.feed import history
from watcher.feed.names import ANSWERS, EVENTS, TOLD
from watcher.locks.lock import MOMENT, Busy, Lock
from watcher.locks.names import SERVICE, WRITERS
from watcher.locks.serving import refuse_other, serve
from watcher.log.logger import make_log
from watcher.model.errors import WatcherError, printable
from watcher.observe import name_service
from watcher.service.assemble import assembled
from watcher.store.files import SUFFIXES, store_path
from watcher.store.leases import LeaseStore
from watcher.store.networks import noted_networks


def run(config: Config, options: argparse.Namespace) -> int:
    """Remove every sandbox's network, the bridges, the tables, and the files.

    Raises:
        WatcherError: a service runs on this host, and would make everything again.
    """
    log = make_log("warning", options.log_format)
    refuse_other(config.run_dir)
    with Lock(config.run_dir, SERVICE, patience=MOMENT) as service:
        try:
            service.wait_and_take()
        except Busy as busy:
            raise WatcherError(
                f"`watcher run` or `watcher down` is running: {busy.who}",
                "stop it first, e.g. `systemctl stop watcher`",
            ) from busy
        with serve(config.run_dir) as host:
            lines, left = _remove(config, log), _left_in_the_cluster(config)
            for line in lines:
                print(printable(line))  # noqa: T201
            with Lock(config.run_dir, WRITERS) as writers, writers.locked():
                _remove_files(config)
                # While they are locked, so that a waiter notices that the file is gone.
                for lock in (writers, service, host):
                    lock.remove()
    with suppress(OSError):  # other files are in it
        Path(config.run_dir).rmdir()
    if left:
        print(printable(left))  # noqa: T201
    return 0


def _left_in_the_cluster(config: Config) -> str:
    """What there is to say of what the cluster has for this host; empty if it was never in one."""
    if not config.cluster.etcd:
        return ""
    try:
        with LeaseStore.open(store_path(config), read_only=True) as store:
            joined = store.cluster.identity().incarnation
    except WatcherError:
        return ""
    name = host_name(config.cluster)
    left = f"the cluster keeps the blocks of this host for it until `watcher hosts rm {name}`"
    return left if joined else ""


def _remove(config: Config, log: object) -> list[str]:
    from handlers.host import root_mounts
    from watcher.facts.subscribers import make_publisher

    done: list[str] = []
    facts = make_publisher(config, log)  # type: ignore[arg-type]  # nobody else is told
    with assembled(config, log, facts=facts) as (reconciler, store, host):  # type: ignore[arg-type]
        living = Snapshot.take(config.roots).containers
        host.pins.take_back({c.id: c.netns for c in living if c.netns is not None})
        done += [f"detached {sandbox.id}" for sandbox in reconciler.take_all_back()]
        done += [repair.what for repair in host.sync([], dry_run=False)]
        networks = {n.name: n for n in noted_networks(store)} | config.networks
        done += host.remove(networks.values())
    for root in present(config.roots):
        if root_mounts.take_back(root.path):
            done.append(f"unmounted {root.path}")
    return done


def _remove_files(config: Config) -> None:
    for suffix in SUFFIXES:
        Path(f"{store_path(config)}{suffix}").unlink(missing_ok=True)
    history.remove(config.state_dir)
    remove_all(config.run_dir)
    for name in (ANSWERS, CLAIMS, EVENTS, ROWS, TOLD):
        Path(config.run_dir, name).unlink(missing_ok=True)
    if not name_service.is_there(config.run_dir):
        status = Path(config.run_dir, name_service.STATUS)
        with suppress(OSError):
            status.unlink(missing_ok=True)
            status.parent.rmdir()
    hosts = Path(config.run_dir, HOSTS)
    if not reading.is_there(config.run_dir):
        with suppress(OSError):
            hosts.unlink(missing_ok=True)
            hosts.with_name("lock").unlink(missing_ok=True)
            hosts.parent.rmdir()
    with suppress(OSError):  # other files are in it
        Path(config.state_dir).rmdir()
