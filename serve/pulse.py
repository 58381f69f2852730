"""Whether the Ray of this machine still lives.

Ray replaces a worker that dies, but nobody replaces Ray's own processes, and what they leave behind
accepts stories that nobody films. A server without them therefore ends at once, and whoever started
it starts it again: all that was accepted goes on then. Where the word to stop went to Ray too, as a
service manager says it to all processes of a server, that is how it stops.
"""

import os
import sys
import threading
from typing import Self

import psutil

from cluster.local import end_leftovers, leftovers
from cluster.workdir import WorkDir
from serve.ending import FAILED

LOOK_S = 1.0
HEARS_S = 0.5
"""How much later than Ray this process may come to hear that it is to stop."""
_VITAL = ("gcs_server", "raylet")


class Pulse(threading.Thread):
    """Ends this process when the Ray that runs in a work folder dies; one elsewhere is nobody's
    here. A thread, as whatever waits for a dead Ray waits for ever."""

    def __init__(self, work: WorkDir, told: threading.Event) -> None:
        super().__init__(daemon=True)
        self._work, self._told, self._over = work, told, threading.Event()
        self._vital = {p.name(): p for p in leftovers(work) if p.name() in _VITAL}

    @classmethod
    def of(cls, work: WorkDir, told: threading.Event) -> Self:
        """Felt from now on; ``told`` is set when the server is to stop."""
        pulse = cls(work, told)
        pulse.start()
        return pulse

    def run(self) -> None:
        while not self._over.wait(LOOK_S):
            for name, process in self._vital.items():
                if not is_alive(process):
                    self._end(name)

    def close(self) -> None:
        """Ray may go from now on."""
        self._over.set()

    def _end(self, name: str) -> None:
        is_stopped = self._told.wait(HEARS_S)
        if not is_stopped:
            sys.stderr.write(
                f"dreamrunner: Ray's {name} died, and this server ends with it; start it again, "
                "and what was accepted goes on\n"
            )
            sys.stderr.flush()
        end_leftovers(self._work)
        os._exit(0 if is_stopped else FAILED)


def is_alive(process: psutil.Process) -> bool:
    """Whether it runs, as it was when it was found."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
