"""Comparisons and operations, as etcd's JSON gateway wants them.

Written from api/etcdserverpb/rpc.proto of etcd 3.5. Bytes become base64 when they are encoded.
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

type Json = dict[str, Any]

ALL: Final = "\0"
"""The end of the range that has every key behind its first one."""


def raw(key: str) -> bytes:
    """A key as etcd has it."""
    return key.encode("utf-8", "surrogateescape")


def end_of(prefix: str) -> str:
    """The end of the range of all keys with a prefix."""
    key = raw(prefix).rstrip(b"\xff")
    if not key:
        return ALL
    return (key[:-1] + bytes([key[-1] + 1])).decode("utf-8", "surrogateescape")


def under(prefix: str) -> tuple[str, str]:
    """The range of all keys with a prefix: its first key and its end."""
    return prefix or ALL, end_of(prefix)


class Compare(Struct, frozen=True):
    """Something that has to hold of a key, or of each in a range.

    Attributes:
        end: the end of the range; empty: of one key.
        target: VERSION or MOD; the version of an absent key is 0.
        result: EQUAL or LESS.
    """

    key: str
    target: str
    operand: int
    result: str = "EQUAL"
    end: str = ""

    def written(self) -> Json:
        """As it is sent."""
        field = "mod_revision" if self.target == "MOD" else "version"
        written = {
            "key": raw(self.key),
            "target": self.target,
            "result": self.result,
            field: str(self.operand),
        }
        return written | ({"range_end": raw(self.end)} if self.end else {})


def absent(key: str) -> Compare:
    """There is no such key."""
    return is_version(key, 0)


def is_version(key: str, version: int) -> Compare:
    """The key has been changed so many times since there was none, its creation included."""
    return Compare(key, "VERSION", version)


def modified_at(key: str, revision: int) -> Compare:
    """The key is as it was made at that revision; 0: there is none."""
    return Compare(key, "MOD", revision)


def none_newer(first: str, end: str, revision: int) -> Compare:
    """No key from `first` on and before `end` was made or changed after that revision."""
    return Compare(first, "MOD", revision + 1, "LESS", end)


class Operation(Struct, frozen=True):
    """One thing that a transaction does.

    Attributes:
        kind: put, delete, or get.
        end: the end of a range; empty: one key.
    """

    kind: str
    key: str
    value: bytes = b""
    lease: int = 0
    end: str = ""

    def written(self) -> Json:
        """As it is sent."""
        if self.kind == "put":
            return {
                "request_put": {
                    "key": raw(self.key),
                    "value": self.value,
                    "lease": str(self.lease),
                }
            }
        kind = "request_range" if self.kind == "get" else "request_delete_range"
        return {kind: ranged(self.key, self.end)}


def put(key: str, value: bytes, lease: int = 0) -> Operation:
    """Make or change a key, which ends with the lease if there is one."""
    return Operation("put", key, value, lease)


def delete(key: str) -> Operation:
    """Delete a key, if it is there."""
    return Operation("delete", key)


def delete_range(first: str, end: str) -> Operation:
    """Delete all keys from `first` on and before `end`."""
    return Operation("delete", first, end=end)


def get(key: str, end: str = "") -> Operation:
    """Read a key, or all from it on and before `end`."""
    return Operation("get", key, end=end)


def ranged(key: str, end: str) -> Json:
    """A key, or a range of keys."""
    return {"key": raw(key)} | ({"range_end": raw(end)} if end else {})
