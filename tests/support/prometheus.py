"""A real Prometheus on a host, and its tool."""

from __future__ import annotations

import json
import subprocess
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from tests.support.exporter import PORT, ask
from tests.support.logs import entries
from tests.support.processes import Done, end
from tests.support.waiting import eventually

if TYPE_CHECKING:
    from tests.support.host import Host

_PORT: Final = 9090
_INTERVAL: Final = "500ms"


def promtool(*args: str | Path, stdin: str = "") -> Done:
    """`promtool`, which need not succeed."""
    return subprocess.run(
        ["promtool", *args], input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


class Prometheus:
    """Prometheus, which scrapes `watcher metrics` and ends with its host.

    Args:
        host: the host.
        rules: a file with rules.
    """

    def __init__(self, host: Host, rules: Path) -> None:
        self._host = host
        directory = host.base / "prometheus"
        directory.mkdir()
        config = directory / "prometheus.yml"
        config.write_text(
            json.dumps(  # which is YAML
                {
                    "global": {"scrape_interval": _INTERVAL, "evaluation_interval": _INTERVAL},
                    "rule_files": [str(rules)],
                    "scrape_configs": [
                        {
                            "job_name": "watcher",
                            "static_configs": [{"targets": [f"127.0.0.1:{PORT}"]}],
                        }
                    ],
                }
            )
        )
        self._log = directory / "log"
        with self._log.open("w") as log:
            process = host.popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={directory}/data",
                 f"--web.listen-address=127.0.0.1:{_PORT}", "--log.format=json"],
                stdout=log, stderr=log,
            )  # fmt: skip
        host.on_close(lambda: end(process))

    def scrapes(self) -> None:
        """Waits until it does, which is 5 s after its start (`updatert` in its discovery)."""
        eventually(lambda: self.query("up == 1"), what="a scrape by Prometheus")

    def complaints(self) -> list[str]:
        """What it has logged as a warning or an error."""
        logged = entries(self._log.read_text())
        return [str(entry) for entry in logged if entry["level"] not in ("info", "debug")]

    def _get(self, path: str) -> Any:
        reply = ask(self._host.here, _PORT, f"/api/v1/{path}")
        assert reply.status == HTTPStatus.OK, reply.body  # it is not while it starts
        answer = json.loads(reply.body)
        assert answer["status"] == "success", answer
        return answer["data"]

    def query(self, expression: str) -> dict[str, float]:
        """The values of an expression now, by their labels as JSON."""
        result = self._get(f"query?query={quote(expression, safe='')}")["result"]
        return {json.dumps(one["metric"]): float(one["value"][1]) for one in result}

    def rules(self) -> list[dict[str, Any]]:
        """The rules as it has evaluated them."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]
