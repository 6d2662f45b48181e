"""Lists and reads the containers of roots, from their runtimes' files and `/proc`."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from handlers.kernel import rootpath
from watcher.containers import proc
from watcher.containers.annotations import valid_id
from watcher.containers.files import Unreadable, open_below, read_regular
from watcher.containers.runtimes import RUNTIMES, SAVES, STATES
from watcher.model.container import Container, Process
from watcher.model.errors import message_of, named, quoted

if TYPE_CHECKING:
    from watcher.containers.runtimes.runtime import Runtime, Saved

_REMEDY: Final = (
    "once its container has ended, delete it with `{} delete --force`, or remove that directory"
)

_ENOUGH: Final = 500
"""Directories that tell what a root is."""


def ids(root: str) -> list[str]:
    """The names of the directories in `root`, as :func:`errors.named` shows them, sorted.

    Empty if the root is missing.

    Raises:
        Unreadable: the root exists and cannot be listed.
    """
    try:
        with _entries(root) as entries:
            return sorted(named(e.name) for e in entries if e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return []
    except rootpath.UntrustedLinkError as error:
        raise Unreadable(
            f"root {quoted(root)} is left alone: {message_of(error)}",
            "remove that link, or set another path",
        ) from error
    except OSError as error:
        raise Unreadable(
            f"root {quoted(root)} cannot be listed: {error.strerror}", "make it a directory"
        ) from error


_LINKS: Final = 2
"""The link count of a directory without subdirectories (inode(7))."""


def may_have(root: str, id_: str) -> bool:
    """Whether `root` has a directory `id_`, or shows no container at all.

    A root that is empty, missing or unlistable may be covered by another mount for a while.
    """
    try:
        with rootpath.opened(root) as directory:
            with suppress(FileNotFoundError):
                return stat.S_ISDIR(os.stat(id_, dir_fd=directory, follow_symlinks=False).st_mode)
            if os.fstat(directory).st_nlink > _LINKS:  # most file systems count subdirectories
                return False
            with _listed(directory) as entries:
                return not any(entry.is_dir(follow_symlinks=False) for entry in entries)
    except OSError:
        return True


def has(root: str, id_: str) -> bool:
    """Whether `root` has a directory that is shown as `id_`."""
    try:
        return id_ in ids(root)
    except Unreadable:
        return False


@contextmanager
def _entries(root: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of `root`, which :mod:`handlers.kernel.rootpath` opens."""
    with rootpath.opened(root) as directory, _listed(directory) as entries:
        yield entries


@contextmanager
def _listed(directory: int) -> Iterator[Iterator[os.DirEntry[str]]]:
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.scandir(descriptor) as entries:
            yield entries
    finally:
        os.close(descriptor)


def read(root: str, id_: str) -> Container | None:
    """The container `id_` of `root`; `None` if it is missing or not complete yet.

    Raises:
        Unreadable: the entry is broken, or no runtime made it.
    """
    return _read(root, id_, None, {})


def read_all(
    root: str, known: Mapping[tuple[str, Process], int]
) -> Iterator[tuple[str, Container | Unreadable | None]]:
    """Every entry of `root`: its id, and what :func:`read` returns or raises for it.

    `known` has the inode numbers of network namespaces that need not be looked up, by id and init.

    Raises:
        Unreadable: as :func:`ids`.
    """
    listed = ids(root)
    with ExitStack() as opened:
        directory = None
        with suppress(OSError):  # then each entry tells what is wrong
            directory = opened.enter_context(rootpath.opened(root)) if listed else None
        for id_ in listed:
            try:
                yield id_, _read(root, id_, directory, known)
            except Unreadable as error:
                yield id_, error


def _read(
    root: str, id_: str, opened: int | None, known: Mapping[tuple[str, Process], int]
) -> Container | None:
    """Like :func:`read`; `opened` may be a descriptor of `root`, and `known` is as above."""
    if not valid_id(id_):
        if not has(root, id_):
            return None
        raise Unreadable(
            f"container {quoted(id_)} in {quoted(root)}: not an id that runc would take",
            "remove that directory",
        )
    directory = open_below(root, id_, opened=opened)
    if directory is None:
        return None
    try:
        owner = os.fstat(directory).st_uid
        saved = _saved(directory, f"{root}/{id_}")
    finally:
        os.close(directory)
    if saved is None or saved.init is None:
        return None
    init = saved.init
    netns = None
    if proc.runs(init):
        netns = known.get((id_, init))
        if netns is None:
            netns = proc.netns_of(init.pid)
            if owner != 0:
                _refuse_others(f"{root}/{id_}", init.pid, netns, owner)
    return Container(
        root=root,
        id=id_,
        init=init,
        bundle=saved.bundle,
        annotations=saved.annotations,
        namespace=saved.namespace,
        joined=saved.joined,
        netns=netns,
        user_namespace=saved.user_namespace or owner != 0,
        settings=saved.settings,
        hostname=saved.hostname,
    )


def _refuse_others(shown: str, pid: int, netns: int | None, user: int) -> None:
    """Raise Unreadable unless the network namespace of an init is that user's, or the host's.

    Another user than root may have named any process in a root of their own.
    """
    if netns is None or netns == proc.own_netns():
        return
    if not proc.is_of_user(pid, netns, user):
        raise Unreadable(
            f"{quoted(shown)} is user {user}'s, but names process {pid}, whose network namespace is"
            f" of no user namespace of user {user}",
            "give the container a user namespace, or run it as root in a root of root's",
        )


def _saved(directory: int, shown: str) -> Saved | None:
    """What its runtime has saved in the open directory of a container; `None` if nothing yet."""
    for runtime in RUNTIMES:
        content = read_regular(runtime.state, f"{shown}/{runtime.state}", dir_fd=directory)
        if content is not None:
            try:
                return runtime.read(content, directory, shown)
            except Unreadable as error:
                raise Unreadable(error.what, _REMEDY.format(runtime.name)) from error
    return None


class Contents(Struct, frozen=True):
    """What the directories in a root are, by the first hundreds of them.

    Attributes:
        runtimes: the runtimes of its containers.
        others: the names of directories that no known runtime has made.
    """

    runtimes: tuple[Runtime, ...]
    others: tuple[str, ...]


def contents(root: str) -> Contents:
    """What the directories in `root` are; a missing root has none.

    Raises:
        Unreadable: as :func:`ids`.
    """
    found: set[str] = set()
    others = []
    for id_ in ids(root)[:_ENOUGH]:
        names = _names_in(root, id_)
        by = {r.name for r in RUNTIMES if r.state in names or id_ in r.beside}
        found |= by
        if not by and not _is_container(id_, names):
            others.append(id_)
    return Contents(tuple(r for r in RUNTIMES if r.name in found), tuple(others))


def is_container(root: str, id_: str) -> bool:
    """Whether the directory `id_` of `root` is of a container, complete or in the making."""
    return _is_container(id_, _names_in(root, id_))


def _is_container(id_: str, names: Collection[str]) -> bool:
    """Whether a directory with these files is. An empty one may have been made just now."""
    if not names:
        return all(id_ not in runtime.beside for runtime in RUNTIMES)
    known = STATES.union(*(runtime.others for runtime in RUNTIMES))
    return any(name in known or name.startswith(SAVES) for name in names)


def _names_in(root: str, id_: str) -> list[str]:
    """The names in a directory of `root`; none if it cannot be listed, or has just gone."""
    with suppress(Unreadable, OSError):
        directory = open_below(root, id_)
        if directory is not None:
            try:
                with _listed(directory) as entries:
                    return [entry.name for entry in entries]
            finally:
                os.close(directory)
    return []
