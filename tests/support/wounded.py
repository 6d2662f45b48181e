"""`watcher` with a thread that ends by itself: at each SIGUSR1 the one named by WOUNDED is told to.

The thread ends where it next does anything, by SystemExit, as it would by an error that nobody has
thought of. All else is the program as it is.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading

from watcher.cli import main


def _wound(*_: object) -> None:
    for thread in threading.enumerate():
        if thread.name == os.environ["WOUNDED"]:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
            )


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _wound)
    main()
