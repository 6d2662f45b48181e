"""Decodes the parts of runc's `state.json` and `config.json` that matter for the network.

Sources: `libcontainer/container_linux.go` (type State) and `libcontainer/configs/config.go` of
runc for `state.json`; the OCI runtime specification, `config.md` and `config-linux.md`, for
`config.json`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Final

import msgspec

from watcher.containers import gojson
from watcher.containers.files import Unreadable
from watcher.model.container import Namespace
from watcher.model.errors import quoted

PREFIX: Final = "io.watcher."
"""The prefix of our annotations."""

MAX_PID: Final = 1 << 22
"""`PID_MAX_LIMIT` in `include/linux/threads.h`."""

NEWNET: Final = "NEWNET"
"""The network namespace's name in `state.json`."""

NEWUSER: Final = "NEWUSER"
"""The user namespace's name in `state.json`."""


class StateNamespace(msgspec.Struct, frozen=True):
    """An entry of `config.namespaces` in `state.json`; `path` is empty for a new namespace."""

    type: str
    path: str = ""


class StateConfig(msgspec.Struct, frozen=True):
    """`config` in `state.json`; each label is `key=value`."""

    namespaces: tuple[StateNamespace, ...] | None = None
    labels: tuple[str, ...] | None = None


class State(msgspec.Struct, frozen=True):
    """`state.json`; runc 1.3 and later also write it early, with `init_process_pid` 0."""

    init_process_pid: Annotated[int, msgspec.Meta(ge=0, le=MAX_PID)]
    init_process_start: Annotated[int, msgspec.Meta(ge=0)]
    config: StateConfig


class Spec(msgspec.Struct, frozen=True):
    """The parts of a `config.json` that matter.

    Attributes:
        annotations: the annotations as written.
        namespaces: the entries of `linux.namespaces`.
    """

    annotations: dict[str, str]
    namespaces: tuple[StateNamespace, ...]


class _PlainLinux(msgspec.Struct, frozen=True):
    namespaces: tuple[dict[str, str], ...] = ()


class _PlainSpec(msgspec.Struct, frozen=True):
    """A `config.json` that has each key once, spelled as in the specification."""

    annotations: dict[str, str] = {}
    linux: _PlainLinux = _PlainLinux()


_ONCE: Final = (b'"linux"', b'"annotations"', b'"namespaces"')
_FOLDED: Final = ("\u017f".encode(), "\u212a".encode())
"""Characters that Go reads as `s` and `k` in a key (:mod:`watcher.containers.gojson`)."""

_ESCAPED_PREFIX: Final = re.compile(
    "".join(rf"(?:{re.escape(c)}|\\u00{ord(c):02x})" for c in PREFIX).encode(), re.IGNORECASE
)
"""The prefix of our annotations, each character plain or escaped."""

_state_decoder = msgspec.json.Decoder(State)
_plain_decoder = msgspec.json.Decoder(_PlainSpec)


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
    """The `config.json` in `content`, as runc reads it; shown in errors as `shown`.

    Raises:
        Unreadable: runc would refuse it.
    """
    plain = _decode_plain(content)
    if plain is not None:
        return plain
    try:
        annotations, namespaces = gojson.read(content)
    except gojson.NotGo as error:
        raise _not_runcs(shown, error) from error
    return Spec(annotations, tuple(StateNamespace(type_, path) for type_, path in namespaces))


def could_ask(content: bytes) -> bool:
    """Whether `content`, which may be broken, could have an annotation of ours."""
    if PREFIX.encode() in content:
        return True
    return b"\\u00" in content and _ESCAPED_PREFIX.search(content) is not None


def _decode_plain(content: bytes) -> Spec | None:
    """Decode `content` fast, since engines write tens of KiB; `None` if Go might differ."""
    if b"\\u" in content or (not content.isascii() and any(c in content for c in _FOLDED)):
        return None
    lower = content.lower()
    for key in _ONCE:
        count = lower.count(key)
        if count > 1 or (count and key not in content):
            return None
    try:
        spec = _plain_decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if any(entry.keys() - {"type", "path"} for entry in spec.linux.namespaces):
        return None
    entries = (StateNamespace(e.get("type", ""), e.get("path", "")) for e in spec.linux.namespaces)
    return Spec(spec.annotations, tuple(entries))


def annotations_of(labels: Iterable[str]) -> dict[str, str]:
    """The `key=value` labels of runc as a mapping; a label without `=` has an empty value."""
    return {key: value for key, _, value in (label.partition("=") for label in labels)}


def namespace_of(namespaces: Sequence[StateNamespace], kind: str) -> tuple[Namespace, str]:
    """The namespace of `kind` (`NEWNET`, in `config.json` `network`), and its path if joined."""
    for namespace in namespaces:
        if namespace.type == kind:
            joined = namespace.path
            return (Namespace.JOINED, joined) if joined else (Namespace.OWN, "")
    return Namespace.HOST, ""


def has_user_namespace(namespaces: Iterable[StateNamespace], kind: str) -> bool:
    """Whether there is a user namespace; `kind` is `NEWUSER`, in `config.json` `user`."""
    return any(namespace.type == kind for namespace in namespaces)


def _not_runcs(shown: str, error: Exception) -> Unreadable:
    return Unreadable(
        f"{quoted(shown)} is not what runc writes: {str(error)[:200]}",
        "delete the container with `runc delete --force`, or remove that directory",
    )
