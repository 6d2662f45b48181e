"""Whether names resolve in a container: its resolv.conf, which may be anything, and its servers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.checked import SERVFAIL, Line, Resolver, checked, with_resolv_conf
from tests.support.host import BEYOND, Host

if TYPE_CHECKING:
    from tests.support.host import HostMaker


def names(host: Host, name: str) -> list[tuple[str, str]]:
    """Level and text of each line about names."""
    lines: list[Line] = [x for x in checked(host, name) if x["check"] == "names"]
    return [(line["level"], line["what"]) for line in lines]


@pytest.fixture
def host(make_host: HostMaker) -> Host:
    """A host whose network has no names."""
    return make_host("[network.default]\nnames = false\n")


def test_servers(host: Host) -> None:
    conf = host.base / "resolv.conf"
    conf.write_text("")
    host.attach("web", edit=with_resolv_conf(conf))
    ((level, what),) = names(host, "web")
    assert level == "warn"
    assert "names no server" in what

    conf.write_text(f"nameserver {BEYOND}\n")
    assert names(host, "web") == [
        ("fail", f"name server {BEYOND} does not answer a query from inside (Connection refused)")
    ]
    with_beyond = Resolver(host.beyond, BEYOND)
    assert names(host, "web") == [("ok", f"name server {BEYOND} answers")]
    with_beyond.close()
    broken = Resolver(host.beyond, BEYOND, SERVFAIL)
    assert "SERVFAIL" in names(host, "web")[0][1]
    broken.close()
    Resolver(host.beyond, BEYOND, None)  # silent
    assert names(host, "web") == [
        ("fail", f"name server {BEYOND} does not answer a query from inside")
    ]
    Resolver(host.container("web").place, "127.0.0.1")
    conf.write_text(f"nameserver {BEYOND}\nnameserver 127.0.0.1\n")
    assert names(host, "web") == [
        ("warn", f"name server {BEYOND} does not answer a query from inside, but another one does"),
        ("ok", "name server 127.0.0.1 answers"),
    ]


def test_a_resolv_conf_that_is_not_honest(host: Host, rootfs: Path) -> None:
    """It is read as the container sees it, in bounds, and never anything of the host."""
    secret = host.base / "secret"
    secret.write_text("nameserver 192.0.2.66\n")
    own = host.base / "rootfs"
    host.command("cp", "-r", str(rootfs), str(own))
    conf = own / "etc/resolv.conf"
    conf.unlink(missing_ok=True)  # runc makes it where one was mounted

    def edit(spec: dict[str, dict[str, object]]) -> None:
        spec["root"]["path"] = str(own)

    host.attach("web", edit=edit)

    def told() -> str:
        text = "\n".join(what for _, what in names(host, "web"))
        assert "192.0.2.66" not in text
        assert text.isprintable() or "\n" in text
        conf.unlink()
        return text

    ((level, what),) = names(host, "web")
    assert level == "warn"
    assert "it has no /etc/resolv.conf" in what
    for target in (str(secret), f"../../../../../..{secret}"):
        conf.symlink_to(target)
        assert "it has no /etc/resolv.conf" in told(), target
    conf.symlink_to(f"/proc/1/root{secret}")
    assert "cannot be read" in told()
    conf.symlink_to("resolv.conf")
    assert "cannot be read: Too many levels of symbolic links" in told()
    os.mkfifo(conf)
    assert "it is not a regular file" in told()
    conf.symlink_to("/proc/kmsg")
    assert "no" in told()
    with conf.open("wb") as file:
        file.write(b"nameserver \x1b[31mred\nnameserver 999.1.1.1\n")
        file.truncate(1 << 30)
    text = told()
    assert 'names "\\x1b[31mred", which is no address' in text
    for scope in ("eth0\N{NO-BREAK SPACE}answers;", "x" * 100, "\x1b[31m"):
        conf.write_text(f"nameserver fe80::1%{scope}\n")
        assert ", which is no address" in told(), scope
    conf.write_text("nameserver fe80::1%lo\nnameserver fe80::1%1\nnameserver fe80::1%floppy\n")
    lo, numbered, missing = told().splitlines()
    assert lo.partition(" does ")[2] == numbered.partition(" does ")[2]
    assert "Invalid argument" in missing
    conf.write_text("nameserver 127.1\n")
    assert "name server 127.0.0.1 does not answer" in told()
    conf.write_text("nameserver 127.0.0.1\n" * 1000)
    assert text.count("name server") <= 3
    conf.write_bytes(os.urandom(1 << 17))
    assert told()
    (own / "run").mkdir()
    (own / "run/resolv.conf").write_text("nameserver 192.0.2.1\n")
    conf.symlink_to("/run/resolv.conf")
    assert "name server 192.0.2.1 does not answer" in told()
