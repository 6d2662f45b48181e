"""The administrator's own rules, which see containers' traffic before ours.

Their text is a file that the configuration names. It becomes the chain `admin` of this program's
table, so that it is there again whenever that is made anew. Whatever can be wrong with it is
found before it is taken; what was taken last stays in force while the file is broken.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from handlers.firewall.matches import HOST_ENDS
from handlers.handler import Notes
from handlers.kernel.nft import Nft, NftError
from handlers.networks.driver import Driver
from watcher.model.errors import UsageError, quoted
from watcher.model.network import Network

NOTE: Final = "rules of the administrator"
"""The note of the text that was taken last."""

MAX_SIZE: Final = 64 * 1024
"""Bytes of the file: all of it is compared at each sync."""

PREFIX: Final = "ours"
"""What the names of the sets begin with that are there for these rules alone."""

_SET: Final = re.compile(r"@(ours[46])(?:_([a-zA-Z0-9_.-]+))?")
_QUIET: Final = re.compile(r'"[^"]*"|#[^\n]*')
"""Strings and comments: braces in them are none (`scanner.l` of nftables)."""

_NOT_RULES: Final = re.compile(r"(?:^|;)[ \t]*(type|policy|flags|devices?|hook)\b")
_TRIED: Final = "watcher-rules"
"""The table in which rules are tried: a dormant one, whose chains see no packet."""


class AdminRules:
    """The text in force, and the file that it comes from.

    In `directory` a new text is tried, in a file that never has a name.

    Attributes:
        path: the file; empty if there is none.
        text: what was taken last; `None` if nothing was, and without a file.
    """

    def __init__(self, nft: Nft, notes: Notes, path: str, directory: str) -> None:
        self._nft = nft
        self._directory = directory
        self._notes = notes
        self.path = path
        self.text = notes.noted(NOTE) if path else None

    def read(self, path: str, networks: Iterable[Network], *, tried: bool = True) -> str | None:
        """The text of the file `path`; `None` without a path. Nothing is taken yet.

        `networks` has those whose sets it may use. `tried` says that nftables is asked about it,
        unless it is in force already.

        Raises:
            UsageError: it cannot be read, or cannot be in force; the error names file and line.
        """
        if not path:
            return None
        text = _content(path)
        if (path, text) == (self.path, self.text):
            return text
        _check_closed(path, text)
        known = sorted(network.name for network in networks if network.managed)
        for match in _SET.finditer(_bare(text)):
            if match[2] is not None and match[2] not in known:
                raise _refused(
                    path, _line(text, match.start()), f"{match[0]} is of no network of ours",
                    f"write one of {', '.join(known)} behind {match[1]}_",
                )  # fmt: skip
        if tried:
            self._try(path, text)
        return text

    def take(self, path: str, text: str | None) -> bool:
        """Have what :meth:`read` returned in force from now on; returns whether it is another."""
        changed = (path, text) != (self.path, self.text)
        if text is None:
            self.forget()
        elif changed:
            self._notes.note(NOTE, text)
        self.path, self.text = path, text
        return changed

    def forget(self) -> None:
        """Forget what was taken last."""
        if self._notes.noted(NOTE) is not None:
            self._notes.erase(NOTE)

    def _try(self, path: str, text: str) -> None:
        from handlers.kernel.nft_check import refusal  # only where there are such rules

        names = "\n".join(dict.fromkeys(_empty(m) for m in _SET.finditer(_bare(text))))
        above = f"table inet {_TRIED} {{\nflags dormant\n{names}\nchain admin {{\n"
        commands = f"{above}{text}\n}}\n{_TRIAL}\n}}\n"
        refused = refusal(commands, self._directory)
        if refused is not None:
            line = refused.line - above.count("\n")
            within = 1 <= line <= text.count("\n") + 1
            raise _refused(path, line if within else 0, f"nftables refuses it: {refused.reason}")
        drop = f"destroy table inet {_TRIED}\n"
        try:
            self._nft.run(drop + commands)  # what is refused only by those chains that lead to it
        except NftError as error:
            raise _refused(path, 0, f"nftables refuses it in a filter chain: {error}") from None
        self._nft.run(drop)


_TRIAL: Final = "\n".join(
    f"chain {hook} {{ type filter hook {hook} priority filter; jump admin; }}"
    for hook in ("input", "forward")
)


def _empty(match: re.Match[str]) -> str:
    name, version = match[0].removeprefix("@"), match[1][-1]
    return f"set {name} {{ type ipv{version}_addr; flags interval; }}"


def sets(networks: Sequence[Network], text: str) -> Iterator[str]:
    """The sets of our addresses, for all managed networks and for each.

    A network may leave the configuration while the text still names its set: then that is empty.
    """
    managed = [network for network in networks if network.managed]
    there = {}
    for version in (4, 6):
        own = {n.name: n.subnet_of(version) for n in managed}
        there[f"ours{version}"] = [str(subnet) for subnet in own.values() if subnet is not None]
        for name, subnet in own.items():
            there[f"ours{version}_{name}"] = [] if subnet is None else [str(subnet)]
    for match in _SET.finditer(_bare(text)):
        there.setdefault(match[0].removeprefix("@"), [])
    for name, subnets in there.items():
        elements = f" elements = {{ {', '.join(subnets)} }}" if subnets else ""
        kind = f"type ipv{name[len(PREFIX)]}_addr"
        yield f"set {name} {{ {kind}; flags interval; auto-merge;{elements} }}"


def chain(text: str) -> str:
    """The chain with the rules; the last line of `text` may be a comment."""
    return f"chain admin {{\n{text}\n}}"


def from_ours(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules that lead what comes from our links to the chain."""
    yield "iifname @bridges jump admin"
    if not all(driver.master for driver in drivers):
        yield f'iifname "{HOST_ENDS}" jump admin'


