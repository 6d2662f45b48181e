"""Moments as people write them: a part of what systemd.time(7) takes, and RFC 3339."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Final

from watcher.model.errors import UsageError, quoted

EXAMPLES: Final = (
    '"2026-11-26 10:00", "10:00", "30m", "2h 30m ago", "yesterday", "@1764151200" or'
    ' "2026-11-26T10:00:00Z"'
)

_MOST: Final = 100
_CLOCKS_DIFFER: Final = timedelta(minutes=1)
_UNITS: Final = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86_400.0),
    **dict.fromkeys(("w", "week", "weeks"), 7 * 86_400.0),
    **dict.fromkeys(("M", "month", "months"), 30.44 * 86_400),
    **dict.fromkeys(("y", "year", "years"), 365.25 * 86_400),
}
"""Seconds of each unit, as systemd.time(7) counts them: a month is 30.44 days, a year 365.25."""

_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) *([A-Za-z]+) *", re.ASCII)
_AGO: Final = re.compile(r"-(?P<minus>[^-].*)|(?P<ago>.*) ago|(?P<bare>[0-9].*)", re.ASCII)
_CLOCK: Final = "[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:[.][0-9]{1,6})?)?"
_ZONE: Final = " ?(?:Z|UTC|[+-][0-9]{2}:[0-9]{2})"
_DATED: Final = re.compile(
    f"(?P<day>[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}})(?:[T ](?P<clock>{_CLOCK}))?(?P<zone>{_ZONE})?",
    re.ASCII,
)
_TODAY: Final = re.compile(f"(?P<clock>{_CLOCK})(?P<zone>{_ZONE})?", re.ASCII)
_EPOCH: Final = re.compile(r"@([0-9]{1,12}(?:\.[0-9]{1,9})?)", re.ASCII)


def moment(text: str, now: datetime) -> datetime:
    """The moment that `text` means.

    A time without a zone is the host's local time; `now` is local as well.

    Raises:
        UsageError: it means none, or one to come.
    """
    try:
        found = _moment(text.strip(), now) if len(text) <= _MOST else None
    except (ValueError, OverflowError, OSError):  # the 30th of February, the year 0
        found = None
    if found is None:
        raise UsageError(f"--since {quoted(text)} is no time", f"write for example {EXAMPLES}")
    if found > now + _CLOCKS_DIFFER:
        raise UsageError(
            f"--since {quoted(text)} is still to come ({found.isoformat(' ', 'seconds')})",
            "write a time that has passed, with its date",
        )
    return found


def _moment(text: str, now: datetime) -> datetime | None:
    today = now.date()
    match text:
        case "now":
            return now
        case "today":
            return datetime.combine(today, time()).astimezone()
        case "yesterday":
            return datetime.combine(today - timedelta(days=1), time()).astimezone()
    if epoch := _EPOCH.fullmatch(text):
        return datetime.fromtimestamp(float(epoch[1]), UTC).astimezone()
    if dated := _DATED.fullmatch(text) or _TODAY.fullmatch(text):
        parts = dated.groupdict()
        day, clock = parts.get("day") or today.isoformat(), parts["clock"] or "00:00"
        zone = (parts["zone"] or "").strip().replace("UTC", "Z")
        return datetime.fromisoformat(f"{day}T{clock}{zone}").astimezone()
    if ago := _AGO.fullmatch(text):
        seconds = _seconds(ago["minus"] or ago["ago"] or ago["bare"])
        return None if seconds is None else (now - timedelta(seconds=seconds)).astimezone()
    return None


def _seconds(span: str) -> float | None:
    """The length of a time span, such as `2h 30min`."""
    seconds, at = 0.0, 0
    span = span.strip()
    while at < len(span):
        part = _PART.match(span, at)
        if part is None or part[2] not in _UNITS:
            return None
        seconds += float(part[1]) * _UNITS[part[2]]
        at = part.end()
    return seconds if span else None
