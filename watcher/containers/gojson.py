"""Reads `config.json` as Go's `encoding/json` does, because runc's reading is what counts.

Go is more lenient than the JSON standard, and differs from Python. All of this was tried with
runc 1.1.15 (`tests/attacks/test_bundle.py` compares the two):

- the first value counts, whatever text follows it (`Decoder.Decode`);
- a byte that is not UTF-8 and a lone surrogate each become U+FFFD;
- a key matches a field in any case; U+017F is an `s` and U+212A a `k` (`fold.go`);
- if a field is repeated, the last string wins; objects are merged, and arrays element by element
  (`decode.go`, `array`);
- `null` empties a pointer, a map and an array, and leaves a string or an element as it was; as a
  value in a map of strings it is the empty string.

Source: `src/encoding/json` of Go 1.24.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from json import JSONDecoder
from typing import Final, NamedTuple, NoReturn

_SPACE: Final = " \t\r\n"
_FOLDED: Final = {0x17F: "s", 0x212A: "k"}
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class NotGo(ValueError):
    """Go would refuse it: it is not JSON, or a value has the wrong type for its field."""


class Read(NamedTuple):
    """The parts of a `config.json` that matter: `linux.namespaces` by type and path."""

    annotations: dict[str, str]
    namespaces: list[tuple[str, str]]
    sysctl: dict[str, str]
    hostname: str = ""


class _Object(list[tuple[str, object]]):
    """An object's members in order, with repetitions."""


def read(content: bytes) -> Read:
    """What a `config.json` has for runc.

    Raises:
        NotGo: runc would refuse it.
    """
    return _read(_first_value(content))


def read_unambiguous(content: bytes) -> Read:
    """Like :func:`read`, for a runtime that is not written in Go.

    Raises:
        NotGo: it is as :func:`read` says, or another reader could read other namespaces: a key that
            matters is repeated or in another case, a namespace is repeated, or a text has a NUL,
            which ends it in C.
    """
    if b"\\u0000" in content:
        raise NotGo("a text has a NUL")
    value = _first_value(content)
    for linux in _unambiguous(value, "annotations", "linux"):
        list(_unambiguous(linux, "sysctl"))
        for namespaces in _unambiguous(linux, "namespaces"):
            for entry in namespaces if isinstance(namespaces, list) else ():
                list(_unambiguous(entry, "type", "path"))
    found = _read(value)
    if len({kind for kind, _ in found.namespaces}) < len(found.namespaces):
        raise NotGo("a namespace is there twice")
    return found


def _unambiguous(value: object, *names: str) -> Iterator[object]:
    """The member of an object with the last of `names`, if any; NotGo if one is not unique."""
    found = {}
    for key, member in _members(value) if isinstance(value, _Object) else ():
        name = key.translate(_FOLDED).lower()
        if name in names and (name in found or name != key):
            raise NotGo(f"{name} is there twice, or in another case")
        found[name] = member
    if names[-1] in found:
        yield found[names[-1]]


def _read(value: object) -> Read:
    annotations: dict[str, str] = {}
    sysctl: dict[str, str] = {}
    namespaces = _Namespaces()
    hostname = ""
    for name, member in _fields(value):
        if name == "hostname":
            hostname = hostname if member is None else _text(member)
        elif name == "annotations":
            annotations = {} if member is None else annotations | _texts(member)
        elif name == "linux":
            if member is None:
                namespaces, sysctl = _Namespaces(), {}
            for name_, value_ in _fields(member):
                if name_ == "namespaces":
                    namespaces.read(value_)
                elif name_ == "sysctl":
                    sysctl = {} if value_ is None else sysctl | _texts(value_)
    return Read(annotations, namespaces.all(), sysctl, hostname)


class _Namespaces:
    """An array of namespaces. Go keeps the old elements behind the end of a shorter new array."""

    def __init__(self) -> None:
        self._memory: list[dict[str, str]] = []
        self._length = 0

    def read(self, value: object) -> None:
        """Read an array over the present elements."""
        entries = [] if value is None else value
        if not isinstance(entries, list) or isinstance(entries, _Object):
            raise NotGo("linux.namespaces is not an array")
        if not entries:
            self._memory = []
        self._length = len(entries)
        for index, entry in enumerate(entries):
            if index == len(self._memory):
                self._memory.append({"type": "", "path": ""})
            for name, text in _fields(entry):
                if name in ("type", "path") and text is not None:
                    self._memory[index][name] = _text(text)

    def all(self) -> list[tuple[str, str]]:
        """Type and path of each namespace."""
        return [(entry["type"], entry["path"]) for entry in self._memory[: self._length]]


def _first_value(content: bytes) -> object:
    text = content.decode("utf-8", "surrogateescape").lstrip(_SPACE)
    try:
        value, _ = _decoder.raw_decode(text)
    except RecursionError:
        raise NotGo("it is nested too deeply") from None
    except ValueError as error:
        raise NotGo(str(error)) from None
    return value


def _refuse(constant: str) -> NoReturn:
    raise NotGo(f"{constant} is not JSON")


_decoder: Final = JSONDecoder(
    object_pairs_hook=_Object,
    # Numbers do not matter here, and Python is slow with a very long one.
    parse_int=len,
    parse_float=len,
    parse_constant=_refuse,
)


def _fields(value: object) -> Iterator[tuple[str, object]]:
    """The members of an object (none for `null`), their keys folded as Go compares them."""
    if value is None:
        return
    for key, member in _members(value):
        yield key.translate(_FOLDED).lower(), member


def _texts(value: object) -> dict[str, str]:
    return {_text(key): "" if text is None else _text(text) for key, text in _members(value)}


def _members(value: object) -> Iterable[tuple[str, object]]:
    if not isinstance(value, _Object):
        raise NotGo("not an object where one should be")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise NotGo("not a string where one should be")
    return _SURROGATE.sub("\ufffd", value)
