"""What `--since` takes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watcher.model.errors import UsageError
from watcher.observe.moments import EXAMPLES, moment


@pytest.fixture(autouse=True, scope="module")
def _berlin() -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Europe/Berlin"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def now() -> datetime:
    return datetime(2026, 11, 26, 11, 0, tzinfo=UTC).astimezone()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("now", "2026-11-26 11:00:00"),
        ("today", "2026-11-25 23:00:00"),
        ("yesterday", "2026-11-24 23:00:00"),
        ("10:00", "2026-11-26 09:00:00"),
        (" 10:00:30.5 ", "2026-11-26 09:00:30.500000"),
        ("10:00 UTC", "2026-11-26 10:00:00"),
        ("2026-11-26", "2026-11-25 23:00:00"),
        ("2026-11-26 10:00", "2026-11-26 09:00:00"),
        ("2026-07-26 10:00", "2026-07-26 08:00:00"),  # summer time
        ("2026-11-26 10:00:00+01:00", "2026-11-26 09:00:00"),
        ("2026-11-26T10:00:00Z", "2026-11-26 10:00:00"),
        ("2026-11-26T10:00:00.123456-08:00", None),
        ("2026-11-26T02:00:00.123456-08:00", "2026-11-26 10:00:00.123456"),
        ("@1764151200", "2025-11-26 10:00:00"),
        ("1h", "2026-11-26 10:00:00"),
        ("-1h", "2026-11-26 10:00:00"),
        ("90 min ago", "2026-11-26 09:30:00"),
        ("1h30m", "2026-11-26 09:30:00"),
        ("1.5h 30 seconds ago", "2026-11-26 09:29:30"),
        ("2 weeks", "2026-11-12 11:00:00"),
        ("1M", "2026-10-27 00:26:24"),
        *((text, None) for text in (
            "", "1", "h", "1x", "1h 2", "ago", "- 1h ago", "--1h", "-1h ago", "+1h", "tomorrow",
            "1h, 2m", "10", "10:0", "24:01", "25:00", "23:59", "2026-02-30", "2026-13-01",
            "20261126", "2026-W48-4", "0000-01-01", "100000000h", "@", "@1e9", "@999999999999",
            "9" * 99 + "y", "9" * 200 + "y", "\x1b[31m", "\u0661h",
        )),
    ],
)  # fmt: skip
def test_moments(text: str, utc: str | None) -> None:
    if utc is None:
        with pytest.raises(UsageError) as error:
            moment(text, now())
        assert text[:9] in str(error.value) or not text.isprintable()
        assert str(error.value).isprintable()
        return
    found = moment(text, now())
    assert str(found.astimezone(UTC)).removesuffix("+00:00") == utc
    assert found.tzinfo is not None


def test_the_examples_are_moments() -> None:
    late = datetime(2026, 11, 26, 23, 0).astimezone()
    for example in EXAMPLES.replace(" or ", ", ").split(", "):
        moment(example.strip('"'), late)


@given(st.text() | st.from_regex(r"[-@]?[0-9:. TZhms-]{1,25}(ago)?", fullmatch=True))
def test_any_text_is_a_moment_that_has_passed_or_an_error_that_names_it(text: str) -> None:
    try:
        assert moment(text, now()) <= now() + timedelta(minutes=1)
    except UsageError as caught:
        error = str(caught)
    else:
        return
    assert EXAMPLES in error or "still to come" in error


@given(st.datetimes(datetime(1971, 1, 1), datetime(2026, 11, 26), timezones=st.just(UTC)))
def test_what_is_printed_can_be_written(at: datetime) -> None:
    local = at.astimezone()
    assert moment(local.isoformat(), now()) == at
    assert moment(local.isoformat(" ", "seconds"), now()) == at.replace(microsecond=0)
