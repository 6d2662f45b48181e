"""What is read: any bytes are an answer or an error, and URLs and prefixes have one meaning."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.cluster.etcd import wire
from watcher.cluster.etcd.errors import Answered, Failed
from watcher.cluster.etcd.members import Members, read_endpoint
from watcher.cluster.etcd.requests import end_of, raw, under
from watcher.model.errors import UsageError

READERS = (
    wire.read_range,
    wire.read_txn,
    wire.read_granted,
    wire.read_alive,
    wire.read_token,
    wire.read_status,
    wire.read_error,
    wire.read_told,
)
FIELDS = st.sampled_from(
    ["header", "cluster_id", "revision", "kvs", "key", "value", "mod_revision", "version", "lease",
     "more", "succeeded", "responses", "response_range", "response_delete_range", "deleted", "ID",
     "TTL", "result", "error", "code", "message", "created", "canceled", "cancel_reason",
     "fragment", "compact_revision", "events", "kv", "type", "token", "dbSize", "leader"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10)
    | st.integers().map(str) | st.binary(max_size=9).map(lambda b: base64.b64encode(b).decode()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=20,
)  # fmt: skip
ANSWERS = st.dictionaries(FIELDS, VALUES, max_size=5)


def read_by_all(data: bytes) -> None:
    for read in READERS:
        with suppress(Failed, Answered):
            read(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_an_error(data: bytes) -> None:
    read_by_all(data)


@given(ANSWERS)
def test_any_json_is_an_answer_or_an_error(answer: dict[str, Any]) -> None:
    read_by_all(json.dumps(answer).encode())


@given(st.binary(max_size=20), st.binary(max_size=20), st.integers(0, (1 << 63) - 1))
def test_keys_and_values_are_any_bytes(key: bytes, value: bytes, number: int) -> None:
    kv = {
        "key": base64.b64encode(key).decode(),
        "value": base64.b64encode(value).decode(),
        "mod_revision": str(number),
    }
    header = {"cluster_id": str(2**64 - 1), "revision": str(number)}
    answer = wire.read_range(json.dumps({"header": header, "kvs": [kv]}).encode())
    (found,) = answer.kvs
    assert (raw(found.key), found.value, found.modified) == (key, value, number)
    assert (answer.revision, answer.cluster_id) == (number, 2**64 - 1)


@given(st.lists(st.text("ab\r ", max_size=5)), st.lists(st.integers(1, 8)))
def test_lines_are_whole_however_they_come(lines: list[str], sizes: list[int]) -> None:
    data = "".join(f"{line}\n" for line in lines).encode()
    reader, found, at = wire.Lines(), [], 0
    for size in [*sizes, len(data)]:
        found += reader.add(data[at : at + size])
        at += size
    assert found == [line.encode() for line in lines if line.strip()]


def test_a_line_has_an_end() -> None:
    reader = wire.Lines(10)
    assert reader.add(b"1234567890\n123") == [b"1234567890"]
    with pytest.raises(Failed):
        reader.add(b"45678901")


@given(st.binary(max_size=6), st.binary(max_size=8))
def test_a_prefix_has_exactly_the_keys_that_begin_with_it(prefix: bytes, key: bytes) -> None:
    text = prefix.decode("utf-8", "surrogateescape")
    end = raw(end_of(text))
    assert raw(text) == prefix
    within = prefix <= key and (end == b"\0" or key < end)
    assert within == key.startswith(prefix)
    if key:  # etcd has no empty key
        assert (raw(under(text)[0]) <= key and (end == b"\0" or key < end)) == within


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("http://10.0.0.1:2379", "http://10.0.0.1:2379"),
        ("https://10.0.0.1", "https://10.0.0.1:2379"),
        ("https://ETCD.example:1/", "https://etcd.example:1"),
        ("http://[2001:DB8::1]:2379", "http://[2001:db8::1]:2379"),
        ("http://[::1]", "http://[::1]:2379"),
    ],
)
def test_urls(text: str, read: str) -> None:
    assert read_endpoint(text) == read


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.1:2379", "etcd:2379", "ftp://a:1", "http://", "http://a:0x1", "http://a:70000", "http://a/b",
     "http://a?b", "http://a#b", "http://[::1", "http://a b", "http://a\n", "unix:///run/etcd", "http://a:0",
     "http://a..b:1", "http://.a", "http://" + "a" * 64],
)  # fmt: skip
def test_what_is_no_url(text: str) -> None:
    with pytest.raises(UsageError):
        read_endpoint(text)


@given(st.text())
def test_any_text_is_a_url_or_an_error(text: str) -> None:
    with suppress(UsageError):
        assert read_endpoint(read_endpoint(text)) == read_endpoint(text)


def test_a_password_in_a_url_is_not_shown() -> None:
    for url in ("https://user:secret@a:1", "https://user:secret@a:99999", "x://user:secret@a"):
        with pytest.raises(UsageError) as raised:
            read_endpoint(url)
        assert "secret" not in str(raised.value)
        assert raised.value.__cause__ is None


def test_a_member_counts_once() -> None:
    members = Members(["http://a", "http://a:2379/", "http://[::1]:1", "http://[0::1]:1"])
    assert len(members) == 2
    first = members.first
    members.failed(first)
    assert list(members)[-1] == first
    with pytest.raises(UsageError, match="no member"):
        Members([])
