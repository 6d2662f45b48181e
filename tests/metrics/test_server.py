"""The server: while the service comes and goes, and with clients that nobody should trust."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import socket
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest

from tests.support.exporter import PORT, Exporter, ask, connect
from tests.support.host import UPLINK, UPLINK6, Host
from tests.support.waiting import eventually
from watcher.observe.metrics.request import MAX
from watcher.observe.metrics.server import CONNECTIONS
from watcher.observe.metrics.source import Source

OPENMETRICS: Final = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


def test_it_tells_whether_the_service_is_there_and_outlives_it(exporter: Exporter) -> None:
    host = exporter.host
    down = exporter.scrape()
    assert {"watcher_up", "watcher_scrape_duration_seconds"} == set(down.families)
    assert down.value("watcher_up") == 0
    for _ in range(2):
        service = host.service()
        host.attach("web")
        eventually(lambda: exporter.value("watcher_up") == 1)
        assert eventually(lambda: exporter.value("watcher_container_info", id="web"))
        host.delete("web")
        host.empty()
        service.stop()
        eventually(lambda: exporter.value("watcher_up") == 0)
    told = ["the service does not tell its state", "the service tells its state"]
    assert exporter.log() == ["serving metrics", *told, *told, told[0]]
    assert exporter.stop() == 0


def test_once_says_what_the_server_says(served: Host) -> None:
    served.attach("web")
    assert "\nwatcher_up 1.0\n" in served.watcher("metrics").stdout


def test_once_without_a_service_says_so_in_both_ways(host: Host) -> None:
    done = host.watcher("metrics", check=False)
    assert done.returncode == 1
    assert "\nwatcher_up 0.0\n" in done.stdout
    assert done.stderr.startswith("watcher: no service serves ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "listen", ["9973", ":9973", "localhost:9973", "127.0.0.1", "::1:9973", "[127.0.0.1]:1",
               "127.0.0.1:65536", "127.0.0.1:x", "[::1]9973", ""],
)  # fmt: skip
def test_what_is_no_address_is_refused(host: Host, listen: str) -> None:
    done = host.watcher("metrics", "--listen", listen, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        f'watcher: --listen "{listen}" is not an IP address and a port; '
        "write them as 127.0.0.1:9973 or [::1]:9973\n"
    )


def test_an_address_that_is_taken_or_of_another_host_is_named(exporter: Exporter) -> None:
    for listen in (f"127.0.0.1:{PORT}", "203.0.113.1:9973"):
        done = exporter.host.watcher("metrics", "--listen", listen, check=False)
        assert done.returncode == 1
        address = listen.partition(":")[0]
        assert done.stderr.startswith(f"watcher: cannot listen on {address} port {PORT}: ")
        assert "bind" not in done.stderr
        assert done.stderr.count("\n") == 1


def test_formats_paths_and_methods(host: Host) -> None:
    exporter = Exporter(host, f"[::]:{PORT}")
    here = host.here

    plain = ask(here, PORT, "/metrics", {"Accept-Encoding": "gzip"})
    assert plain.fields["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in plain.fields
    assert int(plain.fields["content-length"]) == len(plain.body)
    assert b"\nwatcher_up 0.0\n" in plain.body

    open_ = ask(here, PORT, "/metrics?whatever", OPENMETRICS)
    assert open_.fields["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert open_.body.endswith(b"# EOF\n")

    for address in (UPLINK, UPLINK6):
        far = ask(
            host.beyond, PORT, "/metrics", {"Accept-Encoding": "deflate, gzip"}, address=address
        )
        assert far.fields["content-encoding"] == "gzip"
        assert b"\nwatcher_up 0.0\n" in gzip.decompress(far.body)

    head = ask(here, PORT, "/metrics", method="HEAD")
    assert (head.status, head.body) == (HTTPStatus.OK, b"")
    assert int(head.fields["content-length"]) > 0
    page = ask(here, PORT, "/")
    assert page.fields["content-type"].startswith("text/html")
    assert b'"/metrics"' in page.body
    assert ask(here, PORT, "/else").status == HTTPStatus.NOT_FOUND
    refused = ask(here, PORT, "/metrics", method="POST")
    assert refused.status == HTTPStatus.METHOD_NOT_ALLOWED
    assert refused.fields["allow"] == "GET, HEAD"
    assert exporter.process.poll() is None


BAD: Final[dict[str, tuple[bytes, HTTPStatus]]] = {
    "noise": (b"\x16\x03\x01\x00\xff\r\n\r\n", HTTPStatus.BAD_REQUEST),
    "an old version": (b"GET /metrics\r\n\r\n", HTTPStatus.BAD_REQUEST),
    "a field without a colon": (b"GET / HTTP/1.1\r\nx\r\n\r\n", HTTPStatus.BAD_REQUEST),
    "a folded field": (b"GET / HTTP/1.1\r\na: b\r\n c\r\n\r\n", HTTPStatus.BAD_REQUEST),
    "no target": (b"GET http://[ HTTP/1.1\r\n\r\n", HTTPStatus.BAD_REQUEST),
    "a long head": (
        b"GET /metrics HTTP/1.1\r\nx: " + b"x" * 2 * MAX,
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    ),
    "no version of a format": (
        b"GET /metrics HTTP/1.1\r\naccept: application/openmetrics-text;version=x\r\n\r\n",
        HTTPStatus.OK,
    ),
}


def test_clients_that_send_nonsense_or_nothing_keep_nobody_out(exporter: Exporter) -> None:
    here = exporter.host.here
    for name, (sent, status) in BAD.items():
        with connect(here, PORT) as client:
            client.sendall(sent)
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.status == status, name

    for part in (b"", b"GET /metrics HTTP/1.1\r\nx"):
        with connect(here, PORT) as client:
            client.sendall(part)

    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connect(here, PORT)) for _ in range(3 * CONNECTIONS)]
        for client in idle[::2]:
            with contextlib.suppress(ConnectionError):  # it had to make room already
                client.sendall(b"GET /metrics HTTP/1.1\r\nx")
        assert exporter.value("watcher_up") == 0
        # Many are accepted at once, and those that made room are closed a moment later.
        opened = Path(f"/proc/{exporter.pid}/fd")
        eventually(lambda: len(list(opened.iterdir())) < 2 * CONNECTIONS)
        with contextlib.suppress(ConnectionResetError):
            assert idle[0].recv(1) == b""
        assert exporter.stop() == 0  # with clients that wait
    assert "a scrape failed" not in exporter.log()


def test_who_asks_at_the_same_time_shares_one_reading(exporter: Exporter) -> None:
    exporter.host.service()
    eventually(lambda: exporter.value("watcher_up") == 1)
    before = exporter.value("watcher_reader_connections_total")
    many = 60
    with contextlib.ExitStack() as stack:
        with exporter.stopped():  # so that all have asked before the first is answered
            clients = [stack.enter_context(connect(exporter.host.here, PORT)) for _ in range(many)]
            for client in clients:
                client.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")
        for client in clients:
            response = http.client.HTTPResponse(client)
            response.begin()
            assert response.status == HTTPStatus.OK
            response.read()
    assert exporter.value("watcher_reader_connections_total") - before < many / 2


def test_a_service_that_does_not_answer_counts_as_none(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "events.sock"))
        listener.listen()
        scrape = Source(str(tmp_path), within=0.2).scrape()
    assert "timed out" in scrape.reason
