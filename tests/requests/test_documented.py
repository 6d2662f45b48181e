"""docs/annotations.md: each example is accepted, and each message is the program's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
from msgspec.structs import replace

from tests.support import traffic
from tests.support.host import GATE_OFF, Host
from tests.support.paths import REPOSITORY
from watcher.config.settings import Config, Gate
from watcher.containers.annotations import KEYS, parse_request
from watcher.containers.place import Place
from watcher.containers.runtimes.crun import CRUN
from watcher.model.container import Container, Namespace, Process
from watcher.model.errors import InvalidRequest
from watcher.model.request import Request
from watcher.model.sandbox import Sandbox
from watcher.reconcile.movable import NOT_HELD, why_not
from watcher.reconcile.plan import plan

if TYPE_CHECKING:
    from tests.support.host import HostMaker

PAGE: Final = (REPOSITORY / "docs/annotations.md").read_text()
NETWORKS: Final = """
[network.inside]
bridge = "inside0"
subnets = ["172.20.0.0/24"]
internal = true
[network.small]
bridge = "small0"
subnets = ["172.21.0.0/30"]
[network.loose]
bridge = "loose0"
subnets = ["172.22.0.0/24"]
guard = false
[network.nameless]
bridge = "nameless0"
subnets = ["172.23.0.0/24"]
names = false
"""
_UNMOVABLE: Final = "if the container cannot be moved"
_LIMITS: Final = re.search(r"```toml\n(\[root\.limits\]\n.*?)```", PAGE, re.DOTALL)


def rows(header: str) -> Iterator[tuple[str, str, str]]:
    """The annotation that a section is about, and both cells, of each row below `header`."""
    key, inside = "", False
    for line in PAGE.splitlines():
        if line.startswith("## "):
            key = line.removeprefix("## ").strip("`")
        inside = line.startswith("|") and (inside or line == f"| {header} |")
        if inside and line not in (f"| {header} |", "| --- | --- |"):
            first, second = line.strip("| ").split(" | ")
            yield key, first, second


def code(cell: str) -> str:
    """What stands in a cell's backticks."""
    mark = "``" if cell.startswith("``") else "`"
    return cell.removeprefix(mark).removesuffix(mark)


def asked_in(cell: str) -> dict[str, str]:
    """The annotations in a cell, each as `key = value`."""
    pairs = (one.partition(" = ") for one in re.findall("`([^`]+)`", cell))
    return {key: value for key, _, value in pairs}


EXAMPLES: Final = list(rows("value | gives"))
BAD: Final = list(rows("value | message"))
UNMET: Final = list(rows("annotations | message"))
LIMITED: Final = list(rows("annotations | message in a root with these limits"))
UNMOVABLE: Final = {row: code(message) for _, row, message in rows(f"{_UNMOVABLE} | message")}


def test_every_annotation_has_examples_and_errors() -> None:
    every = {f"io.watcher.{key}" for key in KEYS}
    assert {key for key, *_ in EXAMPLES} == every
    assert {key for key, *_ in BAD} == every


@pytest.mark.parametrize(("key", "value", "gives"), EXAMPLES)
def test_an_example_is_accepted(key: str, value: str, gives: str) -> None:
    assert gives
    assert parse_request({key: code(value)}).annotated


