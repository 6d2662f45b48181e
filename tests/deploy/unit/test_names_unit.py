"""`watcher-names.service`, as it is shipped."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import dns.message
import dns.rcode
import pytest

from tests.deploy.unit.test_metrics_unit import started
from tests.support import traffic
from tests.support.booted import passes_analyze
from tests.support.exporter import PORT, Scraped
from tests.support.exporter import ask as fetch
from tests.support.host import BEYOND, GATEWAY
from tests.support.name_service import addresses, ask, make_query
from tests.support.paths import REPOSITORY
from tests.support.upstreams import dnsmasq
from tests.support.waiting import eventually
from watcher.model.names import DNS_PORT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.host import Place
    from tests.support.host.booted import BootedHost

_NAME: Final = "watcher-names"
_DROP_INS: Final = f"/run/systemd/system/{_NAME}.service.d"
_MASK: Final = f"/etc/systemd/system/{_NAME}.service"
_UNIT: Final = REPOSITORY / f"deploy/{_NAME}.service"
_PATIENCE: Final = 5.0
"""Seconds after which a resolver asks again (resolv.conf(5))."""
_FAR: Final = "93.184.216.34"
_HOST: Final = "host.watcher.internal"


@pytest.fixture(scope="module")
def named(booted: BootedHost) -> Iterator[BootedHost]:
    """The host with the unit, which `watcher.service` starts."""
    run = booted.booted.command
    seen = f"{booted.booted.shared} {REPOSITORY}"
    drop_in = f"[Service]\nBindReadOnlyPaths={seen}\nProtectHome=tmpfs\n"
    run("sh", "-c", f"rm {_MASK}; mkdir -p {_DROP_INS}; cat >{_DROP_INS}/test.conf", stdin=drop_in)
    run("systemd-sysusers", str(REPOSITORY / "deploy/watcher.sysusers"))
    run("systemctl", "daemon-reload")
    run("systemctl", "stop", "watcher")
    yield booted
    run("systemctl", "stop", _NAME)
    run("sh", "-c", f"rm -r {_DROP_INS}; ln -s /dev/null {_MASK}")
    run("systemctl", "daemon-reload")


@pytest.fixture
def unit(named: BootedHost) -> Iterator[BootedHost]:
    """The host with the default configuration, and names."""
    with named.lent():
        named.unit.restart()
        eventually(
            lambda: named.booted.show("ActiveState", _NAME) == "active", what="the name service"
        )
        yield named


def hosts(place: Place, *, tcp: bool = False) -> set[str]:
    """The addresses of the host, as a container gets them."""
    return addresses(ask(place, _HOST, server=GATEWAY, port=DNS_PORT, tcp=tcp))


def answers(place: Place) -> bool:
    """Whether it is served; a container is answered as soon as the networks are known."""
    return eventually(lambda: hosts(place) == {GATEWAY}, what="an answer")


@contextmanager
def asked(place: Place) -> Iterator[None]:
    """A question that is on its way meanwhile, and gets its answer behind that."""
    query = make_query(_HOST)
    with traffic.make_socket(place.netns, socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(traffic.ENOUGH)
        asking.connect((GATEWAY, DNS_PORT))
        asking.send(query.to_wire())
        yield
        answer = dns.message.from_wire(asking.recv(4096))
        assert query.is_response(answer)
        assert addresses(answer) == {GATEWAY}


def signalled(unit: BootedHost, name: str) -> None:
    """Sends it a signal."""
    unit.booted.command("systemctl", "kill", f"--signal={name}", _NAME)


def is_another(unit: BootedHost, before: str) -> bool:
    """Whether its process is another one."""
    return unit.booted.show("MainPID", _NAME) not in ("0", before)


def test_the_unit_passes_systemd_analyze(tmp_path: Path) -> None:
    passes_analyze(_UNIT, 12, tmp_path)


def test_names_are_answered_by_a_process_that_may_do_nothing_else(unit: BootedHost) -> None:
    web = unit.attach("web")
    assert answers(web.place)
    assert hosts(web.place, tcp=True) == {GATEWAY}

    pid = unit.booted.show("MainPID", _NAME)
    unit.booted.has_no_power(pid)
    inside = ("nsenter", f"--target={pid}", "--mount", "--", "sh", "-c")
    assert unit.booted.command(*inside, "touch /etc/x /var/x /run/x /run/watcher/x 2>/dev/null;"
        " ls /var/lib/watcher 2>/dev/null; test -r /etc/resolv.conf && echo yes",
        ).stdout == "yes\n"  # fmt: skip

    socket_ = "/run/watcher/names/status.sock"
    assert unit.booted.command("stat", "--format=%a %G", socket_).stdout == "660 watcher\n"
    unit.delete("web")


def test_no_question_is_lost_as_it_starts_anew_or_is_killed(unit: BootedHost) -> None:
    web = unit.attach("web")
    assert answers(web.place)
    for how in (("kill", "--signal=KILL", _NAME), ("restart", _NAME)):
        before = unit.booted.show("MainPID", _NAME)
        signalled(unit, "STOP")
        with asked(web.place):
            unit.booted.command("systemctl", *how)
        eventually(partial(is_another, unit, before), what="another process")
        assert hosts(web.place, tcp=True) == {GATEWAY}
    unit.delete("web")


def test_no_question_is_lost_whatever_starts_anew(unit: BootedHost) -> None:
    web = unit.attach("web")
    assert answers(web.place)
    done, wrong = threading.Event(), list[object]()

    def go_on_asking() -> None:
        while not done.is_set():
            try:
                answer = ask(web.place, _HOST, server=GATEWAY, port=DNS_PORT, timeout=_PATIENCE)
            except OSError as error:
                wrong.append(error)
            else:
                wrong.extend({GATEWAY} - addresses(answer))

    asking = threading.Thread(target=go_on_asking)
    asking.start()
    try:
        for how in (("restart", _NAME), ("restart", "watcher"), ("reload", _NAME, "watcher")):
            unit.booted.command("systemctl", *how)
    finally:
        done.set()
        asking.join()
    assert wrong == []
    unit.delete("web")


def test_a_stop_refuses_questions_quickly_until_the_next_start(unit: BootedHost) -> None:
    web = unit.attach("web")
    assert answers(web.place)
    unit.booted.command("systemctl", "stop", _NAME)
    # The manager closes them a moment later.
    eventually(lambda: unit.booted.show("NFileDescriptorStore", _NAME) == "0")
    for tcp in (False, True):
        with pytest.raises(ConnectionRefusedError):
            hosts(web.place, tcp=tcp)
    unit.booted.command("systemctl", "start", _NAME)
    assert answers(web.place)
    unit.delete("web")


def test_it_goes_on_while_the_service_is_away_and_hears_of_what_comes_then(
    unit: BootedHost,
) -> None:
    web = unit.attach("web")
    assert answers(web.place)
    before = unit.booted.show("MainPID", _NAME)
    unit.unit.stop()
    assert hosts(web.place) == {GATEWAY}
    unit.unit.start()
    late = unit.attach("late")
    assert hosts(late.place) == {GATEWAY}
    assert unit.booted.show("MainPID", _NAME) == before
    for name in ("web", "late"):
        unit.delete(name)


def test_a_reload_of_the_service_gives_a_network_its_names_and_takes_them(
    unit: BootedHost,
) -> None:
    web = unit.attach("web")
    assert answers(web.place)

    def is_refused() -> bool:
        try:
            return not ask(web.place, _HOST, server=GATEWAY)
        except ConnectionRefusedError:
            return True

    unit.reconfigure("[network.default]\nnames = false")
    assert eventually(is_refused)
    assert unit.booted.show("NFileDescriptorStore", _NAME) == "0"
    unit.reconfigure("")
    assert answers(web.place)
    unit.delete("web")


def test_its_counts_are_among_the_metrics_of_their_unit(unit: BootedHost) -> None:
    web = unit.attach("web")
    assert answers(web.place)

    def answered() -> float:
        scraped = Scraped(fetch(unit.here, PORT, "/metrics").body.decode())
        return scraped.value("watcher_names_questions_total", outcome="local", transport="udp")

    with started(unit):
        assert eventually(lambda: answered() > 0, what="the counts of the name service")
    unit.delete("web")


def test_an_answer_leaves_once_the_service_has_opened_its_addresses(unit: BootedHost) -> None:
    beyond = unit.beyond
    beyond.ip("addr", "add", f"{_FAR}/32", "dev", "lo")
    with beyond.serve(tcp=(443,)):
        dnsmasq(unit, beyond, BEYOND, f"--host-record=far.example,{_FAR}")
        unit.reconfigure(f'[names]\nservers = ["{BEYOND}"]')
        unit.booted.command("systemctl", "restart", _NAME)
        web = unit.attach("web", annotations={"io.watcher.egress": "far.example:443/tcp"})
        assert answers(web.place)
        far = ask(web.place, "far.example", server=GATEWAY, port=DNS_PORT)
        assert addresses(far) == {_FAR}
        assert web.reach(_FAR, 443) is not None
        assert web.reach(_FAR, 80) is None
        other = ask(web.place, "other.example", server=GATEWAY, port=DNS_PORT)
        assert other.rcode() == dns.rcode.NXDOMAIN
        for kind, told in (("opened", "far.example"), ("rejected", "other.example")):
            args = ("events", "--since", "1h", "--filter", f"kind={kind}")
            eventually(lambda a=args, t=told: t in unit.watcher(*a).stdout, what=kind)  # type: ignore[misc]
        for change in (
            ("nft", "flush", "ruleset"),
            ("systemctl", "restart", "watcher"),
            ("nft", "flush", "ruleset"),
            ("systemctl", "stop", _NAME),
            ("systemctl", "start", _NAME),
        ):
            unit.booted.command(*change)
            eventually(lambda: web.reach(_FAR, 443) is not None, what=" ".join(change))
            assert web.reach(_FAR, 80) is None
        assert unit.watcher("sync").stdout == "nothing to do\n"
        unit.delete("web")
        unit.reconfigure("")
    beyond.ip("addr", "del", f"{_FAR}/32", "dev", "lo")
