"""Reads the configuration file; its errors name the line, the key and the accepted values.

The defaults need only this module. Those that read a file are imported only if there is one.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from watcher.config.settings import Config
from watcher.model.errors import MAX_VALUE, UsageError, printable, quoted, shortened

if TYPE_CHECKING:
    from watcher.config.rules import ConfigKeyError, KeyPath

DEFAULT_PATH: Final = Path("/etc/watcher/watcher.toml")
"""The file that is read if none is named and it exists."""

MAX_SIZE: Final = 1024 * 1024
"""The most bytes of a configuration file."""

_MAX_COST: Final = 32_000_000
"""The most steps of tomllib in dotted keys, whose cost is quadratic: about three seconds."""

_WITH_A_KEY: Final = re.compile(
    r"(Cannot \w+ (?:\w+ )*)(\('.+,.*\)|\(\".+,.*\))( twice)?", re.DOTALL
)
"""What tomllib says of a table: `Cannot declare ('network', 'default') twice`."""


class Source(Struct, frozen=True):
    """A configuration and the file that it was read from.

    Attributes:
        config: the configuration.
        name: the file's name; empty without a file.
        text: the file's text.
    """

    config: Config
    name: str = ""
    text: str = ""

    def lines(self) -> dict[KeyPath, int]:
        """Find the line of each key in the file."""
        from watcher.config.lines import find_lines

        return find_lines(self.text)


def load(path: Path | None) -> Config:
    """Read the configuration from `path`, as :func:`read` does."""
    return read(path).config


def read(path: Path | None) -> Source:
    """Read the TOML file `path`; by default `DEFAULT_PATH`, or the defaults if that is missing.

    Raises:
        UsageError: the file cannot be read, is not TOML, or has an unknown key or a bad value.
    """
    if path is None:
        if not os.path.lexists(DEFAULT_PATH):
            return Source(Config())
        path = DEFAULT_PATH
    name = printable(str(path)[:4096])
    text = _read(path, name)
    if _cost(text) > _MAX_COST:
        raise _too_deep(name)

    import tomllib

    from watcher.config.keys import build
    from watcher.config.rules import ConfigKeyError

    try:
        document = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, or an integer of too many digits
        raise _syntax_error(name, text, str(error)) from None
    except RecursionError:
        raise _too_deep(name) from None
    try:
        return Source(build(document), name, text)
    except ConfigKeyError as error:
        raise _key_error(name, text, document, error) from None


def _read(path: Path, name: str) -> str:
    """Return the text of the regular file `path`, called `name` in errors."""
    try:
        with open(path, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError(f"{name}: not a regular file", "name a TOML file")
            data = file.read(MAX_SIZE + 1)
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "not a path"
        raise UsageError(
            f"{name}: cannot read the configuration: {what}", "name a TOML file that can be read"
        ) from None
    if len(data) > MAX_SIZE:
        raise UsageError(f"{name}: more than {MAX_SIZE} bytes", "name a smaller TOML file")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{name}:{line}: not UTF-8", "write the file in UTF-8") from None


def _open(path: str, flags: int) -> int:
    """Open without blocking: a FIFO would wait for its writer."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _cost(text: str) -> int:
    """Estimate from above what it costs to parse the dotted keys of `text`."""
    cost = header = 0
    for line in text.split("\n"):
        dots = line.count(".")
        if line.lstrip().startswith("["):
            header = dots
        cost += (dots + 1) * (dots + header)
    return cost


def _too_deep(name: str) -> UsageError:
    return UsageError(f"{name}: nested too deeply", "write tables within tables as in the manual")


def _syntax_error(name: str, text: str, message: str) -> UsageError:
    """Put the place that ends tomllib's `message`, `… (at line 3, column 5)`, in front."""
    reason, _, place = message.rpartition(" (at ")
    line = place.removeprefix("line ").partition(",")[0]
    if place == "end of document)":
        line = str(text.rstrip("\n").count("\n") + 1)
    where, reason = (f"{name}:{line}", reason) if line.isdigit() else (name, message)
    return UsageError(f"{where}: not TOML: {shortened(_as_toml(reason))}", "correct the line")


def _as_toml(reason: str) -> str:
    """Write a key in tomllib's `reason` as the file does; there it is a tuple of Python."""
    found = _WITH_A_KEY.fullmatch(reason)
    if found is None:
        return reason
    import ast

    key: KeyPath = ast.literal_eval(found[2])
    return f"{found[1]}{dotted(key)}{found[3] or ''}"


def _key_error(name: str, text: str, document: dict[str, Any], error: ConfigKeyError) -> UsageError:
    from watcher.config.lines import find_line, follow

    line = find_line(text, error.path)
    where = name if line is None else f"{name}:{line}"
    found, value = follow(document, error.path)
    shown = _shown(value) if found and not _is_secret(error.path, value) else ""
    key = dotted(error.path) + (f" = {shown}" if shown else "")
    return UsageError(f"{where}: {key}: {error.reason}", error.remedy)


def dotted(path: KeyPath) -> str:
    """Write `path` like a table header, without indices: the line says which list element it is."""
    return ".".join(
        part if part.replace("_", "").replace("-", "").isalnum() and len(part) < MAX_VALUE
        else quoted(part)
        for part in path
        if isinstance(part, str)
    )  # fmt: skip


def _is_secret(path: KeyPath, value: object) -> bool:
    """Whether somebody may have written a password or a key where the name of its file belongs."""
    name = next((part for part in reversed(path) if isinstance(part, str)), "")
    if name == "key":
        return not (isinstance(value, str) and value.startswith("/"))
    return name.startswith(("pas", "secret"))


def _without_user(text: str) -> str:
    """Leave out the user of a URL, whose password goes with it."""
    scheme, between, rest = text.partition("://")
    return f"{scheme}://…@{rest.rpartition('@')[2]}" if between and "@" in rest else text


def _shown(value: object) -> str:
    """Write `value` like TOML, shortened; empty for a table."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) and value.bit_length() > MAX_VALUE:
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, list):
        items = ["…" if isinstance(item, list | dict) else _shown(item) for item in value[:4]]
        return f"[{', '.join(items + ['…'] * (len(value) > 4))}]"
    if isinstance(value, dict):
        return ""
    return quoted(_without_user(value)) if isinstance(value, str) else str(value)
