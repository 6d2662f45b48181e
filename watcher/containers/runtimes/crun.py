"""What crun saves of a container: `status`, and a copy of the bundle's `config.json`.

crun copies `config.json` into the container's directory before it makes the container, and later
writes `status.tmp` and renames it to `status`. Source: `src/libcrun/status.c`
(`libcrun_write_container_status`) and `src/libcrun/container.c` (`libcrun_copy_config_file`); tried
with crun 1.21.
"""

from __future__ import annotations

import os
from typing import Annotated, Final

import msgspec
from msgspec.structs import replace

from watcher.containers import proc
from watcher.containers.files import Unreadable, read_regular
from watcher.containers.runtimes.runc import MAX_PID
from watcher.containers.runtimes.runtime import Runtime, Saved
from watcher.containers.spec import (
    NETWORK,
    USER,
    Spec,
    decode_unambiguous_spec,
    decoded,
    has_user_namespace,
    namespace_of,
    net_settings,
)
from watcher.model.container import Namespace, Process
from watcher.model.errors import quoted

CONFIG: Final = "config.json"

_GRANULARITY: Final = 20_000_000
"""Nanoseconds by which the times of two files may differ though they were made in that order."""

_NAME: Final = "crun"
_STATE: Final = "status"


class Status(msgspec.Struct, frozen=True):
    """The parts of `status` that matter."""

    pid: Annotated[int, msgspec.Meta(ge=1, le=MAX_PID)]
    start: Annotated[int, msgspec.Meta(ge=0)] = msgspec.field(name="process-start-time")
    bundle: str = ""


_decoder = msgspec.json.Decoder(Status)


def decode_status(content: bytes, shown: str) -> Status:
    """The `status` in `content`; errors as :func:`watcher.containers.spec.decoded` has them."""
    return decoded(_decoder, content, _NAME, shown)


def saved_with(spec: Spec, init: Process | None, bundle: str) -> Saved:
    """What crun has saved of a container with that `config.json`."""
    return Saved(
        init, bundle, spec.annotations, *namespace_of(spec.namespaces, NETWORK),
        has_user_namespace(spec.namespaces, USER), net_settings(spec.sysctl),
        spec.hostname,
    )  # fmt: skip


def as_confirmed(saved: Saved, init: Process, directory: int) -> Saved:
    """`saved`, read in the open `directory` of a container, as far as its `init` does not belie it.

    crun reads `config.json` first for itself and then for its copy (`libcrun_copy_config_file`), so
    its author can have it join a namespace of which the copy says nothing. The file of a namespace
    that has a name somewhere, or is open, is as old as that, and so older than the copy.
    """
    if saved.namespace is not Namespace.OWN or not proc.runs(init):
        return saved
    try:
        copied = os.stat(CONFIG, dir_fd=directory).st_mtime_ns
        netns = os.stat(f"/proc/{init.pid}/ns/net")  # noqa: PTH116 (hot path)
    except OSError:  # it has just ended
        return saved
    if netns.st_ctime_ns >= copied - _GRANULARITY:
        return saved
    return replace(saved, namespace=Namespace.JOINED, joined=f"net:[{netns.st_ino}]")


def decode_config(content: bytes, shown: str) -> Spec:
    """The `config.json` in `content`, shown in errors as `shown`.

    The bundle's writer may want crun and this program to read different namespaces: crun takes the
    first of repeated keys, for example (`yajl_tree_get` of yajl).

    Raises:
        Unreadable: that could be so, or it is not JSON.
    """
    return decode_unambiguous_spec(content, shown, _NAME)


def _read(content: bytes, directory: int, shown: str) -> Saved | None:
    status = decode_status(content, f"{shown}/{_STATE}")
    init = Process(status.pid, status.start)
    path = f"{shown}/{CONFIG}"
    config = read_regular(CONFIG, path, dir_fd=directory)
    if config is None:
        if not proc.runs(init):  # `crun delete` removes the files one by one, in any order
            return None
        raise Unreadable(f"{quoted(path)} is missing", "put it back")
    saved = saved_with(decode_config(config, path), init, status.bundle)
    return as_confirmed(saved, init, directory)


CRUN: Final = Runtime(
    name=_NAME,
    state=_STATE,
    save="status.tmp",
    others=frozenset((CONFIG, "exec.fifo")),
    beside=frozenset((".cache",)),
    read=_read,
    promise="`crun create` is held; what `crun run` starts gets its network a moment later",
    unmovable="the init of a container of crun cannot be moved",
)
