"""Nobody is traced or moved but the init of a held runc, and only where its bundle may share."""

from __future__ import annotations

import json
from subprocess import PIPE
from typing import Final

import pytest

from tests.attacks.test_bundle import JOINING, joining, own_text, read_by_runc_alone, victim
from tests.support.host import Host, HostMaker
from tests.support.paths import REPOSITORY
from tests.support.waiting import PATIENCE, eventually

MALLORY: Final = 4321
PLAYED_RUNC: Final = REPOSITORY / "tests/support/played_runc.py"
SHARES: Final = {"io.watcher.share": "web"}


@pytest.mark.parametrize("who", ["root", "another user"])
def test_a_process_in_a_user_namespace_that_no_bundle_names_is_not_moved(
    host: Host, who: str
) -> None:
    """A runtime that anybody may have written, in a root in which anybody may make a directory."""
    host.service()
    is_well = victim(host)
    bundle = host.bundle("evil", annotations=SHARES)
    words = ["/usr/bin/python3", str(PLAYED_RUNC), str(host.root), "evil", str(bundle), "user"]
    if who != "root":
        for path in (host.base, host.root):
            path.chmod(0o1777)
        words = ["setpriv", f"--reuid={MALLORY}", f"--regid={MALLORY}", "--clear-groups", *words]
    with host.popen(words, stdout=PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "saved early\n"
        assert process.wait(PATIENCE) == 1
    reason = host.inspect("evil")["reason"]
    assert "its network namespace is not one that its runtime made for it" in reason
    assert is_well()


@pytest.mark.parametrize("how", ["linux in capitals", "an escaped letter", "null leaves a path"])
def test_who_has_joined_another_one_is_not_moved_on(host: Host, how: str) -> None:
    """Not even where its bundle can be read as one with a namespace of its own."""
    host.service()
    is_well = victim(host)
    db = host.attach("db")
    text = own_text(host, "side", args=["true"], annotations=SHARES)
    path = joining(text, host.netns_dir / "db")
    (host.bundles / "side/config.json").write_text(JOINING[how](text, path))
    assert host.launch("run", "side", check=False).returncode == 1
    reason = host.inspect("side")["reason"]
    assert f"its namespace {host.netns_dir / 'db'} is not that of web" in reason
    assert host.inspect("db")["members"] == ["db"]
    assert db.place.inode != host.container("web").place.inode
    assert is_well()


@pytest.mark.parametrize("share", ["any", "none"])
def test_a_bundle_that_shares_only_after_runc_has_read_it_harms_nobody(
    make_host: HostMaker, share: str
) -> None:
    host = make_host(f'limits.share = "{share}"\n')
    service = host.service()
    is_well = victim(host)
    config = host.bundle("side") / "config.json"
    with read_by_runc_alone(host, service, "side"):
        spec = json.loads(config.read_text())
        spec["annotations"] = SHARES | {"io.watcher.ports": "8081:81"}
        config.write_text(json.dumps(spec))
    if share == "none":
        assert host.status("side") in ("", "failed")
        assert not (host.root / "side").exists()
        assert is_well()
        return
    eventually(lambda: host.status("side") == "shared")
    eventually(lambda: host.ls()["side"]["ports"] == [])
    side = host.container("side")
    assert side.place.inode == host.container("web").place.inode
    host.delete("side")
    eventually(lambda: "side" not in host.pins())
    assert is_well()
