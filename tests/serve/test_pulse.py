"""A server without its Ray ends; that it is then taken up again is with the whole server."""

import os
import subprocess
import sys
import threading
import time

from cluster.local import MARK, leftovers
from cluster.workdir import WorkDir

SERVER = """
import pathlib, sys, threading, time
from cluster.workdir import WorkDir
from serve.pulse import Pulse
told = threading.Event()
pulse = Pulse.of(WorkDir(pathlib.Path(sys.argv[1])), told)
if sys.argv[2] == "closed":
    pulse.close()
if sys.argv[2] == "told":
    told.set()
print("felt", flush=True)
time.sleep(float(sys.argv[3]))
print("alive", flush=True)
"""


def spawn(folder, name: str) -> subprocess.Popen[bytes]:
    """A process of this name with the folder's mark."""
    (folder / name).symlink_to("/bin/sleep")
    environment = {**os.environ, MARK: str(folder.resolve())}
    process = subprocess.Popen([folder / name, "600"], env=environment)
    threading.Thread(target=process.wait, daemon=True).start()  # or it stays, as a zombie
    return process


def serve(folder, how: str, seconds: float) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder), how, str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "felt\n"
    return process


def test_a_server_ends_with_its_ray_and_leaves_nothing(tmp_path):
    raylet, worker = spawn(tmp_path, "raylet"), spawn(tmp_path, "worker")
    server = serve(tmp_path, "open", 60)
    raylet.kill()
    out, err = server.communicate(timeout=60)
    assert (server.returncode, out) == (1, "")
    assert err.startswith("dreamrunner: Ray's raylet died")
    assert worker.wait(60) == -9
    assert not leftovers(WorkDir(tmp_path))


def test_a_worker_may_die_and_ray_may_go_when_the_server_does(tmp_path):
    raylet, worker = spawn(tmp_path, "raylet"), spawn(tmp_path, "worker")
    lives, closed = serve(tmp_path, "open", 60), serve(tmp_path, "closed", 3)
    worker.kill()
    time.sleep(1.5)
    assert lives.poll() is None
    raylet.kill()
    assert closed.communicate(timeout=60)[0] == "alive\n"
    assert lives.wait(60) == 1


def test_a_server_whose_ray_is_told_to_stop_with_it_stops(tmp_path):
    raylet, worker = spawn(tmp_path, "raylet"), spawn(tmp_path, "worker")
    server = serve(tmp_path, "told", 60)
    raylet.terminate()
    assert server.communicate(timeout=60) == ("", "")
    assert server.returncode == 0
    assert worker.wait(60) == -9
