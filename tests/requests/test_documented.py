"""docs/annotations.md: each example is accepted, and each message is the program's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import traffic
from tests.support.host import GATE_OFF, Host
from tests.support.paths import REPOSITORY
from watcher.containers.annotations import KEYS, parse_request
from watcher.model.errors import InvalidRequest

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
"""
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
    found = re.fullmatch(r'watcher: bundle "[^"]+": io\.watcher\.\w+ = ".*?": (.*)', text)
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


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        name, _, part = target.partition("#")
        text = Path(REPOSITORY, "docs", name).read_text() if name else PAGE
        titles = [line.lstrip("# ").lower() for line in text.splitlines() if line.startswith("#")]
        anchors = {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles}
        assert not part or part in anchors, target
