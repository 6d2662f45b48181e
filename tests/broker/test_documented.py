"""docs/events.md and docs/events.schema.json: every line is as they say, and the examples work."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Final

import pytest
from jsonschema import Draft202012Validator

from tests.support import schema
from tests.support.broker import Service, sandbox, strict
from tests.support.host import BEYOND, Host
from tests.support.paths import REPOSITORY
from tests.support.waiting import PATIENCE, eventually
from watcher.feed.events import KINDS
from watcher.feed.lines import VERSION
from watcher.feed.names import EVENTS
from watcher.observe.broker import reader, ring, serve

PAGE: Final = (REPOSITORY / "docs/events.md").read_text()
TYPES: Final = json.loads(schema.text())["discriminator"]["mapping"]
_PATH: Final = "/run/watcher/events.sock"


def cells(heading: str) -> list[str]:
    """What stands in backticks in the first cells of the table below `heading`."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    first = (line.split("|")[1] for line in section.splitlines() if line.startswith("| `"))
    return [word for cell in first for word in re.findall(r"`([a-z-]+)`", cell)]


def example(language: str, run_path: str) -> str:
    """The example in that language, for another path."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert _PATH in text
    return str(text).replace(_PATH, run_path)


def test_the_schema_is_that_of_the_program() -> None:
    assert schema.FILE.read_text() == schema.text(), "run `python -m tests.support.schema`"


def test_every_type_and_every_kind_has_its_row() -> None:
    assert sorted(cells("The lines")[1:]) == sorted(TYPES)
    assert sorted(cells("Kinds of events")[1:]) == sorted(KINDS)


def test_the_numbers_are_those_of_the_program() -> None:
    text = " ".join(PAGE.split())
    assert f"last {ring.EVENTS:,} events" in text
    assert f"more than {ring.BYTES >> 20} MiB" in text
    assert f"may be {serve.MOST_READERS:,} readers" in text
    assert f"more than {reader.MOST_HEARD >> 20} MiB is closed" in text
    assert serve.LINGER == 5 * 60
    assert f"`state` is {VERSION}" in text


def test_the_python_example(service: Service) -> None:
    service.start([sandbox(1), sandbox(2)])
    program = example("python", str(service.path))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        service.answer()
        assert process.stdout.readline() == b"2\n"
        service.event(sandbox(3))
        assert process.stdout.readline() == b"3\n"
        service.event(unset=[sandbox(1).key])
        assert process.stdout.readline() == b"2\n"
        service.close()
        assert process.stdout.read() == b""
        assert process.wait() == 0


def test_the_console_example(service: Service) -> None:
    service.start()
    command = example("console", shlex.quote(str(service.path))).removeprefix("# ").split("|")[0]
    with subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        service.answer()
        while b'"ready"' not in (line := process.stdout.readline()):
            assert line
        service.event(sandbox(3))
        assert strict(process.stdout.readline().rstrip())
        service.close()


@pytest.fixture
def validator() -> Draft202012Validator:
    found = json.loads(schema.FILE.read_text())
    Draft202012Validator.check_schema(found)
    return Draft202012Validator(found)


def test_every_line_of_a_real_service_is_as_the_schema_says(
    served: Host, validator: Draft202012Validator
) -> None:
    asked = {"io.watcher.name": "web", "io.watcher.egress": "none"}
    web = served.run("web", annotations=asked)
    assert web.reach(BEYOND, 80) is None
    eventually(lambda: '"rejected"' in served.logs())
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(served.run_dir / EVENTS))
        connection.settimeout(PATIENCE)
        lines = connection.makefile("rb")
        texts = list(until(lines, b'"type":"ready"'))
        served.run_to_end("bad", ["true"], annotations={"io.watcher.ip": "elsewhere"}, check=False)
        served.watcher("publish", "web", "8080:80")
        served.watcher("unpublish", "web", "8080:80")
        served.ip("link", "set", served.container("web").veth, "down")
        texts += until(lines, b'"kind":"repaired"')
        served.delete("web")
        texts += until(lines, b'"kind":"detached"')
    for text in texts:
        validator.validate(json.loads(text))
        assert strict(text.rstrip())
    kinds = {json.loads(text).get("kind") for text in texts} - {None}
    assert kinds == {"refused", "published", "unpublished", "repaired", "detached"}
    absent = {"failure", "missed", "cluster"}
    assert {json.loads(text)["type"] for text in texts} == {*TYPES} - absent


def until(lines: Iterable[bytes], end: bytes) -> Iterator[bytes]:
    """Lines up to the first with `end` in it."""
    for line in lines:
        yield line
        if end in line:
            return
    raise AssertionError(f"the connection ended before {end!r}")


@pytest.mark.parametrize(
    "line",
    [b'{"type":"ready","seq":"1"}', b'{"type":"ready"}', b'{"type":"traffic"}', b'{"type":"?"}'],
)
def test_the_schema_refuses_what_is_no_line(line: bytes, validator: Draft202012Validator) -> None:
    assert not validator.is_valid(json.loads(line))
