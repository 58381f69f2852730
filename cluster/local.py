"""A Ray of our own on this machine: started when a step needs it, stopped with the command.

It is quiet, has no dashboard, and answers nobody without this run's token: some of Ray's processes
bind to every interface whatever they are told. What asks for no token (its metrics) listens on
loopback alone, and nobody else looks into its folder. All its processes carry the work folder's
mark in their environment, so that what a killed command left behind can be found and ended. Where
the environment names a Ray (``RAY_ADDRESS``, as inside a Ray job), that one is used, and left as it
is.
"""

import hashlib
import os
import shutil
import signal
import tempfile
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from cluster.resources import Machine
from cluster.steps import first_line
from cluster.workdir import WorkDir
from retrieval_index.own_ray import guarded

ADDRESS = "RAY_ADDRESS"
MARK = "DREAMRUNNER_WORK_DIR"
_GRACE_S = 3.0
_START_TRIES = 3
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_agent_register_timeout_ms": "120000",
    "RAY_gcs_server_port_wait_time_s": "120",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
}


_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's word, on any system, for a machine of its own: it takes loopback for its address."""


class RayStartError(RuntimeError):
    """Ray could not be started here."""


class LocalRay:
    """The Ray of one work folder; `start` and `stop` are a pair, and either may be repeated.

    What an earlier command left is the caller's to end first (`end_leftovers`).
    """

    def __init__(self, work: WorkDir, machine: Machine) -> None:
        """Raises `RayStartError` where Ray was imported before: it reads this environment once a
        process, and its token stays the same from one start to the next. A Ray that
        ``RAY_ADDRESS`` names keeps its own way of authenticating."""
        self._work = work
        self._machine = machine
        self._ray: Any = None
        if ADDRESS not in os.environ:
            if not guarded():
                raise RayStartError("Ray was imported here before it was told to ask for a token")
            os.environ.update(_ALONE)
        os.environ.update({**_ENVIRONMENT, MARK: str(work.root.resolve())})

    def start(self) -> ModuleType:
        """Start it unless it runs, and give the ``ray`` module, connected.

        Call it from a thread that outlives it: the kernel ends Ray with the thread that made it.
        """
        if self._ray is None:
            self._ray = self._connect()
        module: ModuleType = self._ray
        return module

    def _connect(self) -> ModuleType:
        """Start Ray, again if it fails: a busy machine may miss one of its time limits."""
        import ray  # slow to import, and most commands end without it

        module: ModuleType = ray
        if ADDRESS in os.environ:
            ray.init(address=os.environ[ADDRESS], logging_level="CRITICAL", log_to_driver=False)
            return module
        for attempt in range(_START_TRIES):
            try:
                self._init(ray)
                break
            except SystemExit as error:  # Ray's way with a SIGTERM that comes meanwhile
                raise KeyboardInterrupt from error
            except Exception as error:
                ray.shutdown()
                end_leftovers(self._work)
                if attempt + 1 == _START_TRIES:
                    told = f"Ray does not start on this machine: {first_line(error)}"
                    raise RayStartError(told) from error
        heed_sigterm()  # Ray's own handler ends the process with the signal's number
        return module

    def _init(self, ray: Any) -> None:
        folder = _session_folder(self._work)
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o700)  # not if somebody else has made it
        ray.init(
            address="local",
            num_cpus=self._machine.cpus,
            num_gpus=self._machine.gpus,
            include_dashboard=False,
            object_store_memory=self._machine.object_store_mb << 20,
            logging_level="CRITICAL",
            log_to_driver=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(folder / "ray"),  # which Ray opens to everybody
        )

    def stop(self) -> None:
        """Stop it and everything it started."""
        if self._ray is not None:
            self._ray.shutdown()
            self._ray = None
            end_leftovers(self._work)


def heed_sigterm() -> None:
    """From now on take a SIGTERM for a Ctrl-C: who is told to stop says that it did."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))


def leftovers(work: WorkDir) -> list[psutil.Process]:
    """Processes of this user that carry the work folder's mark, this one excepted."""
    mark = str(work.root.resolve())
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                found.append(process)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def end_leftovers(work: WorkDir) -> int:
    """End what an earlier command left running in this work folder, and say how many there were.

    Only the holder of the folder's lock may call it.
    """
    processes = leftovers(work)
    for process in processes:
        _quietly(process.kill)
    psutil.wait_procs(processes, timeout=_GRACE_S)
    shutil.rmtree(_session_folder(work), ignore_errors=True)
    return len(processes)


def _quietly(end: Any) -> None:
    try:
        end()
    except psutil.NoSuchProcess:
        return


def _session_folder(work: WorkDir) -> Path:
    """Ray's folder for sockets: short, because a socket's path may have 107 bytes only."""
    name = hashlib.sha256(str(work.root.resolve()).encode()).hexdigest()[:10]
    return Path(tempfile.gettempdir()) / f"dreamrunner-{os.getuid()}-{name}"
