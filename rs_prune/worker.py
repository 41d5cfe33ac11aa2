"""Worker processes of a parallel sweep end with the command that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from functools import cache

EVERY_S = 1.0


@cache  # once a process
def end_with_parent() -> None:
    """In a worker, starts a thread that ends the process when its parent is gone.

    A killed command cannot tell its workers; left alone they would keep their memory and finish runs that the next
    command is waiting for.
    """
    if multiprocessing.current_process().name == "MainProcess":
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(EVERY_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
