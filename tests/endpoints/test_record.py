"""Endpoints as they stand in etcd: bounded where they are written, and where they are read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.cluster.endpoints.record import (
    MOST_BYTES,
    MOST_NAMES,
    BadRecord,
    bounded,
    decoded,
    encoded,
)

_GOOD: dict[str, Any] = {
    "names": [["web", "f00"], ["side"]],
    "addresses": {"default": ["10.9.4.2"]},
}


def test_it_is_read_as_it_was_written() -> None:
    endpoint = bounded([["web", "f00"], ["side"]], {"b": ["fd00::1"], "a": ["10.9.4.2"]})
    assert decoded("7", encoded(endpoint)) == endpoint
    assert encoded(endpoint).startswith(b'{"addresses":{"a"') or encoded(endpoint)
    again = bounded([["web", "f00"], ["side"]], {"a": ["10.9.4.2"], "b": ["fd00::1"]})
    assert encoded(again) == encoded(endpoint)


_NAME = st.from_regex(r"[a-z0-9]{1,63}(\.[a-z0-9]{1,60}){0,1}", fullmatch=True)


@given(st.lists(st.lists(_NAME, max_size=40), max_size=40), st.integers(0, 30))
def test_whatever_is_written_can_be_read(names: list[list[str]], count: int) -> None:
    names = [[name for name in group if name not in ("host", "localhost")] for group in names]
    addresses = {f"n{n}": [f"10.0.{n}.{a}" for a in range(count)] for n in range(count)}
    value = encoded(bounded(names, addresses))
    assert len(value) <= MOST_BYTES
    decoded("1", value)


def test_what_has_no_room_is_left_out_from_its_end() -> None:
    endpoint = bounded([[f"n{number}" for number in range(MOST_NAMES + 10)], ["late"]], {})
    assert endpoint.names == (tuple(f"n{number}" for number in range(MOST_NAMES)),)


@pytest.mark.parametrize(
    "value",
    [
        b"", b"null", b"[]", b"{}", b"\xff\xfe", b'{"names": 7, "addresses": {}}',
        json.dumps(_GOOD)[:-1].encode(), b"<html>", b" " * (MOST_BYTES + 1), b"[" * 5000,
    ],
)  # fmt: skip
def test_garbage_is_none(value: bytes) -> None:
    with pytest.raises(BadRecord):
        decoded("1", value)


@pytest.mark.parametrize(
    "change",
    [
        {"names": [["web"] * (MOST_NAMES + 1)]}, {"names": [["WEB"]]}, {"names": [["host"]]},
        {"names": [["localhost"]]}, {"names": [["a..b"]]}, {"names": [[""]]}, {"names": [["a b"]]},
        {"names": [["x" * 64]]}, {"names": [["a\nb"]]}, {"names": [["é"]]}, {"names": [["web."]]},
        {"names": "web"}, {"addresses": {"default": ["10.9.4"]}},
        {"addresses": {"default": ["10.9.4.2/32"]}}, {"addresses": {"default": ["fe80::1%eth0"]}},
        {"addresses": {"default": ["FD00::1"]}}, {"addresses": {"a/b": ["10.9.4.2"]}},
        {"addresses": {"default": ["10.9.4.2"] * 9}},
        {"addresses": {f"n{number}": [] for number in range(11)}},
    ],
)  # fmt: skip
def test_what_claims_too_much_is_none(change: dict[str, Any]) -> None:
    assert decoded("1", json.dumps(_GOOD).encode())
    with pytest.raises(BadRecord):
        decoded("1", json.dumps({**_GOOD, **change}).encode())


@pytest.mark.parametrize("id_", ["", "x", "1/2", "-1", "1" * 33, "²"])
def test_an_id_that_no_host_gives(id_: str) -> None:
    with pytest.raises(BadRecord):
        decoded(id_, json.dumps(_GOOD).encode())


def test_new_fields_of_a_later_version_are_skipped() -> None:
    assert decoded("1", json.dumps({**_GOOD, "labels": {"a": 1}}).encode())
