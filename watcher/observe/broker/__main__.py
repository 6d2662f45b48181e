"""Runs the broker: `python -m watcher.observe.broker [SECONDS]`.

It ends after SECONDS without a reader, by default five minutes.
"""

from __future__ import annotations

import sys

from watcher.observe.broker.serve import main

sys.exit(main(sys.argv[1:]))
