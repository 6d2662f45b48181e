"""What commands show of a clustered network."""

from __future__ import annotations

import json

from tests.support.clustering import CONFIG, Registry, own
from tests.support.host import GATE_OFF, HostMaker
from tests.support.waiting import eventually

BLOCK = "10.9.4.0/28"
CLAIM = "10.9.200.7/32"


def test_blocks_and_free_addresses(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    service = host.service()
    with Registry(host.run_dir) as registry:
        registry.whole(own(BLOCK))
        eventually(lambda: registry.blocks() == {BLOCK: "held"})
        host.attach("web")
    (row,) = json.loads(host.watcher("network", "ls", "--json").stdout)
    assert (row["cluster"], row["blocks"], row["free"]) == (True, [BLOCK], [14])
    header, line = host.watcher("network", "ls").stdout.splitlines()
    assert header.split()[-2:] == ["BLOCKS", "FREE"]
    assert line.split()[-2:] == [BLOCK, "14"]
    assert "no `watcher cluster` runs" in host.watcher("ls").stderr
    (interface,) = host.inspect("web")["interfaces"]
    assert interface["blocks"] == [BLOCK]
    service.stop()
    done = host.watcher("down").stdout.splitlines()
    assert done[-1] == (
        "the cluster keeps the blocks of this host for it until `watcher hosts rm a`"
    )
    assert not host.run_dir.exists()
    assert "cluster" not in host.watcher("down").stdout


def test_a_network_of_this_host_alone_has_no_such_columns(make_host: HostMaker) -> None:
    header, _ = make_host().watcher("network", "ls").stdout.splitlines()
    assert header.split()[-1] == "EXISTS"


def test_ls_tells_why_there_is_no_address(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF + CONFIG)
    host.service()
    host.run("web")
    assert "no free address in the blocks of 10.9.0.0/16" in host.fails("web")


def test_the_configuration_shows_names_of_files_and_nothing_in_them(make_host: HostMaker) -> None:
    host = make_host()
    secret = host.base / "password"
    secret.write_text("the password\n")
    secret.chmod(0o600)
    host.configure(CONFIG + f'user = "watcher"\npassword_file = "{secret}"\n')
    for arguments in (("config",), ("config", "--json")):
        shown = host.watcher(*arguments).stdout
        assert str(secret) in shown
        assert "the password" not in shown
