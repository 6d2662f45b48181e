"""What a held container is, before runc has written its `state.json`.

runc 1.3 and later saves `state.json` once early, without a pid, with the labels in it. Before that
the only source is what runc itself reads: `config.json` in the bundle, which is its working
directory (runc's `utils_linux.go`, `setupSpec`). Both give the container that
:func:`watcher.roots.read` gives later, but for the name of its bundle: runc names one by `$PWD`
where that leads there, and here it has its real path.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from watcher import proc
from watcher.annotations import valid_id
from watcher.errors import quoted
from watcher.files import Unreadable, read_below, read_regular
from watcher.model import Container, Namespace
from watcher.roots import STATE
from watcher.runc import NEWNET, decode_spec, decode_state, labels_of, namespace_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from watcher.gate import Hold

_CONFIG: Final = "config.json"
_NETWORK: Final = "network"
"""How `config.json` names the network namespace."""

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

type _Told = tuple[Mapping[str, str], Namespace, str]
"""Labels, whose network namespace, and its path if joined."""


def observe(hold: Hold) -> Container:
    """The container that waits in `hold`; its `netns` is `None` where its init has ended since.

    Opens files below the root, so it is not for the gate's thread.

    Raises:
        Unreadable: neither file tells of the container; runc has gone, or one of them is missing,
            too large, not JSON, not a regular file, or a link out of the bundle.
    """
    if not valid_id(hold.id):
        raise Unreadable(
            f"container {quoted(hold.id)} in {quoted(hold.root)}: not an id that runc would take",
            "remove that directory",
        )
    labels, namespace, joined = _from_state(hold) or _from_bundle(hold.runc_pid)
    return Container(
        root=hold.root,
        id=hold.id,
        init=hold.init,
        bundle=labels.get("bundle", ""),
        labels=labels,
        namespace=namespace,
        joined=joined,
        netns=proc.netns_of(hold.init.pid) if proc.runs(hold.init) else None,
    )


def _from_state(hold: Hold) -> _Told | None:
    """What the early `state.json` tells; `None` where there is none, as with runc 1.1 and 1.2."""
    content = read_below(hold.root, hold.id, STATE)
    if content is None:
        return None
    config = decode_state(content, f"{hold.root}/{hold.id}/{STATE}").config
    namespace, joined = namespace_of(config.namespaces or (), NEWNET)
    return labels_of(config.labels or ()), namespace, joined


def _from_bundle(runc_pid: int) -> _Told:
    """What the `config.json` tells that runc `runc_pid` was started with."""
    cwd = f"/proc/{runc_pid}/cwd"
    try:
        directory = os.open(cwd, _DIRECTORY)
    except OSError as error:
        raise Unreadable(
            f"the bundle of runc {runc_pid} cannot be opened: {error.strerror}", "start it again"
        ) from error
    try:
        bundle = os.readlink(f"/proc/self/fd/{directory}")  # noqa: PTH115
        content = _read_config(directory, f"{bundle}/{_CONFIG}")
    finally:
        os.close(directory)
    spec = decode_spec(content, f"{bundle}/{_CONFIG}")
    # As runc makes them: one string of each, and its own at the end, which wins over an annotation.
    labels = [f"{key}={value}" for key, value in (spec.annotations or {}).items()]
    namespaces = (spec.linux.namespaces if spec.linux else None) or ()
    namespace, joined = namespace_of(namespaces, _NETWORK)
    return labels_of([*labels, f"bundle={bundle}"]), namespace, joined


def _read_config(directory: int, shown: str) -> bytes:
    """The `config.json` in `directory`, or the file beside it that it is a link to.

    runc follows any link. A bundle is often its owner's, and this program reads as root; so what
    lies outside of the bundle is not read.
    """
    name = _CONFIG
    with suppress(OSError):  # no link, or not there
        name = os.readlink(_CONFIG, dir_fd=directory)
    if "/" in name:
        raise Unreadable(f"{quoted(shown)} is a link out of its bundle", "make it a regular file")
    content = read_regular(name, shown, dir_fd=directory)
    if content is None:
        raise Unreadable(f"{quoted(shown)} is missing", "put it back until the container runs")
    return content
