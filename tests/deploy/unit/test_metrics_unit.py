"""`watcher-metrics.service`, as it is shipped."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from tests.support.booted import passes_analyze
from tests.support.exporter import PORT, Scraped, ask
from tests.support.paths import REPOSITORY
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.host.booted import BootedHost

_DROP_INS: Final = "/run/systemd/system/watcher-metrics.service.d"
_NAME: Final = "watcher-metrics"
_UNIT: Final = REPOSITORY / f"deploy/{_NAME}.service"


@contextmanager
def started(unit: BootedHost) -> Iterator[None]:
    """The unit runs; it sees the configuration of this host and the checkout, wherever they are."""
    run = unit.booted.command
    seen = f"{unit.booted.shared} {REPOSITORY}"
    drop_in = f"[Service]\nBindReadOnlyPaths={seen}\nProtectHome=tmpfs\n"
    run("sh", "-c", f"mkdir -p {_DROP_INS}; cat >{_DROP_INS}/test.conf", stdin=drop_in)
    run("systemctl", "daemon-reload")
    run("systemctl", "start", _NAME)
    try:
        yield
    finally:
        run("systemctl", "stop", _NAME)
        run("rm", "-r", _DROP_INS)
        run("systemctl", "daemon-reload")


def test_the_unit_passes_systemd_analyze_and_is_rated_as_the_page_says(tmp_path: Path) -> None:
    passes_analyze(_UNIT, 10, tmp_path)
    assert "rates it 1.0" in (REPOSITORY / "docs/metrics.md").read_text()


def test_metrics_are_served_by_a_process_that_may_do_nothing_else(unit: BootedHost) -> None:
    unit.command("systemd-sysusers", str(REPOSITORY / "deploy/watcher.sysusers"))
    unit.unit.restart()
    unit.attach("web")

    def scraped() -> Scraped:
        reply = ask(unit.here, PORT, "/metrics")
        return Scraped(reply.body.decode())

    def are_there() -> bool:
        return bool(scraped().value("watcher_container_info", id="web"))

    with started(unit):
        assert eventually(
            are_there, what=f"metrics of web: {unit.booted.show('StatusText', _NAME)}"
        )
        pid = unit.booted.show("MainPID", _NAME)
        unit.booted.has_no_power(pid)
        assert int(unit.booted.command("nsenter", f"--target={pid}", "--mount", "--",
            "sh", "-c", "touch /etc/x /var/x /run/x /run/watcher/x 2>/dev/null; ls /var/lib/watcher"
            " 2>/dev/null | wc -l").stdout) == 0  # fmt: skip

        unit.unit.stop()
        assert eventually(lambda: scraped().value("watcher_up") == 0)
        unit.unit.start()
        assert eventually(are_there)
        assert unit.booted.show("MainPID", _NAME) == pid
    assert unit.booted.show("Result", _NAME) == "success"
    unit.delete("web")
