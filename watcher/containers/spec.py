"""Decodes the parts of a bundle's `config.json` that matter for the network.

Source: the OCI runtime specification, `config.md` and `config-linux.md`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from watcher.containers import gojson
from watcher.containers.files import Unreadable
from watcher.model.container import Namespace
from watcher.model.errors import quoted
from watcher.model.keys import PREFIX

NETWORK: Final = "network"
"""The name of the network namespace in `config.json`."""

USER: Final = "user"
"""The name of the user namespace in `config.json`."""


class SpecNamespace(msgspec.Struct, frozen=True):
    """A namespace of a configuration; `path` is empty for a new one."""

    type: str
    path: str = ""


class Spec(msgspec.Struct, frozen=True):
    """The parts of a `config.json` that matter.

    Attributes:
        annotations: the annotations as written.
        namespaces: the entries of `linux.namespaces`.
        sysctl: `linux.sysctl` as written.
        hostname: `hostname` as written; only its own container ever hears of it, so it does not
            matter if readers differ about it.
    """

    annotations: dict[str, str]
    namespaces: tuple[SpecNamespace, ...]
    sysctl: dict[str, str] = {}
    hostname: str = ""


class _PlainLinux(msgspec.Struct, frozen=True):
    namespaces: tuple[dict[str, str], ...] = ()
    sysctl: dict[str, str] = {}


class _PlainSpec(msgspec.Struct, frozen=True):
    """A `config.json` that has each key once, spelled as in the specification."""

    annotations: dict[str, str] = {}
    linux: _PlainLinux = _PlainLinux()
    hostname: str = ""


class _CutLinux(msgspec.Struct, frozen=True):
    namespaces: msgspec.Raw = msgspec.Raw(b"[]")
    sysctl: msgspec.Raw = msgspec.Raw(b"{}")


class _CutSpec(msgspec.Struct, frozen=True):
    """Like :class:`_PlainSpec`, but with namespaces and settings as they are written."""

    annotations: dict[str, str] = {}
    linux: _CutLinux = _CutLinux()
    hostname: str = ""


_ONCE: Final = (b'"linux"', b'"annotations"', b'"namespaces"', b'"sysctl"')
_NAMESPACE_KEYS: Final = frozenset(("type", "path"))
_FOLDED: Final = ("\u017f".encode(), "\u212a".encode())
"""Characters that Go reads as `s` and `k` in a key (:mod:`watcher.containers.gojson`)."""

_ESCAPED_PREFIX: Final = re.compile(
    "".join(rf"(?:{re.escape(c)}|\\u00{ord(c):02x})" for c in PREFIX).encode(), re.IGNORECASE
)
"""The prefix of our annotations, each character plain or escaped."""

_ODD_ESCAPE: Final = re.compile(rb"\\u(?!003[ce]|0026|202[89])", re.IGNORECASE)
"""An escape other than those that Go writes for a few characters, none of which is in a key."""

_MOST_OF_PYTHON: Final = 1 << 20
"""Bytes of the longest text that is searched for ambiguities in Python: that takes 0.1 s."""

_plain_decoder = msgspec.json.Decoder(_PlainSpec)
_cut_decoder = msgspec.json.Decoder(_CutSpec)


def decode_spec(content: bytes, shown: str) -> Spec:
    """The `config.json` in `content`, as runc reads it; shown in errors as `shown`.

    Raises:
        Unreadable: runc would refuse it.
    """
    plain = _decode_plain(content)
    if plain is not None:
        return plain
    try:
        return _spec(gojson.read(content))
    except gojson.NotGo as error:
        raise Unreadable(
            f"{quoted(shown)} is not what runc reads: {str(error)[:200]}",
            "correct it, or make it anew with `runc spec`",
        ) from error


def decode_unambiguous_spec(content: bytes, shown: str, runtime: str) -> Spec:
    """The `config.json` in `content`, as any reader reads it, also `runtime`.

    Raises:
        Unreadable: readers could differ about its namespaces, or refuse it.
    """
    annotations, hostname, rest = _cut(content)
    if len(rest) > _MOST_OF_PYTHON:
        why = gojson.NotGo("it has odd escapes or repeated keys, and too many bytes for these")
        raise not_written_by(runtime, shown, why)
    try:
        return _spec(gojson.read_unambiguous(rest), annotations, hostname)
    except gojson.NotGo as error:
        raise not_written_by(runtime, shown, error) from error


def _cut(content: bytes) -> tuple[dict[str, str], str, bytes]:
    """The annotations and hostname in `content`, and its namespaces and settings alone as another.

    If readers could differ about anything else, it is no annotations, and all of `content`.
    """
    if not _has_each_once(content) or _ODD_ESCAPE.search(content) is not None:
        return {}, "", content
    try:
        spec = _cut_decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return {}, "", content
    rest = bytes(spec.linux.namespaces), bytes(spec.linux.sysctl)
    return spec.annotations, spec.hostname, b'{"linux":{"namespaces":%b,"sysctl":%b}}' % rest


def _spec(read: gojson.Read, annotations: dict[str, str] | None = None, hostname: str = "") -> Spec:
    """What was `read`, with these `annotations` before its own."""
    namespaces = tuple(SpecNamespace(type_, path) for type_, path in read.namespaces)
    hostname = hostname or read.hostname
    return Spec((annotations or {}) | read.annotations, namespaces, read.sysctl, hostname)


def could_ask(content: bytes) -> bool:
    """Whether `content`, which may be broken, could have an annotation of ours."""
    if PREFIX.encode() in content:
        return True
    return b"\\u00" in content and _ESCAPED_PREFIX.search(content) is not None


def _decode_plain(content: bytes) -> Spec | None:
    """Decode `content` fast, since engines write tens of KiB; `None` if Go might differ."""
    if b"\\u" in content or not _has_each_once(content):
        return None
    try:
        spec = _plain_decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    namespaces = []
    for entry in spec.linux.namespaces:
        if not entry.keys() <= _NAMESPACE_KEYS:
            return None
        namespaces.append(SpecNamespace(entry.get("type", ""), entry.get("path", "")))
    return Spec(spec.annotations, tuple(namespaces), spec.linux.sysctl, spec.hostname)


def _has_each_once(content: bytes) -> bool:
    """Whether each key that matters is there once at most, and spelled right if not escaped."""
    if not content.isascii() and any(c in content for c in _FOLDED):
        return False
    lower = content.lower()
    for key in _ONCE:
        count = lower.count(key)
        if count > 1 or (count and key not in content):
            return False
    return True


def namespace_of(namespaces: Sequence[SpecNamespace], kind: str) -> tuple[Namespace, str]:
    """The namespace of that `kind`, and its path if joined."""
    for namespace in namespaces:
        if namespace.type == kind:
            joined = namespace.path
            return (Namespace.JOINED, joined) if joined else (Namespace.OWN, "")
    return Namespace.HOST, ""


def net_settings(sysctl: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Those of `linux.sysctl` that a network namespace has for itself, by name.

    runc saves them by name, and writes them in any order: to it they are a map.
    """
    if not sysctl:
        return ()
    return tuple(sorted(one for one in sysctl.items() if one[0].startswith(("net.", "net/"))))


def has_user_namespace(namespaces: Iterable[SpecNamespace], kind: str) -> bool:
    """Whether there is a user namespace, which is called `kind`."""
    return any(namespace.type == kind for namespace in namespaces)


def decoded[T](decoder: msgspec.json.Decoder[T], content: bytes, runtime: str, shown: str) -> T:
    """What `decoder` makes of the `content` of a file of that runtime, shown as `shown`.

    Raises:
        Unreadable: it is not JSON, or not of the runtime's types.
    """
    try:
        return decoder.decode(content)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise not_written_by(runtime, shown, error) from error


def not_written_by(runtime: str, shown: str, error: Exception) -> Unreadable:
    """The error about a file, shown as `shown`, that cannot be one of that runtime."""
    return Unreadable(
        f"{quoted(shown)} is not what {runtime} writes: {str(error)[:200]}",
        f"delete the container with `{runtime} delete --force`, or remove that directory",
    )