def to_ours(drivers: Sequence[Driver]) -> Iterator[str]:
    """The rules that lead what goes to our links there, unless it comes from one."""
    others = f'iifname != @bridges iifname != "{HOST_ENDS}"'
    yield f"oifname @bridges {others} jump admin"
    if not all(driver.master for driver in drivers):
        yield f'oifname "{HOST_ENDS}" {others} jump admin'


def _content(path: str) -> str:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no path has a NUL"
        remedy = "name a file that can be read, or remove the key"
        raise _refused(path, 0, f"cannot be read: {why}", remedy) from None
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, 0, "not a regular file", "name a file with rules")
        if status.st_uid or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise _refused(
                path, 0, "others than root can write it",
                f"run `chown root {path}` and `chmod go-w {path}`",
            )  # fmt: skip
        data = os.read(file, MAX_SIZE + 1)
    finally:
        os.close(file)
    if len(data) > MAX_SIZE:
        raise _refused(path, 0, f"more than {MAX_SIZE} bytes", "write fewer rules")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise _refused(path, data.count(b"\n", 0, error.start) + 1, "not UTF-8") from None
    if "\0" in text:
        raise _refused(path, _line(text, text.index("\0")), "a NUL")
    return text


def _check_closed(path: str, text: str) -> None:
    """Refuse a text that would end its chain, go on behind it, or make more of it than a chain."""
    bare = _bare(text)
    if '"' in bare:
        raise _refused(path, _line(text, bare.index('"')), "a quotation mark is not closed")
    opened: list[int] = []
    for at, character in enumerate(bare):
        if character == "{":
            opened.append(at)
        elif character == "}":
            if not opened:
                raise _refused(path, _line(text, at), "} closes more than was opened")
            opened.pop()
    if opened:
        raise _refused(path, _line(text, opened[-1]), "{ is not closed")
    for number, line in enumerate(bare.split("\n"), 1):
        if (match := _NOT_RULES.search(line)) is not None:
            raise _refused(path, number, f"{quoted(match[1])} is no rule", "write rules alone")
    if (include := re.search(r"\binclude\b", bare)) is not None:
        raise _refused(path, _line(text, include.start()), "it includes another file", "copy it")


def _bare(text: str) -> str:
    """`text` with blanks for comments and strings, of the same length and lines."""
    return _QUIET.sub(lambda m: re.sub(r"[^\n]", " ", m[0]), text)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


def _refused(path: str, line: int, reason: str, remedy: str = "correct it") -> UsageError:
    where = f"{path}:{line}" if line else path
    return UsageError(f"firewall.rules: {where}: {reason}", remedy)
