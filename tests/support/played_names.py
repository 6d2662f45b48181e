"""A name service that tells of itself what a test has it tell."""

from __future__ import annotations

import contextlib
import socket
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from watcher.names.counts import Counts
from watcher.observe.name_service import STATUS, encoded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHOLE: Final = encoded(
    Counts().totals(
        connected=datetime.now(UTC), domain="a", networks=("b",), sandboxes=1, names=2, views=1
    )
)
"""What one tells that has just started."""


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
