"""What a real server answers comes to who asked, whole or marked as cut."""

from __future__ import annotations

import dns.flags
import dns.rcode

from tests.support.host import BEYOND, BEYOND6
from tests.support.upstreams import Asking, dnsmasq, make_query, values

OPTIONS = (
    "--address=/web.example/198.51.100.7",
    "--address=/web.example/2001:db8::7",
    "--local=/example/",
    "--local-ttl=300",
    *(f"--txt-record=long.example,{n:02}{'x' * 200}" for n in range(20)),
)


def test_answers_of_a_real_server(asking: Asking) -> None:
    for server in (BEYOND, BEYOND6):
        dnsmasq(asking.host, asking.host.beyond, server, *OPTIONS)
        found = asking.ask(make_query("Web.eXample"), server)
        assert values(found) == ["198.51.100.7"]
        assert found.question[0].name.labels[0] == b"Web"
        assert found.flags & dns.flags.RA
        assert values(asking.ask(make_query("web.example", "AAAA"), server)) == ["2001:db8::7"]
        assert asking.ask(make_query("no.example"), server).rcode() == dns.rcode.NXDOMAIN

    cut = asking.ask(make_query("long.example", "TXT"), BEYOND)
    assert cut.flags & dns.flags.TC
    more = asking.ask(make_query("long.example", "TXT", edns=True), BEYOND)
    assert more.flags & dns.flags.TC
    assert more.edns == 0
    assert len(values(asking.ask(make_query("long.example", "TXT", tcp=True), BEYOND))) == 20
    assert len(values(asking.ask(make_query("long.example", "TXT", tcp=True), BEYOND6))) == 20
