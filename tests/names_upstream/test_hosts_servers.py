"""What the host's file says, as glibc reads it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from watcher.names.upstream.hosts_servers import HostsServers, parse


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ["127.0.0.1"]),
        ("search example\n", ["127.0.0.1"]),
        ("nameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("nameserver\t192.0.2.1   # mine", ["192.0.2.1"]),
        ("nameserver fe80::1%eth0\nnameserver 2001:DB8:0::1\n", ["fe80::1%eth0", "2001:db8::1"]),
        ("# nameserver 192.0.2.1\n;nameserver 192.0.2.1\n nameserver 192.0.2.1\n", ["127.0.0.1"]),
        ("nameserver\nnameserver x\nnameserver 1.2.3.4.5\nnameserver 192.0.2.1", ["192.0.2.1"]),
        ("nameservers 192.0.2.1\nNAMESERVER 192.0.2.1\n", ["127.0.0.1"]),
        ("".join(f"nameserver 192.0.2.{n}\n" for n in range(1, 9)),
         ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("nameserver 192.0.2.1\r\nnameserver 192.0.2.1\n", ["192.0.2.1"]),
        ("\0\xff\nnameserver 192.0.2.1\nnameserver fe80::1%\0\n", ["192.0.2.1", "fe80::1%\0"]),
    ],
)  # fmt: skip
def test_servers(text: str, names: list[str]) -> None:
    assert [server.name for server in parse(text).servers] == names


def test_options() -> None:
    choice = parse(
        "nameserver 192.0.2.1\noptions ndots:2 timeout:1\noptions attempts:3 rotate edns0 x:\n"
    )
    assert (choice.timeout, choice.rounds, choice.rotate) == (1.0, 3, True)
    choice = parse("nameserver 192.0.2.1\noptions timeout:0 attempts:99 timeout:x attempts:-1\n")
    assert (choice.timeout, choice.rounds, choice.rotate) == (1.0, 5, False)


def test_a_link_that_changes_is_followed(tmp_path: Path) -> None:
    path, stub, vpn = tmp_path / "resolv.conf", tmp_path / "stub", tmp_path / "vpn"
    servers = HostsServers(str(path), str(vpn))
    assert servers.choice().names == ("127.0.0.1",)
    stub.write_text("nameserver 127.0.0.53\n")
    vpn.write_text("nameserver 192.0.2.1\nnameserver 127.0.0.1\n")
    path.symlink_to("stub")
    choice = servers.choice(at_once=True)
    assert choice.names == ("127.0.0.53",)
    assert [server.name for server in choice.behind] == ["192.0.2.1"]
    new = tmp_path / "new"
    new.symlink_to("vpn")
    new.replace(path)
    assert servers.choice(at_once=True).names == ("192.0.2.1", "127.0.0.1")
    with vpn.open("w") as file:
        file.write("nameserver 192.0.2.2\n")
    assert servers.choice(at_once=True).names == ("192.0.2.2",)


def test_while_there_is_no_file_the_last_one_holds(tmp_path: Path) -> None:
    path = tmp_path / "resolv.conf"
    servers = HostsServers(str(path), str(tmp_path / "behind"))
    path.write_text("nameserver 192.0.2.1\n")
    first = servers.choice(at_once=True)
    assert first.names == ("192.0.2.1",)
    path.unlink()
    assert servers.choice(at_once=True) is first
    os.mkfifo(path)
    assert servers.choice(at_once=True) is first
    path.unlink()
    path.symlink_to(path)
    assert servers.choice(at_once=True) is first
    path.unlink()
    path.write_text("nameserver 192.0.2.2\n")
    assert servers.choice(at_once=True).names == ("192.0.2.2",)
