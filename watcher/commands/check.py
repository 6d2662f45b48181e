"""`watcher check`: says whether this host can run the program, and what to change."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from watcher.checks import registry
from watcher.commands.output import print_json
from watcher.model.errors import printable

if TYPE_CHECKING:
    from watcher.checks.check import Finding
    from watcher.config.settings import Config


def run(config: Config, options: argparse.Namespace) -> int:
    """Print a line for each finding; returns 1 if one is a failure."""
    findings = list(registry.findings(config))
    if options.json:
        print_json(findings)
    else:
        for finding in findings:
            print(printable(_line(finding)))  # noqa: T201
    return int(any(finding.level == "fail" for finding in findings))


def _line(finding: Finding) -> str:
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{finding.level:<4}  {finding.check}: {finding.what}{remedy}"
