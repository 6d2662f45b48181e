"""`watcher bundle DIR --check`: what a container of a bundle would get now, or why it would not.

It decides as reconcile does, for a container that is not there yet, and writes its leases to a copy
of the lease store. Nothing changes.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from handlers.kernel.sockdiag import SockDiag
from watcher.config.patterns import may_call
from watcher.containers import proc
from watcher.containers.annotations import parse_request, valid_id
from watcher.containers.files import Unreadable
from watcher.containers.life import Snapshot, lives
from watcher.containers.place import Place
from watcher.containers.ports import format_ports
from watcher.gate.observe import read_bundle
from watcher.locks.readers import without_writers
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest, Unclaimed, UsageError, WatcherError, quoted
from watcher.reconcile import overlaps, ports
from watcher.reconcile.founders import Founders
from watcher.reconcile.limits_text import described
from watcher.reconcile.movable import why_not
from watcher.reconcile.plan import CreateFor, Ignore, Join, Move, plan, root_of
from watcher.store.files import store_path
from watcher.store.leases import LeaseStore
from watcher.store.networks import known_networks

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from watcher.config.settings import Config
    from watcher.model.network import Network
    from watcher.model.request import Request
    from watcher.model.sandbox import Sandbox
    from watcher.store.port_choice import Choice

_NONE: int = 0
"""In place of the inode number of a namespace that does not exist yet."""


def preview(config: Config, directory: Path) -> str:
    """What a container of the bundle in `directory` would get now in the first root, in one line.

    Raises:
        UsageError: an annotation is bad.
        WatcherError: what it asks for cannot be met now, or the bundle cannot be read.
    """
    with without_writers(config.run_dir):
        store = LeaseStore.open_copy(store_path(config))
    with store:
        container = _container(config, store, directory)
        about = f"bundle {quoted(directory)}"
        try:
            request = parse_request(container.annotations, container.hostname)
        except InvalidRequest as error:
            raise UsageError(f"{about}: {error.what}", error.remedy) from None
        try:
            return _preview(config, store, container, request)
        except Unclaimed as error:
            raise WatcherError(
                f"{about}: {error.address} is in no block of network {error.network} that this host"
                " has, so the service claims it when a container starts, if no other host has it",
                "start it, or ask for an address of this host's blocks, see `watcher hosts ls`",
            ) from None
        except InvalidRequest as error:
            raise WatcherError(f"{about}: {error.what}", error.remedy) from None


def _container(config: Config, store: LeaseStore, directory: Path) -> Container:
    """A container of the bundle that is not there yet.

    Engines name the bundle's directory after the container's id. An id that comes back gets the
    address that it had.
    """
    try:
        opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Unreadable(
            f"bundle {quoted(directory)} cannot be opened: {error.strerror}",
            "name a directory with a config.json",
        ) from error
    try:
        saved = read_bundle(opened, if_missing="make it with `runc spec`")
    finally:
        os.close(opened)
    root, name = config.roots[0].path, directory.resolve().name
    return Container(
        root=root,
        id=name if valid_id(name) and not store.knows(root, name) else "",
        init=Process(0, 0),
        bundle=saved.bundle,
        annotations=saved.annotations,
        namespace=saved.namespace,
        joined=saved.joined,
        user_namespace=saved.user_namespace,
        settings=saved.settings,
        hostname=saved.hostname,
        netns=_netns(saved.namespace, saved.joined),
    )


def _netns(namespace: Namespace, joined: str) -> int:
    if namespace is Namespace.OWN:
        return _NONE
    if namespace is Namespace.HOST:
        return proc.own_netns()
    try:
        return os.stat(joined).st_ino  # noqa: PTH116
    except (OSError, ValueError) as error:  # ValueError: it has a NUL
        why = error.strerror if isinstance(error, OSError) else "no path has a NUL"
        raise WatcherError(
            f"its namespace {quoted(joined)} cannot be found: {why}",
            "start the container that has it, or see `watcher bundle --share`",
        ) from error


def _preview(config: Config, store: LeaseStore, container: Container, request: Request) -> str:
    assert container.netns is not None
    known = store.sandbox(container.netns)
    inside = known if known is not None and lives(known) else None
    place = Place(container.netns == proc.own_netns(), inside, container.has_own_netns)
    share = request.share
    shared = None
    if share is not None:
        shared = store.sandbox_to_share(share, container, may_call(config.roots, share))
    founder = None
    if container.namespace is Namespace.JOINED and inside is None:
        founder = Founders.among(Snapshot.take(config.roots).containers).of(container)
    unmovable = (
        "" if share is None or not container.has_own_netns else why_not(container, config.gate)
    )
    wanted = plan(
        container, place, request, config, shared=shared, founder=founder, unmovable=unmovable
    )
    where = f"in root {container.root}"
    if isinstance(wanted, Ignore):
        return f"ignored {where}: {wanted.reason}"
    if isinstance(wanted, Join | Move):
        networks = known_networks(config, store)
        carriers = [networks[interface.network] for interface in wanted.sandbox.interfaces]
        ports.check_carried(request, carriers)
    else:
        overlaps.refuse_now(wanted.networks)
    with closing(SockDiag()) as sock_diag:
        ports.check_free(request, sock_diag)

        def choices(container: Container) -> Choice:
            return ports.choice(root_of(config, container), sock_diag)

        if isinstance(wanted, Join | Move):
            sandbox = store.join(container, wanted.sandbox.key, request, choices)
            found = f"shared {where}: with {sandbox.id};"
        elif isinstance(wanted, CreateFor):
            sandbox = store.create_sandbox_for(
                wanted.founder, wanted.networks, container, request,
                choices=choices, limits=wanted.limits,
            )  # fmt: skip
            found = f"shared {where}: with {sandbox.id}, which gets"
        else:
            sandbox = store.create_sandbox(
                container, wanted.networks, request, choices=choices, limits=wanted.limits
            )
            found = f"attached {where}:"
        networks = known_networks(config, store)
    return f"{found} {_described(sandbox, request, networks)}"


def _described(sandbox: Sandbox, request: Request, networks: Mapping[str, Network]) -> str:
    parts = [
        f"{interface.name} in network {interface.network} with "
        + " and ".join(str(address.ip) for address in interface.addresses)
        for interface in sandbox.interfaces
    ] or ["connected to no network"]
    if request.named_ports:
        parts.append(f"ports {format_ports(request.named_ports)}")
    parts += [f"a free host port for {port}" for port in request.ports if port.to_choose]
    if request.names:
        parts.append(f"called {', '.join(request.names)}")
    parts += described(sandbox.limits, [networks[name] for name in sandbox.networks], networks)
    return "; ".join(parts)
