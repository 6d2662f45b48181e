"""The text of hostile labels, of many series, and in each format, without a host."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from watcher.feed.lines import ContainerPart, InterfacePart, Ready, SandboxLine, State, Traffic
from watcher.observe.metrics.families import of_picture, of_scrape
from watcher.observe.metrics.labels import MAX
from watcher.observe.metrics.links import COUNTERS, Links
from watcher.observe.metrics.text import OPENMETRICS, PLAIN, negotiated, written
from watcher.observe.stream import Picture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from prometheus_client import Metric

    from watcher.observe.metrics.text import Format

ROOT = "/run/runc"
PARSERS: dict[str, tuple[Format, Callable[[str], Iterable[Metric]]]] = {
    "plain": (PLAIN, parse_plain),
    "openmetrics": (OPENMETRICS, parse_openmetrics),
}


def sandbox(
    number: int, *members: ContainerPart, made_for: str = "", network: str = "default"
) -> SandboxLine:
    """A sandbox with one interface, whose host end is `netnsv0-<number>`."""
    interface = InterfacePart("eth0", f"netnsv0-{number}", network, "02:00:00:00:00:01")
    id_ = made_for or members[0].id
    return SandboxLine(f"sandbox/{number}", id_, number, members, (interface,))


def picture(*sandboxes: SandboxLine) -> Picture:
    """A picture in which the container of each has received as many bytes as its number is."""
    made = Picture()
    made.apply(State(1, "1.0", "one", datetime.now(UTC)))
    for line in sandboxes:
        made.apply(line)
        number = int(line.interfaces[0].host_name.removeprefix("netnsv0-"))
        made.apply(Traffic(f"netnsv0-{number}", number, 2, 3, 4, 5, 6, 7, 8, 9))
    made.apply(Ready(1))
    return made


def text(of: Picture, links: Links | None = None, form: Format = PLAIN) -> str:
    families = [*of_scrape(up=True, seconds=0.5), *of_picture(of)]
    return written(families, (links or Links()).tables(of), form).decode()


def received(of: str, parse: Callable[[str], Iterable[Metric]] = parse_plain) -> dict[str, float]:
    """The bytes that containers received, by id."""
    name = "watcher_container_network_receive_bytes"
    samples = [s for family in parse(of) if family.name == name for s in family.samples]
    values = {sample.labels["id"]: sample.value for sample in samples}
    assert len(values) == len(samples), "two series have the same labels"
    return values


HOSTILE = st.text(max_size=3 * MAX) | st.sampled_from(
    [
        '"} 1\nwatcher_up 0\n#',
        "\\",
        "\n",
        "\x1b[31m",
        "\u2028",
        "\ud800",
        'a"b',
        "%d %s %",
        "x" * 4000,
        "",
    ]
)


@pytest.mark.parametrize("form", PARSERS)
@given(ids=st.lists(HOSTILE, unique=True, max_size=4), name=HOSTILE)
def test_hostile_labels_stay_labels_of_bounded_length(form: str, ids: list[str], name: str) -> None:
    lines = [
        sandbox(number, ContainerPart(ROOT, id_, names=(name,)), network=name)
        for number, id_ in enumerate(ids, 1)
    ]
    format_, parse = PARSERS[form]
    families = {family.name: family for family in parse(text(picture(*lines), form=format_))}
    for key in COUNTERS.values():
        samples = families[f"watcher_container_network_{key[0]}"].samples
        assert len({str(sample.labels) for sample in samples}) == len(ids)
        for sample in samples:
            assert sorted(sample.labels) == ["id", "interface", "name", "network", "root"]
            assert all(len(value) <= MAX for value in sample.labels.values())
            assert all(value.isprintable() for value in sample.labels.values())
    assert families["watcher_up"].samples[0].value == 1


def test_both_formats_tell_the_same() -> None:
    of = picture(sandbox(7, ContainerPart(ROOT, "web", names=("www", "w"))))
    plain, openmetrics = text(of), text(of, form=OPENMETRICS)
    assert openmetrics.endswith("\n# EOF\n")
    assert openmetrics.count("# EOF") == 1
    assert received(plain) == received(openmetrics, parse_openmetrics) == {"web": 7}
    assert 'name="www"' in plain


def test_a_shared_sandbox_is_counted_once_and_its_containers_lead_to_it() -> None:
    web, side = ContainerPart(ROOT, "web"), ContainerPart("/run/crun", "side")
    of = text(picture(sandbox(7, side, web, made_for="web")))
    assert received(of) == {"web": 7}
    assert 'watcher_container_info{id="side",name="side",root="/run/crun",sandbox="web",' in of
    assert 'watcher_containers{status="attached"} 1.0\n' in of
    assert 'watcher_containers{status="shared"} 1.0\n' in of


def test_a_sandbox_that_outlives_its_container_is_told_from_the_next_of_that_id() -> None:
    left = sandbox(7, ContainerPart(ROOT, "side"), made_for="web")
    new = sandbox(8, ContainerPart(ROOT, "web"))
    assert received(text(picture(left, new))) == {"side": 7, "web": 8}


def test_series_come_and_go_with_their_containers() -> None:
    links = Links()
    web, db = sandbox(7, ContainerPart(ROOT, "web")), sandbox(8, ContainerPart(ROOT, "db"))
    assert received(text(picture(web, db), links)) == {"web": 7, "db": 8}
    assert received(text(picture(db), links)) == {"db": 8}
    web_again = sandbox(9, ContainerPart(ROOT, "web", names=("www",)))
    assert received(text(picture(db, web_again), links)) == {"db": 8, "web": 9}
    assert received(text(picture(), links)) == {}


def test_the_text_of_an_id_of_an_engine_is_whole_and_its_name_short() -> None:
    id_ = "0123456789abcdef" * 4
    of = text(picture(sandbox(7, ContainerPart(ROOT, id_))))
    assert f'id="{id_}",interface="eth0",name="0123456789ab",network="default"' in of


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", PLAIN),
        ("*/*", PLAIN),
        ("text/html, */*;q=0.8", PLAIN),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4", OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=dots", OPENMETRICS),
        ("application/openmetrics-text;version=x", PLAIN),
        ("application/openmetrics-text;version=" + "9" * 5000, PLAIN),
        ("text/plain;version=1.0.0;escaping=values", PLAIN),
    ],
)
def test_the_reader_chooses_the_format(accept: str, form: Format) -> None:
    assert negotiated(accept) is form
