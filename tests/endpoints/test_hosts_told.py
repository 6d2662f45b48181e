"""Who reads `hosts.sock` is told nonsense: an error in a line, nothing else."""

from __future__ import annotations

import socket
from pathlib import Path
from threading import Thread

import pytest

from watcher.cluster.endpoints.lines import SOCKET
from watcher.cluster.endpoints.reading import read
from watcher.model.errors import WatcherError

STATE = b'{"type": "state", "version": 1}\n'
DEEP = b"[" * 100_000 + b"]" * 100_000
NONSENSE = {
    "no JSON": b"?\n",
    "no JSON behind what is no object": b"[]\n?\n",
    "nested": b'{"type": "ready", "x": ' + DEEP + b"}\n",
    "nested behind a line of an unknown type": b'{"type": "x"}\n{"type": "ready", "x": ' + DEEP
    + b"}\n",
}  # fmt: skip


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / SOCKET).parent.mkdir()
    return tmp_path


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE)
def test_nonsense_is_an_error_of_one_line(run_dir: Path, nonsense: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(run_dir / SOCKET))
        listening.listen()

        def tell() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(STATE + nonsense)
                while connection.recv(1 << 16):
                    pass

        telling = Thread(target=tell, daemon=True)
        telling.start()
        with pytest.raises(WatcherError, match="tells what this program does not understand"):
            read(str(run_dir), within=20)
        telling.join()
