"""What runc saves of a container: `state.json`.

runc writes `state-<random>` and renames it. Source: `libcontainer/container_linux.go` (type State,
`saveState`) and `libcontainer/configs/config.go` of runc.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import msgspec

from watcher.containers.runtimes.runtime import Runtime, Saved
from watcher.containers.spec import (
    SpecNamespace,
    decoded,
    has_user_namespace,
    namespace_of,
    net_settings,
)
from watcher.model.container import Process

MAX_PID: Final = 1 << 22
"""`PID_MAX_LIMIT` in `include/linux/threads.h`."""

NEWNET: Final = "NEWNET"
"""The network namespace's name in `state.json`."""

NEWUSER: Final = "NEWUSER"
"""The user namespace's name in `state.json`."""


class StateConfig(msgspec.Struct, frozen=True):
    """`config` in `state.json`; each label is `key=value`, the rest as in `config.json`."""

    namespaces: tuple[SpecNamespace, ...] | None = None
    labels: tuple[str, ...] | None = None
    sysctl: dict[str, str] | None = None
    hostname: str | None = None


class State(msgspec.Struct, frozen=True):
    """`state.json`; runc 1.3 and later also write it early, with `init_process_pid` 0."""

    init_process_pid: Annotated[int, msgspec.Meta(ge=0, le=MAX_PID)]
    init_process_start: Annotated[int, msgspec.Meta(ge=0)]
    config: StateConfig


_decoder = msgspec.json.Decoder(State)


def decode_state(content: bytes, shown: str) -> State:
    """The `state.json` in `content`; errors as :func:`watcher.containers.spec.decoded` has them."""
    return decoded(_decoder, content, "runc", shown)


def annotations_of(labels: Iterable[str]) -> dict[str, str]:
    """The `key=value` labels of runc as a mapping; a label without `=` has an empty value."""
    return {key: value for key, _, value in (label.partition("=") for label in labels)}


def saved(content: bytes, shown: str) -> Saved:
    """What the `state.json` in `content` says; errors as :func:`decode_state` has them."""
    state = decode_state(content, shown)
    annotations = annotations_of(state.config.labels or ())
    namespaces = state.config.namespaces or ()
    init = None
    if state.init_process_pid:
        init = Process(state.init_process_pid, state.init_process_start)
    return Saved(
        init, annotations.get("bundle", ""), annotations, *namespace_of(namespaces, NEWNET),
        has_user_namespace(namespaces, NEWUSER), net_settings(state.config.sysctl or {}),
        state.config.hostname or "",
    )  # fmt: skip


RUNC: Final = Runtime(
    name="runc",
    state="state.json",
    save="state-",
    others=frozenset(("exec.fifo",)),
    beside=frozenset(),
    read=lambda content, _, shown: saved(content, f"{shown}/state.json"),
)
