"""The benchmark's command line: `python -m bench [--quick] [--report] [--before DIR] [SUITE…]`."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench import bars, machine, native, report, results
from bench.suites import NAMES, Setting, suite

_REPOSITORY: Final = Path(__file__).resolve().parent.parent


def main() -> int:
    """Run the requested suites, and write the results."""
    options = _options()
    if os.geteuid() and not options.report:
        sys.stderr.write("bench: this makes network namespaces; run it as root\n")
        return 1
    # A quick run only shows that everything works; its figures are not kept.
    scratch = _REPOSITORY / "build/bench"
    kept = scratch if options.quick else _REPOSITORY / "bench/results"
    docs = scratch if options.quick else _REPOSITORY / "docs"
    if not options.report:
        with TemporaryDirectory(prefix="watcher-bench-") as base:
            setting = Setting(Path(base), options.quick, _say, options.before)
            _measure(options.suites or NAMES, setting, kept)
    found = results.read(kept)
    report.write(docs, found)
    print(bars.table(report.reached(found)).text())
    if options.quick:
        print("A quick run shows that everything works; its figures are too few to mean anything.")
    return 0


def _measure(names: tuple[str, ...], setting: Setting, kept: Path) -> None:
    os.umask(0o022)
    setting.base.chmod(0o755)
    native.compile_all(setting.base)
    described = machine.describe()
    for key, value in described.items():
        print(f"{key}: {value}")
    for name in names:
        begin = time.monotonic()
        print(f"\n=== {suite(name).TITLE}\n", flush=True)
        figures = suite(name).measure(setting)
        results.write(kept, name, described, figures)
        for table in suite(name).tables(figures):
            print(table.text())
        _say(f"{name} took {time.monotonic() - begin:.0f} s")


def _say(what: str) -> None:
    sys.stderr.write(f"bench: {what}\n")


def _checkout(word: str) -> Path:
    if not Path(word, "watcher").is_dir():
        raise argparse.ArgumentTypeError(f"{word}: there is no directory watcher in it")
    return Path(word).resolve()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure this program.")
    parser.add_argument(
        "--quick", action="store_true", help="a smoke test: few rounds, kept in build/bench only"
    )
    parser.add_argument(
        "--report", action="store_true", help="measure nothing; write what was measured before anew"
    )
    parser.add_argument(
        "--before", type=_checkout, metavar="DIR",
        help="another checkout of this program, to be measured in turn with this one",
    )  # fmt: skip
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(NAMES)}")
    options = parser.parse_args()
    unknown = [name for name in options.suites if name not in NAMES]
    if unknown:
        parser.error(f"no suite {unknown[0]}; there are {', '.join(NAMES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
