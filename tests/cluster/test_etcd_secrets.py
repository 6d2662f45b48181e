"""The client of etcd: certificates, users and passwords, what is said when they do not count."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.support.authority import Authority
from tests.support.etcd import USER
from tests.support.etcd import Etcd as RealEtcd
from tests.support.etcd_client import client_of, done, within
from tests.support.host.machine import Machine
from tests.support.waiting import eventually
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import EtcdError, Refused, Unavailable
from watcher.cluster.etcd.requests import put
from watcher.cluster.etcd.words import Batch, Times, Tls

KEY = "/watcher/a"
QUICK = Times(connect=1, answer=3, quiet=0.2)


async def read(client: Etcd) -> int:
    return (await client.range(KEY)).revision


def refused(real: RealEtcd, **others: Any) -> EtcdError:
    """The error of a read, which has one line and no secret."""
    with pytest.raises(EtcdError) as raised:
        done(real, read, QUICK, **others)
    assert str(raised.value).isprintable()
    assert "secret" not in repr(raised.value)
    assert raised.value.remedy
    return raised.value


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.touch(0o600)
    path.write_text(text)
    path.chmod(mode)
    return str(path)


# --- certificates ------------------------------------------------------------------------------


def test_who_has_no_certificate_is_not_let_in(strict: RealEtcd) -> None:
    error = refused(strict, tls=Tls(strict.ca))
    assert isinstance(error, Unavailable)
    assert "certificate required" in str(error)


def test_a_certificate_of_another_authority_does_not_count(
    strict: RealEtcd, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    cert, key = map(str, other.issue("client"))
    assert "TLS: " in str(refused(strict, tls=Tls(strict.ca, cert, key)))
    error = refused(strict, tls=Tls(str(other.ca), strict.cert, strict.key))
    assert isinstance(error, Unavailable)
    assert "its certificate does not count: " in str(error)
    assert "certificate does not count" in str(refused(strict, tls=None))


def test_a_certificate_is_for_its_addresses(machine: Machine) -> None:
    real = RealEtcd((machine.here, "192.0.2.2"), tls=True, flags=(
        "--listen-client-urls=https://192.0.2.2:2379,https://[2001:db8::2]:2379",))  # fmt: skip
    assert done(real, read)
    error = refused(real, endpoints=["https://[2001:db8::2]:2379"])
    assert "its certificate does not count: IP address mismatch" in str(error)


def test_the_gateway_needs_a_certificate_for_clients(machine: Machine) -> None:
    """It speaks to its own member with the certificate of the server, unless it has another one."""
    real = RealEtcd((machine.here, "192.0.2.2"), tls=True)
    assert real.authority
    cert, key = real.authority.issue("narrow", ["192.0.2.2"], usage="serverAuth")
    real.stop()
    real.flags = [f"--cert-file={cert}", f"--key-file={key}"]
    real.start()
    assert "its gateway has no certificate for clients" in str(refused(real))
    real.stop()
    real.flags += [f"--client-cert-file={real.cert}", f"--client-key-file={real.key}"]
    real.start()
    assert done(real, read)


def test_http_and_https_are_told_apart(strict: RealEtcd, machine: Machine) -> None:
    assert "closed the connection" in str(refused(strict, endpoints=["http://192.0.2.2:2379"]))
    plain = RealEtcd((machine.here, "192.0.2.2"))
    error = refused(plain, endpoints=["https://192.0.2.2:2379"])
    assert "closed the connection" in str(error)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_key_that_others_may_read_is_refused(strict: RealEtcd, tmp_path: Path, mode: int) -> None:
    key = written(tmp_path / "key", Path(strict.key).read_text(), mode)
    error = refused(strict, tls=Tls(strict.ca, strict.cert, key))
    assert isinstance(error, Refused)
    assert "others may read it; run `chown root" in str(error)


def test_files_for_tls_that_cannot_be_used(strict: RealEtcd, tmp_path: Path) -> None:
    garbage = written(tmp_path / "garbage", "garbage")
    locked = str(tmp_path / "locked")
    subprocess.run(
        ["openssl", "ec", "-in", strict.key, "-aes128", "-passout", "pass:x", "-out", locked],
        check=True,
        capture_output=True,
    )
    Path(locked).chmod(0o600)
    for tls in (
        Tls("/nowhere"),
        Tls(garbage),
        Tls(strict.ca, "/nowhere", strict.key),
        Tls(strict.ca, garbage, strict.key),
        Tls(strict.ca, strict.cert),
        Tls(strict.ca, strict.cert, garbage),
        Tls(strict.ca, strict.ca, strict.key),
        Tls(strict.ca, strict.cert, locked),
        Tls("a\0b"),
    ):
        assert isinstance(refused(strict, tls=tls), Refused)


def test_a_renewed_certificate_counts_at_once(machine: Machine) -> None:
    """The old authority is gone; a watch that began before goes on."""
    real = RealEtcd((machine.here, "192.0.2.2"), tls=True)
    directory = Path(real.ca).parent

    async def work(client: Etcd) -> None:
        await client.range(KEY)
        await asyncio.to_thread(real.kill)
        for path in list(directory.iterdir()):
            path.rename(path.with_suffix(path.suffix + ".old"))
        again = Authority(directory.with_name("again"))
        again.issue("client")
        again.issue("server", ["192.0.2.2"])
        with pytest.raises(EtcdError):
            await client.range(KEY)
        for path in again.ca.parent.iterdir():
            shutil.copy(path, directory)
            (directory / path.name).chmod(0o600)
        await asyncio.to_thread(real.start)
        await client.range(KEY)

    done(real, work)


@pytest.mark.parametrize("whose", ["server", "client"])
def test_a_certificate_expires_while_it_is_used(machine: Machine, whose: str) -> None:
    """Connections that there are go on; others are refused until it is renewed."""
    address = "192.0.2.2"
    real = RealEtcd((machine.here, address), tls=True)
    assert real.authority

    def renew(*, expired: bool) -> None:
        assert real.authority
        addresses = [address, "127.0.0.1"] if whose == "server" else []
        real.authority.issue(whose, addresses, expired=expired)

    async def work(client: Etcd) -> None:
        batches = client.watch("/watcher/", 1)
        async with aclosing(batches):
            await anext(batches)
            await client.range(KEY)
            renew(expired=True)
            if whose == "server":  # this host's own is read again when it has changed
                await client.txn([], [put(KEY, b"1")])
                assert await told(batches) == [b"1"]
            async with client_of(real, QUICK) as another:
                with pytest.raises(Unavailable, match="expired"):
                    await another.range(KEY)
                renew(expired=False)
                await another.txn([], [put(KEY, b"2")])
            assert await told(batches) == [b"2"]
            await client.range(KEY)

    async def told(batches: AsyncGenerator[Batch]) -> list[bytes]:
        while not (batch := await anext(batches)).events:
            pass
        return [event.kv.value for event in batch.events]

    done(real, work)


# --- users -------------------------------------------------------------------------------------


def test_who_is_no_user_is_refused(strict: RealEtcd, tmp_path: Path) -> None:
    wrong = written(tmp_path / "wrong", "another secret")
    assert "etcd wants a user; name one" in str(refused(strict, user=""))
    assert 'knows no user "watcher" with' in str(refused(strict, password_file=wrong))
    assert 'knows no user "nobody" with' in str(refused(strict, user="nobody"))


def test_a_watch_is_refused_as_well(strict: RealEtcd, tmp_path: Path) -> None:
    wrong = written(tmp_path / "wrong", "another secret")

    async def follow(client: Etcd) -> None:
        async with aclosing(client.watch("/other/", 1)) as batches:
            await anext(batches)

    others: list[dict[str, Any]] = [{}, {"user": ""}, {"password_file": wrong}]
    for other in others:
        with pytest.raises(Refused):
            done(strict, follow, **other)


@pytest.mark.parametrize("mode", [0o640, 0o604])
def test_a_password_that_others_may_read_is_refused(
    strict: RealEtcd, tmp_path: Path, mode: int
) -> None:
    path = written(tmp_path / "password", USER[1], mode)
    assert "others may read it; run `chown root" in str(refused(strict, password_file=path))


def test_password_files_that_cannot_be_used(strict: RealEtcd, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    subprocess.run(["mkfifo", "-m", "600", str(fifo)], check=True)
    (tmp_path / "binary").write_bytes(b"\xff")
    (tmp_path / "binary").chmod(0o600)
    for path in (
        "/nowhere",
        "",
        str(tmp_path),
        str(fifo),
        str(tmp_path / "binary"),
        written(tmp_path / "empty", "\n"),
        written(tmp_path / "long", "secret" * 10_000),
        "a\0b",
    ):
        assert isinstance(refused(strict, password_file=path), Refused)


def test_the_password_is_read_when_it_is_needed(machine: Machine) -> None:
    """A token lapses with a restart of etcd, and with each change of its users."""
    real = RealEtcd((machine.here, "192.0.2.2"), auth=True)

    async def work(client: Etcd) -> None:
        await client.range(KEY)
        batches = client.watch("/watcher/", 1)
        await anext(batches)
        await asyncio.to_thread(real.ctl, "role", "add", "more")
        await client.txn([], [put(KEY, b"1")])
        await asyncio.to_thread(real.kill)
        await asyncio.to_thread(real.start)
        await client.txn([], [put(KEY, b"2")])
        await asyncio.to_thread(
            real.ctl, "user", "passwd", "watcher", "--interactive=false", stdin="new-secret\n"
        )
        written(Path(real.password_file), "new-secret")
        await client.txn([], [put(KEY, b"3")])
        values: list[bytes] = []
        async with aclosing(batches):
            while len(values) < 3:
                values += [event.kv.value for event in (await anext(batches)).events]
        assert values == [b"1", b"2", b"3"]

    done(real, work, QUICK)


def test_many_requests_ask_for_one_token(machine: Machine) -> None:
    real = RealEtcd((machine.here, "192.0.2.2"), auth=True, flags=["--log-level=debug"])
    asked = "/etcdserverpb.Auth/Authenticate"
    before = real.members[0].log.read_text().count(asked)

    async def work(client: Etcd) -> None:
        await asyncio.gather(*(client.range(KEY) for _ in range(20)))

    done(real, work)
    assert real.members[0].log.read_text().count(asked) - before in (0, 1)


def test_a_token_lapses(machine: Machine) -> None:
    """Requests ask for a new one, and so does a watch."""
    real = RealEtcd(
        (machine.here, "192.0.2.2"), auth=True, flags=["--auth-token-ttl=1", "--log-level=debug"]
    )

    async def lapse(client: Etcd) -> None:
        """Waits until the token has, which takes a second without a request."""
        token = client._session._token
        assert token
        end = f'"deleted a simple token","user-name":"watcher","token":"{token}"'
        log = real.members[0].log
        await asyncio.to_thread(eventually, lambda: end in log.read_text())

    async def work(client: Etcd) -> None:
        await client.range(KEY)
        await lapse(client)
        await client.txn([], [put(KEY, b"")])
        await lapse(client)
        batches = client.watch("/watcher/", 1)
        async with aclosing(batches):
            while not (await anext(batches)).events:
                pass
            await lapse(client)
            await client.txn([], [put(KEY, b"")])
            while not (await anext(batches)).events:
                pass

    done(real, work)


def test_a_token_of_a_later_state_than_etcd_has_is_given_up(machine: Machine) -> None:
    """It was restored from a snapshot, and waits until it has caught up with the token."""
    real = RealEtcd((machine.here, "192.0.2.2"), auth=True)
    snapshot = real.snapshot()

    async def work(client: Etcd) -> None:
        for _ in range(32):
            await client.txn([], [put(KEY, b"")])
        client._session._token = None
        await client.range(KEY)
        token = client._session._token
        await asyncio.to_thread(real.restore, snapshot)
        with pytest.raises(Unavailable):
            await client.range(KEY)
        await client.range(KEY)
        client._session._token = token
        async with aclosing(client.watch("/watcher/", 1)) as batches:
            with pytest.raises(Unavailable):
                await anext(batches)
        async with aclosing(client.watch("/watcher/", 1)) as batches:
            await anext(batches)

    done(real, work, QUICK)


def test_etcd_that_wants_no_user_is_used_without(machine: Machine) -> None:
    """And with one, as soon as it does."""
    real = RealEtcd((machine.here, "192.0.2.2"))
    real.user, real.password_file = USER[0], written(real.files / "password", USER[1])

    async def work(client: Etcd) -> None:
        await client.range(KEY)
        await client.range(KEY)
        await asyncio.to_thread(real.authenticate)
        await client.range(KEY)
        with pytest.raises(Refused):
            await client.range("/other")

    with structlog.testing.capture_logs() as logs:
        done(real, work)
    assert [entry["event"] for entry in logs] == [
        "etcd lets in everybody, the password is not needed"
    ]


def test_no_secret_is_logged_or_shown(strict: RealEtcd) -> None:
    async def work() -> str:
        client = client_of(strict)
        async with client:
            await client.range(KEY)
            token = client._session._token
            assert token
            return repr((client, client._session, client._transport, vars(client)))

    with structlog.testing.capture_logs() as logs:
        shown = within(strict.members[0].place, work)
    assert "secret" not in shown
    assert not logs
