"""Its start and end, and what else may come and go: the service, ports, the configuration."""

from __future__ import annotations

import re
import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest
from dns.message import from_wire

from tests.names_service.conftest import CONFIG
from tests.support import traffic
from tests.support.brokers import stopped_broker
from tests.support.host import GATEWAY
from tests.support.name_service import (
    HEARD,
    NameService,
    addresses,
    ask,
    make_query,
    outcome,
)
from tests.support.waiting import eventually
from watcher.model.names import DNS_PORT, PORT
from watcher.observe.stream import Stream

if TYPE_CHECKING:
    from pathlib import Path

    from tests.names_service.conftest import Named
    from tests.support.host import Host, HostMaker, Service

_LOOK_UP = ("busybox", "nslookup", "host.watcher.internal", GATEWAY)


def finds_host(host: Host, name: str) -> str:
    """What the first instructions of a new container say of the host."""
    host.bundle(name, _LOOK_UP)
    return host.launch("run", name, check=False).stdout


def test_who_asks_before_the_service_has_told_of_it_waits(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    names = NameService(host)
    assert names.count(HEARD) == 0
    service = host.service()
    assert f"Address: {GATEWAY}\n" in finds_host(host, "first")
    for number in range(3):
        service.kill9() if number else service.stop()
        service.start()
        found = finds_host(host, f"again-{number}")
        assert f"Address: {GATEWAY}\n" in found, found
    names.stop()


def is_too_busy_at_first(host: Host, service: Service, run_dir: str) -> bool:
    """Starts the service anew, and stops it before it has told its events' process of networks.

    False if that was quicker.
    """
    service.signal(signal.SIGCONT)
    service.restart()
    with Stream(run_dir) as first:
        with stopped_broker(service):
            host.run("more")  # by now the service has passed the connection on
            host.delete("more")
            service.signal(signal.SIGSTOP)
        return not first.picture().networks


def test_who_asks_before_a_busy_service_has_told_of_networks_waits(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    service, run_dir = host.service(), str(host.seen(host.run_dir))
    web = host.attach("web")
    try:
        eventually(lambda: is_too_busy_at_first(host, service, run_dir), what="a busy service")
        names = NameService(host)
        names.logged(HEARD)
        assert not names.totals().networks
        with traffic.make_socket(web.place.netns, socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(traffic.ENOUGH)
            asking.connect((GATEWAY, DNS_PORT))
            asking.send(make_query("web").to_wire())
            service.signal(signal.SIGCONT)
            assert addresses(from_wire(asking.recv(4096))) == {web.address}
    finally:
        service.signal(signal.SIGCONT)


def test_it_goes_on_with_what_it_knew_while_the_service_is_away(named: Named) -> None:
    web, other = named.host.attach("web"), named.host.attach("other")
    named.service.stop()
    named.names.logged("the service is away, what it told last stays in use")
    for tcp in (False, True):
        found = ask(web.place, "other", server=GATEWAY, port=DNS_PORT, tcp=tcp)
        assert addresses(found) == {other.address}
    assert named.names.totals().connected is None


def test_a_port_that_is_taken_stops_no_other_and_is_tried_again(make_host: HostMaker) -> None:
    host = make_host(CONFIG)
    host.service()
    taken = traffic.make_socket(host.here.netns, socket.AF_INET, socket.SOCK_DGRAM)
    with taken:
        taken.bind((GATEWAY, PORT))
        names = NameService(host).hears()
        error = names.logged("cannot listen")
        assert (error["protocol"], error["address"], error["port"]) == ("udp", GATEWAY, PORT)
        assert "end the program" in error["remedy"]
        web = host.attach("web")
        answer = ask(web.place, "web", server=GATEWAY, port=DNS_PORT, tcp=True)
        assert addresses(answer) == {web.address}
        assert names.count("cannot listen") == 1
    names.logged("listening again")
    assert addresses(ask(web.place, "web", server=GATEWAY, port=DNS_PORT)) == {web.address}


def test_a_changed_domain_counts_and_a_bad_configuration_does_not(named: Named) -> None:
    host, names = named.host, named.names
    web = host.attach("web")

    def found(name: str) -> set[str]:
        return addresses(ask(web.place, name, server=GATEWAY, port=DNS_PORT))

    host.configure(CONFIG + 'domain = "corp.test"\n')
    names.signal(signal.SIGHUP)
    assert eventually(lambda: found("web.corp.test") == {web.address})
    assert outcome(ask(web.place, "nobody.corp.test", server=GATEWAY)) == "NXDOMAIN"

    host.configure(CONFIG + "domain = 1\n")
    names.signal(signal.SIGHUP)
    refused = names.logged("configuration refused, the one before stays in force")
    assert "names.domain" in refused["reason"]
    assert found("web.corp.test") == {web.address}

    host.configure(CONFIG)
    named.service.signal(signal.SIGHUP)  # nothing that the service would have to tell
    names.signal(signal.SIGHUP)
    assert eventually(lambda: found("web.watcher.internal") == {web.address})


def test_no_question_is_lost_while_containers_come_and_go(named: Named) -> None:
    web, asks = named.host.attach("web"), named.host.attach("asks")
    done = threading.Event()
    wrong: list[str] = []

    def go_on_asking() -> None:
        number = 0
        while not done.is_set():
            number += 1
            name, tcp = ("web", "web.watcher.internal")[number % 2], number % 8 == 0
            try:
                answer = ask(asks.place, name, server=GATEWAY, port=DNS_PORT, tcp=tcp)
            except OSError as error:
                wrong.append(repr(error))
            else:
                wrong.extend([str(answer)] * (addresses(answer) != {web.address}))

    asking = threading.Thread(target=go_on_asking)
    asking.start()
    try:
        for number in range(4):
            named.host.run(f"brief-{number}")
            if number == 2:
                named.service.kill9()
                named.service.start()
            named.host.delete(f"brief-{number}")
        named.names.signal(signal.SIGHUP)
        named.names.logged("configuration read again")
    finally:
        done.set()
        asking.join()
    assert wrong == []


def test_its_status_tells_what_it_has_done(named: Named) -> None:
    web = named.host.attach("web")
    for _ in range(3):
        ask(web.place, "web", server=GATEWAY, port=DNS_PORT)
    totals = named.names.totals()
    assert totals.connected is not None
    assert totals.networks == ("back", "default")
    assert (totals.sandboxes, sum(totals.udp.values())) == (1, 3)
    silent = [socket.socket(socket.AF_UNIX) for _ in range(50)]
    for one in silent:
        one.connect(str(named.host.seen(named.host.run_dir / "names/status.sock")))
    assert named.names.totals().sandboxes == 1
    for one in silent:
        one.close()
    named.names.stop()
    assert not named.host.seen(named.host.run_dir / "names/status.sock").exists()


def test_a_second_one_on_the_same_host_is_refused(named: Named) -> None:
    names = named.names
    done = named.host.watcher("names", check=False)
    assert done.returncode == 1
    assert "another `watcher names` runs on this host already" in done.stderr
    names.signal(signal.SIGKILL)
    names.end()
    names.start()


def test_without_dnspython_it_says_what_to_install(host: Host, tmp_path: Path) -> None:
    (tmp_path / "dns").mkdir()
    (tmp_path / "dns/__init__.py").write_text("raise ImportError\n")
    env = {"PYTHONPATH": f"{tmp_path}:{host.watcher_env['PYTHONPATH']}"}
    done = host.command(*host.watcher_command("names"), env=env, check=False)
    assert done.returncode == 1
    assert re.fullmatch(
        r"watcher: the Python package dnspython is missing; install it, e\.g\. .*\n", done.stderr
    )


@pytest.mark.parametrize("tcp", [False, True])
def test_without_it_questions_are_refused_quickly(served: Host, tcp: bool) -> None:
    web = served.attach("web")
    with pytest.raises(ConnectionRefusedError):
        ask(web.place, "web", server=GATEWAY, port=DNS_PORT, tcp=tcp)