@pytest.mark.parametrize(("key", "value", "message"), BAD)
def test_a_bad_value_has_that_message(key: str, value: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse_request({key: code(value)})
    assert str(error.value) == f'{key} = "{code(value)}": {code(message)}'


def told(host: Host, asked: dict[str, str]) -> str:
    """The message about a bundle with these annotations, without its beginning."""
    bundle = host.bundle("asks", annotations=asked)
    done = host.watcher("bundle", str(bundle), "--check", check=False)
    assert done.returncode in (1, 2), done
    text = done.stderr.replace(str(host.root), "/run/runc").strip()
    found = re.fullmatch(r'watcher: bundle "[^"]+": io\.watcher\.[\w-]+ = ".*?": (.*)', text)
    assert found is not None, text
    return found[1]


def test_what_cannot_be_met_has_that_message(make_host: HostMaker) -> None:
    host = make_host(GATE_OFF + NETWORKS)
    host.service()
    fixed = {"io.watcher.ip": "172.19.0.60", "io.watcher.mac": "02:00:00:00:00:60"}
    host.attach("web", ports="8080:80", annotations=fixed)
    host.attach("one", annotations={"io.watcher.name": "twin", "io.watcher.network": "small"})
    host.attach("two", annotations={"io.watcher.name": "twin"})
    with traffic.make_socket(host.here.netns, traffic.family_of("0.0.0.0"), 1) as server:
        server.bind(("0.0.0.0", 2222))
        server.listen()
        found = [(asked, told(host, asked_in(asked))) for _, asked, _ in UNMET]
    assert found == [(asked, code(message)) for _, asked, message in UNMET]


def test_what_is_beyond_the_limits_has_that_message(make_host: HostMaker) -> None:
    assert _LIMITS is not None
    host = make_host(_LIMITS[1] + GATE_OFF + NETWORKS)
    found = [(asked, told(host, asked_in(asked))) for _, asked, _ in LIMITED]
    assert found == [(asked, code(message)) for _, asked, message in LIMITED]


SIDE: Final = Container("/run/runc", "side", Process(2, 2), "", {}, Namespace.OWN, "", 2)
WEB: Final = Sandbox(1, "web", Process(1, 1), 1, (), (), ())
NEW: Final = Place(of_host=False, inside=None, of_runtime=True)
CANNOT_MOVE: Final[dict[str, tuple[Container, Place, str]]] = {
    "it names itself": (replace(SIDE, id="web"), NEW, ""),
    "its bundle has the host's network": (replace(SIDE, namespace=Namespace.HOST), NEW, ""),
    "its bundle names another namespace": (
        replace(SIDE, namespace=Namespace.JOINED, joined="/run/netns/db"), NEW, "",
    ),
    "`share = false` in `[gate]`": (SIDE, NEW, why_not(SIDE, Gate(share=False))),
    '`mode = "off"` in `[gate]`': (SIDE, NEW, why_not(SIDE, Gate(mode="off"))),
    "it has a user namespace": (SIDE, NEW, why_not(replace(SIDE, user_namespace=True), Gate())),
    "crun has made it": (SIDE, NEW, CRUN.unmovable),
    "it has an interface, as by a hook": (SIDE, replace(NEW, other_link="eth0"), ""),
    "it started while no service ran": (SIDE, NEW, NOT_HELD),
}  # fmt: skip
"""What is planned for such a container, and why the gate cannot move it."""


@pytest.mark.parametrize("row", CANNOT_MOVE)
def test_what_cannot_be_moved_has_that_message(row: str) -> None:
    container, place, unmovable = CANNOT_MOVE[row]
    request = Request(share="web")
    with pytest.raises(InvalidRequest) as error:
        plan(container, place, request, Config(), shared=WEB, unmovable=unmovable)
    told = f"{error.value.reason}; {error.value.remedy}"
    remedy = "run `watcher bundle DIR --share web` and start it again"
    expected, dots, _ = UNMOVABLE[row].replace("run ...", remedy).partition("...")
    assert told.startswith(expected) if dots else told == expected


def test_each_reason_not_to_move_is_tried() -> None:
    by_the_kernel = "the kernel refuses"  # tests/share/test_moving_threads.py
    assert UNMOVABLE.keys() == CANNOT_MOVE.keys() | {by_the_kernel}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        name, _, part = target.partition("#")
        text = Path(REPOSITORY, "docs", name).read_text() if name else PAGE
        titles = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
        anchors = {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
        assert not part or part in anchors, target
