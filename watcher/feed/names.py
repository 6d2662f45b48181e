"""The names of the sockets in `run_dir`."""

from typing import Final

EVENTS: Final = "events.sock"
"""Who connects there gets the lines of :mod:`.lines`."""

TOLD: Final = "told.sock"
"""There the commands that change something tell the service what has happened."""

GROUP: Final = "watcher"
"""The members of this group may read the events, beside root."""
