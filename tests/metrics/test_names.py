"""The counts of the name service, from a name service that nobody should trust."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from prometheus_client.parser import text_string_to_metric_families

from watcher.feed.lines import NetworkLine
from watcher.model.errors import WatcherError
from watcher.names.counts import OUTCOMES, Counts
from watcher.observe.metrics.names import of_name_service
from watcher.observe.metrics.source import Source
from watcher.observe.metrics.text import PLAIN
from watcher.observe.name_service import STATUS, NoNameService, OfHosts, encoded, is_there, read
from watcher.observe.stream import Picture

WHOLE: Final = encoded(
    Counts().totals(
        connected=datetime.now(UTC),
        domain="a",
        networks=("b",),
        sandboxes=1,
        names=2,
        views=1,
        others=OfHosts(None, 7, 8),
    )
)
"""What one tells that has just started."""

HOSTILE: Final = {
    "nothing": b"",
    "half": WHOLE[: len(WHOLE) // 2],
    "no JSON": b"\xff\n",
    "another thing": b"{}\n",
    "a count below 0": WHOLE.replace(b'"views":1', b'"views":-1'),
    "a count that is no float": WHOLE.replace(b'"views":1', b'"views":1' + b"0" * 400),
    "a histogram that is none": WHOLE.replace(b'"counts":[0,', b'"counts":['),
    "an endless line": b" " * (1 << 20),
}


@contextlib.contextmanager
def name_service(run_dir: Path, line: bytes | None) -> Iterator[None]:
    """Sends `line` to all who connect; `None`: never accepts them."""
    path = run_dir / STATUS
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection, contextlib.suppress(OSError):
                        connection.sendall(line or b"")

        thread = threading.Thread(target=serve)
        if line is not None:
            thread.start()
        try:
            yield
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            if line is not None:
                thread.join()


def value(run_dir: Path, name: str, **labels: str) -> float | None:
    """A sample of what is scraped; `None` if there is none."""
    text = Source(str(run_dir)).scrape().text(PLAIN, gzip=False).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                return sample.value
    return None


def test_without_one_there_is_no_series_of_it(tmp_path: Path) -> None:
    with pytest.raises(NoNameService, match="start it"):
        read(str(tmp_path))
    assert not is_there(str(tmp_path))
    assert not is_there(f"/{'x' * 200}")
    assert value(tmp_path, "watcher_up") == 0
    assert value(tmp_path, "watcher_names_up") is None


@pytest.mark.parametrize("named", [True, False])
def test_one_that_is_missing_is_told_where_it_is_needed(tmp_path: Path, named: bool) -> None:
    picture = Picture()
    picture.apply(NetworkLine("default", "bridge", "netns0", (), names=named))
    families = list(of_name_service(str(tmp_path), picture))
    samples = [(sample.name, sample.value) for family in families for sample in family.samples]
    assert samples == ([("watcher_names_up", 0)] if named else [])


def test_its_counts_are_told_without_the_service_too(tmp_path: Path) -> None:
    counts = Counts()
    for number, outcome in enumerate(OUTCOMES):
        for _ in range(number):
            counts.answered(outcome, tcp=True)  # type: ignore[arg-type]
    counts.took(0.02)
    counts.upstream("timeout")
    line = encoded(
        counts.totals(connected=None, domain="a", networks=(), sandboxes=3, names=5, views=2)
    )
    with name_service(tmp_path, line):
        assert is_there(str(tmp_path))
        assert value(tmp_path, "watcher_up") == 0
        assert value(tmp_path, "watcher_names_up") == 1
        assert value(tmp_path, "watcher_names_connected") == 0
        assert value(tmp_path, "watcher_names_known") == 5
        questions = "watcher_names_questions_total"
        for number, outcome in enumerate(OUTCOMES):
            assert value(tmp_path, questions, outcome=outcome, transport="tcp") == number
            assert value(tmp_path, questions, outcome=outcome, transport="udp") == 0
        assert value(tmp_path, "watcher_names_upstream_total", outcome="timeout") == 1
        latency = "watcher_names_upstream_duration_seconds_bucket"
        assert value(tmp_path, latency, le="0.01") == 0
        assert value(tmp_path, latency, le="0.025") == 1


@pytest.mark.parametrize("line", HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_line_is_an_error_and_no_failed_scrape(tmp_path: Path, line: bytes) -> None:
    with name_service(tmp_path, line):
        with pytest.raises(WatcherError, match="restart it"):
            read(str(tmp_path))
        assert value(tmp_path, "watcher_names_up") == 0


def test_one_that_never_answers_is_not_waited_for(tmp_path: Path) -> None:
    with name_service(tmp_path, None):
        with pytest.raises(WatcherError, match="does not answer"):
            read(str(tmp_path), within=0.1)
        assert is_there(str(tmp_path))
        assert value(tmp_path, "watcher_names_up") == 0
