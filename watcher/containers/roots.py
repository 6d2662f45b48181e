"""Lists and reads the containers of roots, from runc's files and `/proc`."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Final

from handlers.kernel import rootpath
from watcher.containers import proc
from watcher.containers.annotations import valid_id
from watcher.containers.files import Unreadable, read_below
from watcher.containers.runc import (
    NEWNET,
    NEWUSER,
    annotations_of,
    decode_state,
    has_user_namespace,
    namespace_of,
)
from watcher.model.container import Container, Process
from watcher.model.errors import message_of, named, quoted

STATE: Final = "state.json"

_REMEDY: Final = (
    "once its container has ended, delete it with `runc delete --force`, or remove that directory"
)


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
        Unreadable: the entry is broken, or runc did not make it.
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
    content = read_below(root, id_, STATE, opened=opened)
    if content is None:
        return None
    try:
        state = decode_state(content, f"{root}/{id_}/{STATE}")
    except Unreadable as error:
        raise Unreadable(error.what, _REMEDY) from error
    if state.init_process_pid == 0:
        return None
    init = Process(state.init_process_pid, state.init_process_start)
    netns = None
    if proc.runs(init):
        netns = known.get((id_, init)) or proc.netns_of(init.pid)
    annotations = annotations_of(state.config.labels or ())
    namespaces = state.config.namespaces or ()
    namespace, joined = namespace_of(namespaces, NEWNET)
    return Container(
        root=root,
        id=id_,
        init=init,
        bundle=annotations.get("bundle", ""),
        annotations=annotations,
        namespace=namespace,
        joined=joined,
        netns=netns,
        user_namespace=has_user_namespace(namespaces, NEWUSER),
    )
