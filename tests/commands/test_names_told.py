"""What `watcher check`, `watcher check CONTAINER` and `watcher ls` say of the name service."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from tests.commands.test_check import check
from tests.support.checked import checked, with_resolv_conf
from tests.support.host import BEYOND, GATEWAY, Host
from tests.support.name_service import NameService, addresses, ask
from watcher.model.names import DNS_PORT, PORT

if TYPE_CHECKING:
    from tests.support.host import Container, HostMaker

DUAL = '[network.default]\nsubnets = ["172.19.0.0/16", "fd00:19::/64"]\n'
BACK = '[network.back]\nbridge = "back0"\nsubnets = ["172.20.0.0/24"]\n'
ABSENT = "no name service serves"


def told(host: Host) -> list[tuple[str, str]]:
    """Level and text of what `watcher check` says of names."""
    return [(f["level"], f["what"]) for f in check(host) if f["check"] == "names"]


def told_of(host: Host, name: str) -> list[tuple[str, str]]:
    """The same of `watcher check CONTAINER`."""
    return [(x["level"], x["what"]) for x in checked(host, name) if x["check"] == "names"]


def resolves(web: Container) -> bool:
    """Whether a name resolves inside."""
    try:
        found = ask(web.place, "host.watcher.internal", server=GATEWAY, port=DNS_PORT)
    except ConnectionRefusedError:
        return False
    return addresses(found) == {GATEWAY}


def test_whether_it_runs(make_host: HostMaker) -> None:
    host = make_host(DUAL + BACK)
    assert [level for level, _ in told(host)] == ["ok"]  # nothing runs yet
    host.service()
    web = host.attach("web")
    ((level, what),) = told(host)
    assert (level, ABSENT in what, "default, back resolve no names" in what) == ("warn", True, True)
    assert "containers of default resolve no names" in host.watcher("ls").stderr
    assert not resolves(web)
    silent = "fail", f"the name service at {GATEWAY} does not answer a query from inside"
    assert told_of(host, "web") == [(silent[0], f"{silent[1]} (Connection refused)")]

    names = NameService(host).hears()
    assert told(host) == [("ok", "the name service answers the containers of default, back")]
    assert host.watcher("ls").stderr == ""
    assert resolves(web)
    ((level, what),) = told_of(host, "web")
    assert f"the name service at {GATEWAY} answers" in what  # whatever the rest of the world does

    names.signal(signal.SIGSTOP)
    assert all(level == "warn" for level, _ in told(host))
    assert told_of(host, "web")[0] == silent
    names.signal(signal.SIGCONT)
    assert resolves(web)
    names.stop()
    assert ABSENT in told(host)[0][1]
    assert not resolves(web)


def test_what_keeps_it_from_answering(make_host: HostMaker) -> None:
    host = make_host(DUAL)
    host.service()
    host.attach("web")
    with host.here.serve(tcp=(PORT,)):
        (level, what), _ = told(host)
        assert (level, f"listens on port {PORT}/tcp of 0.0.0.0" in what) == ("warn", True)
    NameService(host).hears()
    drop = f"type filter hook input priority 0; iifname lo udp dport {PORT} drop;"
    host.nft(f"table inet own {{ chain c {{ {drop} }}; }}")
    nobody = "network default: nobody answers a question for host.watcher.internal"
    assert told(host) == [
        ("warn", f"port {PORT}/udp of {gateway}, {nobody}") for gateway in (GATEWAY, "fd00:19::1")
    ]
    host.nft("delete", "table", "inet", "own")
    host.configure('[names]\ndomain = "corp.example"\n' + DUAL)
    assert 'the name service has the domain "watcher.internal"' in told(host)[0][1]


def test_without_a_guard_nobody_is_known(make_host: HostMaker) -> None:
    host = make_host(DUAL + "guard = false\n")
    host.service()
    host.attach("web")
    NameService(host).hears()
    first, second = told(host)
    assert (first[0], "can ask in the name of another" in first[1]) == ("ok", True)
    assert second == ("ok", "the name service answers the containers of default")


def test_a_resolv_conf_of_its_own(host: Host) -> None:
    host.service()
    NameService(host).hears()
    conf = host.base / "resolv.conf"
    conf.write_text(f"nameserver {BEYOND}\n")
    host.attach("web", edit=with_resolv_conf(conf))
    own, _ = told_of(host, "web")
    assert own == ("ok", "its /etc/resolv.conf is its own: other containers have no names for it")


def test_networks_without_names_are_not_told_of(make_host: HostMaker) -> None:
    host = make_host("[network.default]\nnames = false\n")
    host.service()
    host.attach("web")
    assert told(host) == []
    assert host.watcher("ls").stderr == ""
