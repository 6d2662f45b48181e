"""What runc writes and reads: `state.json` and `config.json`, as far as a network needs them.

Sources: `libcontainer/container_linux.go` (type State) and `libcontainer/configs/config.go` of
runc for `state.json`; the OCI runtime specification, `config.md` and `config-linux.md`, for
`config.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec

from watcher.errors import quoted
from watcher.files import Unreadable
from watcher.model import Namespace

MAX_PID: Final = 1 << 22
"""`PID_MAX_LIMIT` in `include/linux/threads.h`."""

NEWNET = "NEWNET"
"""How `state.json` names the network namespace."""


class StateNamespace(msgspec.Struct, frozen=True):
    """An entry of `config.namespaces` in `state.json`; `path` is empty for one of its own."""

    type: str
    path: str = ""


class StateConfig(msgspec.Struct, frozen=True):
    """`config` in `state.json`; each label is `key=value`."""

    namespaces: tuple[StateNamespace, ...] | None = None
    labels: tuple[str, ...] | None = None


class State(msgspec.Struct, frozen=True):
    """`state.json`; with runc 1.3 and later it is there early, with `init_process_pid` 0."""

    init_process_pid: Annotated[int, msgspec.Meta(ge=0, le=MAX_PID)]
    init_process_start: Annotated[int, msgspec.Meta(ge=0)]
    config: StateConfig


class SpecNamespace(msgspec.Struct, frozen=True):
    """An entry of `linux.namespaces` in `config.json`."""

    type: str
    path: str = ""


class SpecLinux(msgspec.Struct, frozen=True):
    """`linux` in `config.json`."""

    namespaces: tuple[SpecNamespace, ...] | None = None


class Spec(msgspec.Struct, frozen=True):
    """`config.json`."""

    annotations: dict[str, str] | None = None
    linux: SpecLinux | None = None


_state_decoder = msgspec.json.Decoder(State)
_spec_decoder = msgspec.json.Decoder(Spec)


def decode_state(content: bytes, shown: str) -> State:
    """The `state.json` in `content`, shown in errors as `shown`.

    Raises:
        Unreadable: it is not JSON, or not of runc's types.
    """
    try:
        return _state_decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_runcs(shown, error) from error


def decode_spec(content: bytes, shown: str) -> Spec:
    """The `config.json` in `content`, shown in errors as `shown`.

    Raises:
        Unreadable: it is not JSON, or not of the specification's types.
    """
    try:
        return _spec_decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise _not_runcs(shown, error) from error


def labels_of(labels: Iterable[str]) -> dict[str, str]:
    """The `key=value` labels of runc as a mapping; one without `=` has an empty value."""
    return {key: value for key, _, value in (label.partition("=") for label in labels)}


def namespace_of(
    namespaces: Sequence[StateNamespace | SpecNamespace], kind: str
) -> tuple[Namespace, str]:
    """Whose namespace of `kind` (`NEWNET`, in `config.json` `network`), and its path if joined."""
    for namespace in namespaces:
        if namespace.type == kind:
            joined = namespace.path
            return (Namespace.JOINED, joined) if joined else (Namespace.OWN, "")
    return Namespace.HOST, ""


def _not_runcs(shown: str, error: Exception) -> Unreadable:
    return Unreadable(
        f"{quoted(shown)} is not what runc writes: {str(error)[:200]}",
        "delete the container with `runc delete --force`, or remove that directory",
    )
