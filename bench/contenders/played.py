"""Events of a service, played by this process: what containers that come and go tell."""

from __future__ import annotations

import json
import os
import socket
import threading
from pathlib import Path
from typing import Any, Final, Self

_SOCKET: Final = "/run/watcher/events.sock"
_TIME: Final = "2026-01-01T00:00:00Z"


class PlayedEvents:
    """The events socket, first with the state that the real service told, and then with events."""

    def __init__(self) -> None:
        self._state: list[bytes] = []
        self._seq = 0
        self._network: dict[str, Any] = {}
        self._stream: socket.socket | None = None
        self._listener: socket.socket | None = None

    def learn(self) -> None:
        """Take the state from the service that runs."""
        with socket.socket(socket.AF_UNIX) as stream:
            stream.connect(_SOCKET)
            for text in stream.makefile("rb"):
                line = json.loads(text)
                self._state.append(text)
                if line["type"] == "network" and line["name"] == "default":
                    self._network = line
                if line["type"] == "ready":
                    self._seq = line["seq"]
                    return
        raise RuntimeError("the events socket has ended before the state")

    def serve(self) -> None:
        """Take the place of the service, which has ended, and wait for one reader."""
        Path(_SOCKET).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(_SOCKET)
        Path(_SOCKET).chmod(0o666)
        listener.listen()
        listener.settimeout(60)
        self._listener = listener
        self._stream, _ = listener.accept()
        self._stream.settimeout(60)
        self._stream.sendall(b"".join(self._state))
        # What a reader sends is dropped, as by the broker.
        threading.Thread(target=_drain, args=(self._stream,), daemon=True).start()

    def attached(self, name: str, address: str) -> None:
        """Tell of a sandbox."""
        container = {"root": "/run/runc", "id": name, "pid": 2}
        interface = {
            "name": "eth0", "host_name": f"netnsv0-{name}", "network": "default",
            "mac": "02:42:ac:13:00:02", "addresses": [address],
        }  # fmt: skip
        line = {
            "type": "sandbox", "key": f"played {name}", "id": name, "netns": 1,
            "containers": [container], "interfaces": [interface],
        }  # fmt: skip
        self._tell("attached", name, {"set": [line]})

    def detached(self, name: str) -> None:
        """Tell of its end."""
        self._tell("detached", name, {"unset": [f"played {name}"]})

    def close(self) -> None:
        """End the stream."""
        for open_ in (self._stream, self._listener):
            if open_ is not None:
                open_.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _tell(self, kind: str, name: str, change: dict[str, Any]) -> None:
        assert self._stream is not None
        self._seq += 1
        event = {"type": "event", "seq": self._seq, "time": _TIME, "kind": kind, "sandbox": name}
        self._stream.sendall(json.dumps(event | change).encode() + b"\n")


def _drain(stream: socket.socket) -> None:
    try:
        while stream.recv(4096):
            pass
    except OSError:
        os.sched_yield()
