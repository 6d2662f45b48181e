"""It is there before a container's first instruction, and nothing else changes."""

from __future__ import annotations

from tests.support.host import GATEWAY, HostMaker

CONTENT = f"# Made by watcher: docs/names.md\nsearch watcher.internal\nnameserver {GATEWAY}\n"
READ = ("cat", "/etc/resolv.conf")


def test_it_is_there_at_the_first_instruction(make_host: HostMaker) -> None:
    host = make_host('[gate]\nmode = "required"\n')
    service = host.service()
    host.bundle("web", READ)
    for _ in range(20):
        assert host.launch("run", "web").stdout == CONTENT
    assert service.warnings() == []
