"""The administrator's own rules: they see containers' traffic before ours, and stay."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Final

import pytest

from handlers.firewall import admin
from handlers.firewall.admin import AdminRules
from handlers.kernel.nft import Nft
from tests.config.test_reload import again, refusal, reload
from tests.support.host import BEYOND, UPLINK, HostMaker
from tests.support.waiting import eventually
from watcher.model.errors import UsageError
from watcher.model.network import Network

BACK: Final = '[network.back]\nbridge = "back0"\nsubnets = ["172.22.0.0/24"]\nmode = "routed"\n'
BLOCKED: Final = f"""
# one address "beyond {{ the uplink
ip saddr @ours4 ip daddr {BEYOND} tcp dport {{ 80,
    81 }} counter log prefix "}} " reject
ip saddr @ours4_back ip daddr @ours4_default accept
iifname "netns0" tcp dport 2222 drop  # to the host"""


class Notes(dict[str, str]):
    """What a lease store would keep."""

    noted = dict.get
    note = dict.__setitem__
    erase = dict.__delitem__


def test_they_block_an_address_and_survive_whatever_happens(make_host: HostMaker) -> None:
    host = make_host()
    file = host.base / "rules.nft"
    file.write_text(BLOCKED)
    config = f'[gate]\n[firewall]\nrules = "{file}"\n{BACK}'
    host.configure(config)
    service = host.service()
    host.beyond.serve(tcp=(80, 81, 82))
    host.here.serve(tcp=(2222, 2223))
    web, back = host.attach("web"), host.attach("back", annotations={"io.watcher.network": "back"})
    web.serve(tcp=(80,))

    def in_force() -> bool:
        return (
            web.reach(BEYOND, 80, timeout=0.5) is None
            and web.reach(BEYOND, 82) is not None
            and back.reach(BEYOND, 81, timeout=0.5) is None
            and back.reach(web.address, 80) is not None
            and web.reach(UPLINK, 2222, timeout=0.5) is None
            and web.reach(UPLINK, 2223) is not None
        )

    assert in_force()
    host.command("nft", "flush", "ruleset")
    eventually(in_force)
    table = ("inet", "watcher")
    host.command("nft", "flush", "chain", *table, "admin")
    eventually(in_force)
    host.command("nft", "add", "element", *table, "ours4", "{", "203.0.113.7", "}")
    eventually(lambda: "203.0.113.7" not in host.command("nft", "list", "table", *table).stdout)
    assert host.watcher("sync").stdout == "nothing to do\n"

    file.write_text(BLOCKED + "\nip daddr 192.0.2.9 dorp\n")
    again(service)
    assert f"{file}:7: nftables refuses it: syntax error" in refusal(service)
    done = host.watcher("sync", check=False)
    assert f"{file}:7: nftables refuses it" in done.stdout + done.stderr
    host.command("nft", "flush", "ruleset")
    eventually(in_force)

    file.write_text("ip daddr 192.0.2.9 drop")
    again(service)
    assert service.logged("configuration taken")["changed"] == ["firewall.rules"]
    assert web.reach(BEYOND, 80) is not None
    file.write_text(BLOCKED)
    host.watcher("sync")
    assert in_force()
    service.stop()
    host.service()
    assert in_force()
    assert host.watcher("sync").stdout == "nothing to do\n"

    tables = host.command("nft", "list", "tables").stdout.split("\n")
    assert [line for line in tables if "watcher" in line] == ["table inet watcher"]


def test_without_the_file_nothing_of_it_is_there(make_host: HostMaker) -> None:
    host = make_host()
    file = host.base / "rules.nft"
    file.write_text(f"ip daddr {BEYOND} drop\n")
    with_rules = f'[gate]\n[firewall]\nrules = "{file}"\n'
    host.configure(with_rules)
    service = host.service()
    host.beyond.serve(tcp=(80,))
    web = host.attach("web")
    assert web.reach(BEYOND, 80, timeout=0.5) is None
    reload(host, service, "[gate]\n")
    assert web.reach(BEYOND, 80) is not None
    assert "ours" not in host.command("nft", "list", "table", "inet", "watcher").stdout
    assert "admin" not in host.command("nft", "list", "table", "inet", "watcher").stdout
    file.unlink()
    reload(host, service, with_rules)
    assert "cannot be read: No such file or directory" in refusal(service)
    service.stop()
    done = host.watcher("run", check=False)
    assert done.returncode == 2
    assert f"firewall.rules: {file}: cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("drop }\nchain evil { type filter hook input priority 0; policy drop;", 1, "} closes"),
        ("drop\n}}", 2, "} closes"),
        ("ip saddr {\n1.1.1.1", 1, "{ is not closed"),
        ('log prefix "abc\ndrop', 1, "a quotation mark"),
        ("drop # }\n}", 2, "} closes"),
        ("type filter hook input priority 0; policy drop;", 1, '"type" is no rule'),
        ("accept; policy drop", 1, '"policy" is no rule'),
        ('accept\ninclude "/etc/passwd"', 2, "it includes another file"),
        ("ip saddr @ours4_lab drop", 1, "@ours4_lab is of no network of ours"),
        ("accept\n\0", 2, "a NUL"),
    ],
)
def test_a_text_that_leaves_its_chain_is_refused(
    tmp_path: Path, text: str, line: int, reason: str
) -> None:
    file = tmp_path / "rules.nft"
    file.write_text(text)
    rules = AdminRules(Nft(), Notes(), str(file), str(tmp_path))
    with pytest.raises(UsageError) as error:
        rules.read(str(file), [Network()], tried=False)
    assert f"firewall.rules: {file}:{line}: {reason}" in str(error.value)
    assert rules.text is None


def test_a_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rules.nft"
    file.write_text("accept")
    rules = AdminRules(Nft(), Notes(), str(file), str(tmp_path))
    assert rules.take(str(file), rules.read(str(file), [], tried=False))
    assert not rules.take(str(file), rules.read(str(file), [], tried=False))

    def is_refused(reason: str) -> None:
        with pytest.raises(UsageError, match=reason):
            rules.read(str(file), [], tried=False)

    file.chmod(0o664)
    is_refused("others than root can write it")
    file.chmod(0o600)
    file.write_bytes(b"\xff")
    is_refused(":1: not UTF-8")
    file.write_bytes(b"#" * (admin.MAX_SIZE + 1))
    is_refused("more than 65536 bytes")
    file.unlink()
    file.mkdir()
    is_refused("not a regular file")
    assert rules.text == "accept"


def test_the_sets_have_the_subnets_of_our_networks_and_outlive_these() -> None:
    both = (IPv4Network("10.1.0.0/16"), IPv6Network("fd00:1::/64"))
    networks = [
        Network(name="a.b-c", subnets=both),
        Network(name="theirs", subnets=(IPv4Network("10.2.0.0/16"),), managed=False),
    ]
    found = {line.split()[1]: line for line in admin.sets(networks, "ip saddr @ours4_gone drop")}
    assert found.keys() == {"ours4", "ours6", "ours4_a.b-c", "ours6_a.b-c", "ours4_gone"}
    assert "elements = { 10.1.0.0/16 }" in found["ours4"]
    assert "elements = { fd00:1::/64 }" in found["ours6_a.b-c"]
    assert "elements" not in found["ours4_gone"]
