"""One command at a time in a work folder."""

import os
import signal
import subprocess
import sys

import pytest

from cluster.workdir import BusyError, WorkDir

HOLDER = """
import sys, time
from pathlib import Path
from cluster.workdir import WorkDir
with WorkDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_command_is_told_who_is_at_work(tmp_path):
    work = WorkDir(tmp_path / "work")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(work.root)], stdout=-1)
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(BusyError, match=str(holder.pid)), work.locked():
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with work.locked():
        pass


def test_the_lock_is_given_back(tmp_path):
    work = WorkDir(tmp_path)
    for _ in range(2):
        with work.locked():
            pass
