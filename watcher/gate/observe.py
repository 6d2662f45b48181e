"""What a held container is, before runc has written its `state.json`.

runc 1.3 and later saves `state.json` once early, without a pid, with the labels in it. Before that
the only source is what runc itself reads: `config.json` in the bundle, which is its working
directory (runc's `utils_linux.go`, `setupSpec`). Both give the container that
:func:`watcher.containers.roots.read` gives later, but for the name of its bundle: runc names one
by `$PWD` where that leads there, and here it has its real path.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from watcher.containers import proc
from watcher.containers.annotations import valid_id
from watcher.containers.files import MAX_SIZE, Unreadable, read_below, read_linked
from watcher.containers.roots import STATE
from watcher.containers.runc import (
    NEWNET,
    NEWUSER,
    PREFIX,
    Spec,
    could_ask,
    decode_spec,
    decode_state,
    has_user_namespace,
    labels_of,
    namespace_of,
)
from watcher.gate import filesystems
from watcher.model.container import Container, Namespace
from watcher.model.errors import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.gate.hold import Hold

_CONFIG: Final = "config.json"
_NETWORK, _USER = "network", "user"
"""How `config.json` names these namespaces."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

MAX_ASKING: Final = MAX_SIZE
"""Bytes of the largest `config.json` whose annotations are followed: `state.json` repeats them."""

MAX_BUNDLE: Final = 64 << 20
"""Bytes of the largest `config.json` that is read."""

type _Told = tuple[Mapping[str, str], Namespace, str, bool]
"""Labels, whose network namespace, its path if joined, and whether it has a user namespace."""


class AsksNothing(Unreadable):
    """It cannot be told what a container is, but it has no annotation of ours."""


class MayHang(Exception):
    """The bundle is on a file system that may never answer; it is to be read in a thread aside."""


def observe(hold: Hold, *, patient: bool = False) -> Container:
    """The container that waits in `hold`; its `netns` is `None` where its init has ended since.

    Opens files below the root, so it is not for the gate's thread.

    Args:
        hold: the hold.
        patient: whether it may take for ever.

    Raises:
        AsksNothing: what runc has read is there no more, and what is there asks for nothing.
        MayHang: it might take for ever, and may not.
        Unreadable: neither file tells of the container: runc has gone, or one of them is missing,
            too large, not JSON, or not a regular file.
    """
    if not valid_id(hold.id):
        raise Unreadable(
            f"container {quoted(hold.id)} in {quoted(hold.root)}: not an id that runc would take",
            "remove that directory",
        )
    labels, namespace, joined, user = _from_state(hold) or _from_bundle(
        hold.runc_pid, patient=patient
    )
    return Container(
        root=hold.root,
        id=hold.id,
        init=hold.init,
        bundle=labels.get("bundle", ""),
        labels=labels,
        namespace=namespace,
        joined=joined,
        user_namespace=user,
        netns=proc.netns_of(hold.init.pid) if proc.runs(hold.init) else None,
    )


def _from_state(hold: Hold) -> _Told | None:
    """What the early `state.json` tells; `None` where there is none, as with runc 1.1 and 1.2."""
    content = read_below(hold.root, hold.id, STATE, limit=MAX_BUNDLE)
    if content is None:
        return None
    config = decode_state(content, f"{hold.root}/{hold.id}/{STATE}").config
    namespaces = config.namespaces or ()
    labels = labels_of(config.labels or ())
    return labels, *namespace_of(namespaces, NEWNET), has_user_namespace(namespaces, NEWUSER)


def _from_bundle(runc_pid: int, *, patient: bool) -> _Told:
    """What the `config.json` tells that runc `runc_pid` was started with."""
    cwd = f"/proc/{runc_pid}/cwd"
    try:
        directory = os.open(cwd, _DIRECTORY)
    except OSError as error:
        raise Unreadable(
            f"the bundle of runc {runc_pid} cannot be opened: {error.strerror}", "start it again"
        ) from error
    try:
        bundle = os.readlink(f"/proc/thread-self/fd/{directory}")  # noqa: PTH115
        shown = f"{bundle}/{_CONFIG}"
        if not patient:
            _refuse_to_hang(directory)
        content = read_linked(_CONFIG, shown, dir_fd=directory, limit=MAX_BUNDLE)
    finally:
        os.close(directory)
    if content is None:
        raise Unreadable(f"{quoted(shown)} is missing", "put it back until the container runs")
    spec = _decoded(content, shown)
    # As runc makes them: one string of each, and its own at the end, which wins over an annotation.
    labels = [f"{key}={value}" for key, value in spec.annotations.items()]
    return (
        labels_of([*labels, f"bundle={bundle}"]),
        *namespace_of(spec.namespaces, _NETWORK),
        has_user_namespace(spec.namespaces, _USER),
    )


def _refuse_to_hang(directory: int) -> None:
    """Raise MayHang where `config.json` in `directory` may be on a file system that never answers.

    A link may lead to any.
    """
    here = filesystems.look(directory)
    if here is None or not filesystems.is_prompt(here.mount):
        raise MayHang
    there = filesystems.look(directory, _CONFIG)
    if there is not None and (there.link or there.mount != here.mount):
        raise MayHang


def _decoded(content: bytes, shown: str) -> Spec:
    try:
        spec = decode_spec(content, shown)
    except Unreadable as error:
        if could_ask(content):
            raise
        raise AsksNothing(error.what, error.remedy) from error
    if len(content) > MAX_ASKING and any(key.startswith(PREFIX) for key in spec.annotations):
        raise Unreadable(
            f"{quoted(shown)} has {len(content)} bytes, and no annotation of {PREFIX} counts in"
            f" more than {MAX_ASKING}",
            "make it smaller, or remove the annotation",
        )
    return spec
