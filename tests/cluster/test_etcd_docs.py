"""What docs/cluster.md says that etcd has to allow is enough, and no more than that."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import pytest

from tests.support.etcd import ROOT, USER
from tests.support.etcd import Etcd as RealEtcd
from tests.support.etcd_client import done
from tests.support.host.machine import Machine
from tests.support.paths import REPOSITORY
from watcher.cluster.etcd.client import Etcd
from watcher.cluster.etcd.errors import Refused
from watcher.cluster.etcd.requests import delete_range, end_of, none_newer, put
from watcher.config.settings import Cluster

PREFIX: Final = Cluster().prefix + "/v1/"
_PASSWORDS: Final = dict((ROOT, USER))
_PAGE: Final = REPOSITORY / "docs" / "cluster.md"


def commands() -> list[list[str]]:
    """Those of the page, with passwords in place of questions for them."""
    section = _PAGE.read_text().split("## What etcd has to allow\n")[1].split("\n## ")[0]
    lines = [line[2:] for line in section.splitlines() if line.startswith("# etcdctl ")]
    words = [shlex.split(line, comments=True)[1:] for line in lines]
    for command in words:
        if command[:2] == ["user", "add"]:
            command[2] += f":{_PASSWORDS[command[2]]}"
    return words


def test_the_role_of_the_page_is_enough(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.touch(0o600)
    password.write_text(USER[1])

    async def work(client: Etcd) -> None:
        end = end_of(PREFIX)
        lease = await client.grant(30)
        revision = (
            await client.txn([none_newer(PREFIX, end, 0)], [put(f"{PREFIX}a", b"", lease)])
        ).revision
        assert (
            await client.txn([none_newer(PREFIX, end, revision)], [put(f"{PREFIX}b", b"")])
        ).succeeded
        assert len((await client.read_all(PREFIX)).kvs) == 2
        watch = client.watch(PREFIX, revision)
        while not (await anext(watch)).events:
            pass
        await watch.aclose()
        assert await client.keep_alive(lease) == 30
        await client.revoke(lease)
        await client.txn([], [delete_range(PREFIX, end)])
        await client.statuses()
        for prefix in ("/", "/watche", "/watcher0", "/other/"):
            with pytest.raises(Refused):
                await client.read_all(prefix)
            with pytest.raises(Refused):
                await client.txn([], [put(f"{prefix}x", b"")])
            with pytest.raises(Refused):
                await anext(client.watch(prefix, 1))

    with Machine() as machine:
        real = RealEtcd((machine.here, "192.0.2.2"))
        for command in commands():
            real.ctl(*command)
        done(real, work, user=USER[0], password_file=str(password))
        for forbidden in (
            ["user", "list"],
            ["role", "list"],
            ["auth", "disable"],
            ["put", "/x", ""],
        ):
            refused = real.ctl(*forbidden, user=USER, check=False)
            assert "permission denied" in refused.stderr
