"""A kernel that cannot guard a link, and filters of other programs beside the guard.

No kernel here lacks the qdisc `ingress`, so the program asks for one of a name that the kernel
does not know; the refusal is the kernel's own.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.host import Host
from tests.support.paths import REPOSITORY

if TYPE_CHECKING:
    from tests.support.host import HostMaker, Json

TWO: Final = """
[network.open]
bridge = "open0"
subnets = ["172.20.0.0/24"]
guard = false
"""
LACKING: Final = """
from handlers.kernel.rtnl import traffic_control
unknown = traffic_control.attribute(1, b"unheard-of\\0")
traffic_control._INGRESS = unknown
"""
OPEN: Final = {"io.watcher.network": "open"}


@pytest.fixture
def lacking(make_host: HostMaker) -> Host:
    """A host whose kernel knows no qdisc `ingress`."""
    host = make_host(TWO)
    program = host.base / "program"
    program.mkdir()
    for package in ("watcher", "handlers"):
        (program / package).symlink_to(REPOSITORY / package)
    (program / "sitecustomize.py").write_text(LACKING)
    host.program = program
    return host


def findings(host: Host, name: str) -> list[Json]:
    listed = json.loads(host.watcher("check", "--json", check=False).stdout)
    return [entry for entry in listed if entry["check"] == name]


def test_guarded_containers_are_refused_and_others_go_on(lacking: Host) -> None:
    service = lacking.service()
    entry = service.logged("containers of guarded networks are refused")
    assert "sch_ingress" in entry["remedy"]
    lacking.bundle("web")
    assert lacking.launch("run", "web", "--detach", check=False).returncode != 0
    (listed,) = lacking.ls().values()
    assert "cls_bpf" in listed["reason"]
    assert lacking.veths() == set()
    other = lacking.attach("other", annotations=OPEN)
    assert lacking.veths() == {other.veth}


def test_check_says_what_to_load(lacking: Host) -> None:
    (finding,) = findings(lacking, "kernel")
    assert finding["level"] == "fail"
    assert "sch_ingress" in finding["remedy"]


def test_a_filter_of_another_program_is_left_alone_and_named(host: Host) -> None:
    web = host.attach("web")
    at = ["dev", web.veth, "ingress", "protocol", "all"]
    host.command(
        "tc", "filter", "add", *at, "prio", "7", "u32", "match", "u32", "0", "0", "flowid", "1:1"
    )
    (finding,) = findings(host, "guards")
    assert finding["level"] == "warn"
    assert f"{web.veth} (u32, priority 7)" in finding["what"]
    host.command(
        "tc", "filter", "add", *at, "prio", "1", "bpf", "direct-action", "bytecode", "1,6 0 0 0"
    )
    before, _ = findings(host, "guards")
    assert before["level"] == "fail"
    assert "before the guard" in before["what"]

    assert f"attached {web.veth}" in host.watcher("sync").stdout
    (finding,) = findings(host, "guards")
    assert finding["level"] == "warn"


def test_inspect_tells_whether_a_link_is_guarded(make_host: HostMaker) -> None:
    host = make_host(TWO)
    host.attach("web")
    host.attach("other", annotations=OPEN)
    told = {name: host.inspect(name)["interfaces"][0]["guarded"] for name in ("web", "other")}
    assert told == {"web": True, "other": False}
