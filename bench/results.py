"""Results: one JSON file per suite, with a description of the machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.suites import NAMES, Figures

type Result = dict[str, Any]


def write(directory: Path, name: str, machine: dict[str, str], figures: Figures) -> None:
    """Write the result of the suite `name`."""
    directory.mkdir(parents=True, exist_ok=True)
    result = {"suite": name, "machine": machine, "figures": _rounded(figures)}
    (directory / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")


def read(directory: Path) -> dict[str, Result]:
    """The present results by suite, in the order of the suites."""
    files = {name: directory / f"{name}.json" for name in NAMES}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def _rounded(value: Any) -> Any:
    """`value` with each fraction rounded to seven digits."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return float(f"{value:.7g}") if isinstance(value, float) else value
