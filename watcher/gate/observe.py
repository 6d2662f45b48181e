"""Works out what a held container is, before its runtime has saved it.

runc 1.3 and later saves `state.json` once early, without a pid but with the annotations. With older
versions the only source is the file that runc itself reads: `config.json` in the bundle, which is
runc's working directory (runc's `utils_linux.go`, `setupSpec`). Both give the same container that
:func:`watcher.containers.roots.read` gives later, except for the path of its bundle: here it is the
real path, while runc uses `$PWD` if that leads to the same directory.

crun has copied `config.json` into the container's directory by then, and goes on to use that copy.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from watcher.containers import proc
from watcher.containers.annotations import valid_id
from watcher.containers.files import (
    MAX_SIZE,
    Unreadable,
    open_below,
    read_linked,
    read_regular,
)
from watcher.containers.runtimes import CRUN, RUNC, crun, runc
from watcher.containers.runtimes.runc import annotations_of
from watcher.containers.runtimes.runtime import Saved
from watcher.containers.spec import (
    NETWORK,
    USER,
    Spec,
    could_ask,
    decode_spec,
    has_user_namespace,
    namespace_of,
    net_settings,
)
from watcher.gate import filesystems
from watcher.model.container import Container
from watcher.model.errors import quoted
from watcher.model.keys import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from watcher.gate.hold import Hold

_CONFIG: Final = "config.json"

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

MAX_ASKING: Final = MAX_SIZE
"""Bytes of the largest `config.json` whose annotations count: `state.json` repeats them."""

MAX_BUNDLE: Final = 64 << 20
"""Bytes of the largest `config.json` that is read."""


class AsksNothing(Unreadable):
    """A container's files cannot be read, but they have no annotation of ours."""


class MayHang(Exception):
    """The bundle is on a file system that may never answer, so :class:`Aside` should read it."""


def observe(hold: Hold, opened: int | None = None, *, patient: bool = False) -> Container:
    """The container that waits in `hold`; its `netns` is `None` if its init has ended meanwhile.

    It opens files below the root, so the gate's thread must not call it.

    Args:
        hold: the hold.
        opened: a descriptor of its root; without one, the path of that is opened.
        patient: whether it may take for ever.

    Raises:
        AsksNothing: the file that runc read is unreadable, and has no annotation of ours.
        MayHang: it could take for ever, and is not `patient`.
        Unreadable: neither file describes the container: runc has gone, or a file is missing,
            too large, not JSON, or not a regular file.
    """
    if not valid_id(hold.id):
        raise Unreadable(
            f"container {quoted(hold.id)} in {quoted(hold.root)}: not an id that runc would take",
            "remove that directory",
        )
    saved = _from_root(hold, opened) or _from_bundle(hold.runc_pid, patient=patient)
    return Container(
        root=hold.root,
        id=hold.id,
        init=hold.init,
        bundle=saved.bundle,
        annotations=saved.annotations,
        namespace=saved.namespace,
        joined=saved.joined,
        user_namespace=saved.user_namespace,
        settings=saved.settings,
        hostname=saved.hostname,
        netns=proc.netns_of(hold.init.pid) if proc.runs(hold.init) else None,
    )


def _from_root(hold: Hold, opened: int | None) -> Saved | None:
    """What the container's directory in its root tells; `None` if that is nothing yet."""
    directory = open_below(hold.root, hold.id, opened=opened)
    if directory is None:
        return None
    try:
        of = _from_copy if hold.runtime is CRUN else _from_state
        return of(hold, directory)
    finally:
        os.close(directory)


def _from_state(hold: Hold, directory: int) -> Saved | None:
    """Read the early `state.json`; `None` if there is none, as with runc 1.1 and 1.2."""
    shown = f"{hold.root}/{hold.id}/{RUNC.state}"
    content = read_regular(RUNC.state, shown, dir_fd=directory, limit=MAX_BUNDLE)
    return None if content is None else runc.saved(content, shown)


def _from_copy(hold: Hold, directory: int) -> Saved | None:
    """Read crun's copy of `config.json`; `None` if there is none."""
    shown = f"{hold.root}/{hold.id}/{_CONFIG}"
    content = read_regular(_CONFIG, shown, dir_fd=directory, limit=MAX_BUNDLE)
    if content is None:
        return None
    spec = _decoded(content, shown, crun.decode_config)
    try:
        bundle = os.readlink(f"/proc/{hold.runc_pid}/cwd")  # noqa: PTH115
    except OSError:  # it was killed
        bundle = ""
    return crun.as_confirmed(crun.saved_with(spec, None, bundle), hold.init, directory)


def _from_bundle(runc_pid: int, *, patient: bool) -> Saved:
    """Read the `config.json` that runc `runc_pid` was started with."""
    cwd = f"/proc/{runc_pid}/cwd"
    try:
        directory = os.open(cwd, _DIRECTORY)
    except OSError as error:
        raise Unreadable(
            f"the bundle of runc {runc_pid} cannot be opened: {error.strerror}", "start it again"
        ) from error
    try:
        if not patient:
            _refuse_to_hang(directory)
        return read_bundle(directory)
    finally:
        os.close(directory)


def read_bundle(
    directory: int, *, if_missing: str = "put it back until the container runs"
) -> Saved:
    """Read the `config.json` of the bundle that is open as `directory`.

    Args:
        directory: its descriptor.
        if_missing: what to do about a file that is missing.

    Raises:
        Unreadable: it is missing, too large, not JSON, or not a regular file.
    """
    bundle = os.readlink(f"/proc/thread-self/fd/{directory}")  # noqa: PTH115
    shown = f"{bundle}/{_CONFIG}"
    content = read_linked(_CONFIG, shown, dir_fd=directory, limit=MAX_BUNDLE)
    if content is None:
        raise Unreadable(f"{quoted(shown)} is missing", if_missing)
    spec = _decoded(content, shown, decode_spec)
    # As runc does it: a string for each, and its own last, which replaces an annotation of that
    # name.
    labels = [f"{key}={value}" for key, value in spec.annotations.items()]
    return Saved(
        None, bundle, annotations_of([*labels, f"bundle={bundle}"]),
        *namespace_of(spec.namespaces, NETWORK), has_user_namespace(spec.namespaces, USER),
        net_settings(spec.sysctl), spec.hostname,
    )  # fmt: skip


def _refuse_to_hang(directory: int) -> None:
    """Raise MayHang if `config.json` in `directory` may be on a file system that never answers.

    A link may lead to any file system.
    """
    here = filesystems.look(directory)
    if here is None or not filesystems.is_prompt(here.mount):
        raise MayHang
    there = filesystems.look(directory, _CONFIG)
    if there is not None and (there.link or there.mount != here.mount):
        raise MayHang


def _decoded(content: bytes, shown: str, decode: Callable[[bytes, str], Spec]) -> Spec:
    try:
        spec = decode(content, shown)
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
