"""`watcher bundle DIR`: `--share` makes it join a sandbox, `--check` previews its network."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from watcher.commands.lookup import find
from watcher.config.patterns import may_call
from watcher.config.settings import Config
from watcher.containers.files import Unreadable, read_regular
from watcher.model import keys
from watcher.model.errors import WatcherError, printable, quoted
from watcher.store.reading import read_store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from watcher.model.sandbox import Sandbox


class _Sharer(NamedTuple):
    """A container whose sandbox can be shared, and that sandbox."""

    id: str
    names: tuple[str, ...]
    sandbox: Sandbox
    root: str = ""


def run(config: Config, options: argparse.Namespace) -> int:
    """Write the namespace path of the sandbox of `--share` into `DIR/config.json`, or check it.

    Raises:
        WatcherError: there is no such sandbox or bundle, or the check fails.
    """
    if options.check:
        from watcher.commands.preview import preview

        print(printable(preview(config, options.directory)))  # noqa: T201
        return 0
    with read_store(config) as store:
        may = may_call(config.roots, options.share)
        sharer = find(options.share, _sharers(store.sandboxes()), lambda one: may(one.root))
    if sharer is None:
        raise WatcherError(
            f"there is no container {quoted(options.share)} with a sandbox",
            "start it first; see `watcher ls`",
        )
    path = Path(options.directory, "config.json")
    sandbox = sharer.sandbox
    pin = Path(config.netns_dir, sharer.id if sharer.id in sandbox.pins else sandbox.id)
    spec = _read(path)
    _join(spec, str(pin), sharer.id, path)
    _replace(path, json.dumps(spec, indent="\t") + "\n")
    return 0


def _sharers(sandboxes: Sequence[Sandbox]) -> list[_Sharer]:
    """Whoever leads to a sandbox: its containers, and the one that it was made for.

    The newest come first, and all containers before those that may have gone.
    """
    newest = list(reversed(sandboxes))
    found = [_Sharer(m.id, m.asked.names, s, m.root) for s in newest for m in s.members]
    known = {(sharer.id, sharer.sandbox.key) for sharer in found}
    return found + [_Sharer(s.id, (), s) for s in newest if (s.id, s.key) not in known]


def _read(path: Path) -> dict[str, Any]:
    if path.is_symlink():
        raise Unreadable(f"{quoted(path)} is a link", "put the file itself there")
    content = read_regular(str(path), str(path))
    if content is None:
        raise WatcherError(f"{quoted(path)} is not there", "make it with `runc spec`")
    try:
        spec = json.loads(content)
    except RecursionError as error:
        raise Unreadable(f"{quoted(path)} is nested too deeply", "repair it") from error
    except json.JSONDecodeError as error:
        raise Unreadable(f"{quoted(path)} is not JSON: {error}", "repair it") from error
    except ValueError as error:  # bytes that are no text, or more digits than Python reads
        raise Unreadable(
            f"{quoted(path)} has a text or a number that cannot be read", "repair it"
        ) from error
    if not isinstance(spec, dict):
        raise Unreadable(f"{quoted(path)} is not a JSON object", "make it with `runc spec`")
    return spec


def _join(spec: dict[str, Any], pin: str, share: str, path: Path) -> None:
    """Change `spec` so that its container joins `pin`, and add the annotation."""
    linux = spec.setdefault("linux", {})
    annotations = spec.get("annotations") or {}
    namespaces = linux.get("namespaces") or [] if isinstance(linux, dict) else None
    if not isinstance(namespaces, list) or not isinstance(annotations, dict):
        raise Unreadable(
            f"{quoted(path)} is not a runtime configuration", "make it with `runc spec`"
        )
    others = [n for n in namespaces if not (isinstance(n, dict) and n.get("type") == "network")]
    linux["namespaces"] = [*others, {"type": "network", "path": pin}]
    spec["annotations"] = annotations | {keys.SHARE: share}


def _replace(path: Path, text: str) -> None:
    """Replace the content of `path` by `text` atomically; owner and mode stay."""
    status = path.stat()
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as new:
        try:
            new.write(text)
            new.flush()
            os.fchmod(new.fileno(), status.st_mode & 0o7777)
            os.fchown(new.fileno(), status.st_uid, status.st_gid)
            os.fsync(new.fileno())
            Path(new.name).replace(path)
        except BaseException:
            Path(new.name).unlink(missing_ok=True)
            raise
