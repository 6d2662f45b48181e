"""Servers that are no etcd, or one that lies: an error in a line, nothing else."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.played_etcd import (
    HEADER,
    Answer,
    Played,
    Staying,
    http,
    played,
    run_with,
    streamed,
    told,
)
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import (
    Compacted,
    EtcdError,
    Refused,
    Replaced,
    TooLarge,
    Unavailable,
    Uncertain,
)
from watcher.cluster.etcd.requests import put
from watcher.cluster.etcd.wire import MAX_ANSWER
from watcher.cluster.etcd.words import Batch, Times

QUICK = Times(connect=1.5, answer=1.5, quiet=0.5, pauses=(0.01, 0.04))
PATIENT = Times(connect=10, answer=20, quiet=0.5, pauses=(0.01, 0.04))
"""Where no member is silent when it is asked."""
GOOD = http(json.dumps({"header": HEADER}))
GARBAGE = {
    "nothing": b"",
    "bytes": http(b"\xff\xfe\x00"),
    "html": http("<html>Welcome to nginx</html>"),
    "not HTTP": b"220 mail.example ESMTP\r\n",
    "half a status": b"HTTP/1.1 2",
    "a half": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
    "a list": http("[]"),
    "nested": http("[" * 100_000),
    "an object": http("{}"),
    "null": http("null"),
    "wrong types": http('{"header":[],"kvs":{}}'),
    "wrong numbers": http('{"header":{"revision":"many"}}'),
    "large numbers": http('{"header":{"revision":"%s"}}' % ("9" * 5000)),
    "no revision": http('{"header":{"revision":"%s"}}' % ("9" * 30)),
    "a revision below 0": http('{"header":{"revision":"-1"}}'),
    "no cluster's id": http('{"header":{"cluster_id":"%s"}}' % ("9" * 30)),
    "wrong base64": http('{"kvs":[{"key":"!!"}]}'),
    "compressed": http(gzip.compress(b"{}"), fields="Content-Encoding: gzip\r\n"),
    "redirect": http("", status="302 Found", fields="Location: http://192.0.2.9:2379/\r\n"),
    "unauthorized": http("", status="401 Unauthorized", fields="WWW-Authenticate: Basic\r\n"),
    "not found": http("404 page not found", status="404 Not Found"),
    "bad gateway": http("<html>", status="502 Bad Gateway"),
    "error without words": http("{}", status="400 Bad Request"),
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n",
    "a long field": b"HTTP/1.1 200 OK\r\nX: " + b"y" * 1_000_000 + b"\r\n\r\n",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}  # fmt: skip


def client_of(*servers: Played, **others: Any) -> Etcd:
    arguments = {"tls": None, "user": "", "password_file": "", "log": structlog.get_logger()}
    return Etcd([server.url for server in servers], **(arguments | {"times": QUICK} | others))


def asked[T](answer: Answer, work: Callable[[Etcd], Awaitable[T]], times: Times = QUICK) -> T:
    """What `work` returns with a client of a server that answers so."""

    async def run(server: Played) -> T:
        async with client_of(server, times=times) as client:
            return await work(client)

    return run_with(answer, run)


async def batches(client: Etcd, count: int, revision: int = 1) -> list[Batch]:
    """The first batches of a watch, as many."""
    found = []
    async with aclosing(client.watch("/watcher/", revision)) as watch:
        async for batch in watch:
            found.append(batch)
            if len(found) == count:
                break
    return found


def check_line(error: EtcdError) -> None:
    """It is one line of a reasonable length."""
    assert str(error).isprintable(), str(error)
    assert len(str(error)) < 600, str(error)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_an_error(garbage: bytes) -> None:
    async def ask(client: Etcd) -> None:
        with pytest.raises(Unavailable) as read:
            await client.range("a")
        with pytest.raises(Uncertain) as written:
            await client.txn([], [put("a", b"")])
        with pytest.raises(Unavailable) as granted:
            await client.grant(5)
        with pytest.raises(Unavailable) as watched:
            await batches(client, 1)
        (status,) = (await client.statuses()).values()
        assert isinstance(status, str)
        for raised in (read, written, granted, watched):
            check_line(raised.value)

    asked(lambda *_: garbage, ask)


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_another_member_is_asked_instead(garbage: bytes) -> None:
    async def run() -> None:
        async with played(lambda *_: garbage) as bad, played(lambda *_: GOOD) as etcd:
            for _ in range(8):  # it begins at any
                async with client_of(bad, etcd) as client:
                    assert (await client.range("a")).revision == 5

    asyncio.run(run())


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_a_member_that_gives_no_token_has_changed_nothing(garbage: bytes, password: str) -> None:
    """So the next one is asked to make a change."""
    paths: list[str] = []

    def answer(path: str, _: object) -> bytes:
        paths.append(path)
        return http('{"token":"x"}') if path == "/v3/auth/authenticate" else GOOD

    async def run() -> None:
        async with played(lambda *_: garbage) as bad, played(answer) as etcd:
            client = client_of(bad, etcd, user="u", password_file=password, times=PATIENT)
            client._members._urls[:] = [bad.url, etcd.url]
            async with client:
                await client.txn([], [put("a", b"")])
        assert set(bad.paths) == {"/v3/auth/authenticate"}
        assert paths == ["/v3/auth/authenticate", "/v3/kv/txn"]

    asyncio.run(run())


def test_requests_that_wait_for_a_token_fail_together(password: str) -> None:
    """They do not wait for a silent member one after another."""
    count = 8

    async def run(server: Played) -> None:
        async with client_of(server, user="u", password_file=password) as client:
            errors = await asyncio.gather(
                *(client.range("a") for _ in range(count)), return_exceptions=True
            )
        assert {type(error) for error in errors} == {Unavailable}
        assert server.paths == ["/v3/auth/authenticate"]

    run_with(lambda *_: None, run)


def test_silence_has_an_end() -> None:
    async def ask(client: Etcd) -> None:
        with pytest.raises(Unavailable, match="no answer within"):
            await client.range("a")
        with pytest.raises(Unavailable, match="no answer within"):
            await batches(client, 1)

    asked(lambda *_: None, ask)


def test_a_flood_has_an_end() -> None:
    flood = b" " * (1 << 20)

    async def ask(client: Etcd) -> None:
        with pytest.raises(TooLarge):
            await client.range("a")
        with pytest.raises(Unavailable, match="a line without an end"):
            await batches(client, 1)

    def answer(*_: object) -> bytes:
        return streamed(*[flood] * (MAX_ANSWER // len(flood) + 2))

    async def run(server: Played) -> None:
        async with client_of(server, times=Times(answer=20)) as client:
            await ask(client)

    run_with(answer, run)


def test_after_a_flood_another_member_is_asked() -> None:
    flood = b" " * (1 << 20)
    floods = streamed(*[flood] * (MAX_ANSWER // len(flood) + 2))

    async def run() -> None:
        async with played(lambda *_: floods) as bad, played(lambda *_: GOOD) as etcd:
            client = client_of(bad, etcd, times=Times(answer=20))
            client._members._urls[:] = [bad.url, etcd.url]
            async with client:
                with pytest.raises(TooLarge):
                    await client.range("a")
                assert (await client.range("a")).revision == 5

    asyncio.run(run())


def test_half_a_line_and_no_more() -> None:
    """The member is there, and answers all else: it is left all the same."""
    half = streamed(told(created=True), told(events=[kv(6)])[:-9])

    async def ask(client: Etcd) -> None:
        found = await batches(client, 4)
        assert [event.kv.modified for batch in found for event in batch.events] == [6]

    begun: list[object] = []

    def answer(path: str, body: object) -> bytes:
        if path != "/v3/watch":
            return GOOD
        begun.append(body)
        whole = streamed(told(created=True), told(events=[kv(6)]))
        return whole if len(begun) > 1 else Staying(half)

    asked(answer, ask, PATIENT)
    assert len(begun) == 2


def test_another_member_that_answers_in_its_stead_vouches_for_nothing() -> None:
    """A name of several addresses, or a proxy: one member has begun to tell, and hangs.

    As long as the other one knows of no change that was not told, nothing is wrong.
    """
    paths: list[str] = []

    def answer(path: str, _: object) -> bytes:
        paths.append(path)
        if path != "/v3/watch":
            revision = "5" if paths.count(path) == 1 else "6"
            return http(json.dumps({"header": HEADER | {"member_id": "2", "revision": revision}}))
        created = told(created=True, header=HEADER | {"member_id": "1"})
        if paths.count(path) == 1:
            return Staying(streamed(created))
        return Staying(streamed(created, told(events=[kv(6)])))

    async def ask(client: Etcd) -> None:
        found = await batches(client, 4, revision=6)
        assert [event.kv.modified for batch in found for event in batch.events] == [6]

    asked(answer, ask, PATIENT)
    assert paths == ["/v3/watch", "/v3/kv/range", "/v3/kv/range", "/v3/watch"]


def test_an_error_that_nobody_knows_is_said() -> None:
    async def ask(client: Etcd) -> None:
        with pytest.raises(EtcdError, match="etcd answers") as raised:
            await client.range("a")
        check_line(raised.value)

    message = json.dumps({"code": 3, "message": "odd\n\x1b[31m" + "x" * 5000})
    asked(lambda *_: http(message, status="400 Bad Request"), ask)


def test_what_a_watch_may_end_with() -> None:
    def ends(**line: Any) -> Answer:
        return lambda *_: streamed(told(created=True), told(canceled=True, **line))

    async def ask(client: Etcd) -> None:
        await batches(client, 3)

    with pytest.raises(Compacted) as compacted:
        asked(ends(compact_revision="9"), ask)
    assert compacted.value.revision == 9
    reason = "rpc error: code = PermissionDenied desc = etcdserver: permission denied"
    with pytest.raises(Refused):
        asked(ends(cancel_reason=reason), ask)
    with pytest.raises(EtcdError, match="etcd answers"):
        asked(ends(cancel_reason="because"), ask)


def test_a_watch_that_ends_at_once_is_not_begun_in_a_hot_loop() -> None:
    """The pauses are longer each time, up to the longest."""

    async def run(server: Played) -> None:
        async with client_of(server) as client:
            await batches(client, 8)
        gaps = [b - a for a, b in zip(server.times[:-1], server.times[1:], strict=True)]
        for gap, pause in zip(gaps, (0.01, 0.02, 0.04, 0.04, 0.04, 0.04, 0.04), strict=True):
            assert gap >= pause / 2  # they are shortened at random, by a half at the most

    run_with(lambda *_: streamed(told(created=True)), run)


def test_a_watch_that_never_begins_is_given_up() -> None:
    async def run(server: Played) -> None:
        async with client_of(server) as client:
            with pytest.raises(Unavailable, match="no leader"):
                await batches(client, 1)
        assert server.paths == ["/v3/watch"]

    error = {"error": {"code": 14, "message": "etcdserver: no leader"}}
    run_with(lambda *_: streamed(json.dumps(error).encode() + b"\n"), run)


def kv(revision: int, key: str = "YQ==") -> dict[str, Any]:
    return {"kv": {"key": key, "mod_revision": str(revision), "version": "1"}}


def test_a_half_told_revision_is_told_anew() -> None:
    """What a member had begun to tell when it failed, another one tells whole."""
    lines = [told(events=[kv(3), kv(4), kv(5, "YQ==")], fragment=True)]
    again = [
        told(events=[kv(4), kv(5, "YQ=="), kv(5, "Yg==")], fragment=True),
        told(events=[kv(5, "Yw==")]),
    ]
    begun: list[int] = []

    def answer(path: str, body: Any) -> bytes:
        if path != "/v3/watch":
            return GOOD
        begun.append(int(body["create_request"]["start_revision"]))
        return streamed(told(created=True), *(again if len(begun) > 1 else lines))

    async def ask(client: Etcd) -> list[tuple[int, str]]:
        found = await batches(client, 4, revision=3)
        assert [batch.revision for batch in found] == [2, 4, 4, 5]
        return [(event.kv.modified, event.kv.key) for batch in found for event in batch.events]

    assert asked(answer, ask) == [(3, "a"), (4, "a"), (5, "a"), (5, "b"), (5, "c")]
    assert begun == [3, 4]


@pytest.mark.parametrize("other", [kv(4, "Yg=="), kv(5)], ids=["another key", "another revision"])
def test_another_change_where_the_latest_was_is_another_history(other: dict[str, Any]) -> None:
    """Etcd was restored while no watch was there, and has had as many changes since."""
    begun: list[int] = []

    def answer(path: str, body: Any) -> bytes:
        if path != "/v3/watch":
            return GOOD
        begun.append(int(body["create_request"]["start_revision"]))
        return streamed(told(created=True), told(events=[kv(4) if len(begun) == 1 else other]))

    async def ask(client: Etcd) -> list[Batch]:
        with pytest.raises(Replaced):
            await batches(client, 9, revision=3)
        return []

    asked(answer, ask)
    assert begun == [3, 4]


def test_what_was_told_is_not_told_again() -> None:
    lines = [told(events=[kv(3)]), told(events=[kv(2), kv(3)]), told(), told(events=[kv(5), kv(6)])]

    async def ask(client: Etcd) -> list[Batch]:
        return await batches(client, 4, revision=3)

    found = asked(lambda *_: streamed(told(created=True), *lines), ask)
    assert [batch.revision for batch in found] == [2, 3, 5, 6]
    assert [event.kv.modified for batch in found for event in batch.events] == [3, 6]


def test_a_member_that_lags_is_no_other_etcd() -> None:
    """Its first line tells an old revision; asked for what all know, it tells the present one."""

    def answer(path: str, _: object) -> bytes:
        if path == "/v3/watch":
            return streamed(told(created=True), told(events=[kv(9)]))
        return http(json.dumps({"header": HEADER | {"revision": "8"}}))

    async def ask(client: Etcd) -> list[Batch]:
        return await batches(client, 2, revision=9)

    assert asked(answer, ask)[1].revision == 9

    def less(path: str, _: object) -> bytes:
        return streamed(told(created=True)) if path == "/v3/watch" else http('{"header":{}}')

    with pytest.raises(Replaced):
        asked(less, ask)


def test_no_secret_goes_where_a_redirect_leads() -> None:
    async def run() -> None:
        async with played(lambda *_: GOOD) as other:
            moved = http("", status="307 Temporary Redirect", fields=f"Location: {other.url}/\r\n")
            async with played(lambda *_: moved) as server, client_of(server) as client:
                with pytest.raises(Unavailable, match="redirects"):
                    await client.range("a")
                assert not other.paths

    asyncio.run(run())


def test_the_environment_names_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        async with played(lambda *_: GOOD) as proxy, played(lambda *_: GOOD) as server:
            for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, proxy.url)
            async with client_of(server) as client:
                await client.range("a")
            assert not proxy.paths
            assert server.paths == ["/v3/kv/range"]
            assert server.fields[0]["grpc-metadata-hasleader"] == "true"

    asyncio.run(run())


def test_a_token_is_no_header(password: str) -> None:
    """What a server gives as a token could end the field that it is sent in."""
    answer = http(json.dumps({"token": "x\r\nX-Evil: 1"}))

    async def run(server: Played) -> None:
        async with client_of(server, user="u", password_file=password) as client:
            with pytest.raises(Unavailable, match="no token"):
                await client.range("a")
        assert set(server.paths) == {"/v3/auth/authenticate"}

    run_with(lambda *_: answer, run)


def test_a_refusal_is_not_asked_again(password: str) -> None:
    """A token that never counts is asked for twice; the caller pauses before it asks again."""
    stale = json.dumps({"code": 16, "message": "etcdserver: invalid auth token"})

    def answer(path: str, _: object) -> bytes:
        if path == "/v3/auth/authenticate":
            return http('{"token":"x"}')
        return http(stale, status="401 Unauthorized")

    async def run(server: Played) -> None:
        async with client_of(server, user="u", password_file=password) as client:
            with pytest.raises(Refused, match="no token"):
                await client.range("a")
        assert server.paths == ["/v3/auth/authenticate", "/v3/kv/range"] * 2

    run_with(answer, run)


@pytest.fixture
def password(tmp_path: Path) -> str:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text("secret\n")
    return str(path)
