"""A cluster of pretended machines on this one, under Ray's own autoscaler.

Its machine types are those of ``ray_cluster.yaml``; only the provider is pretended. A machine is a
raylet of its own, and the autoscaler starts and ends them as work demands.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import yaml

from cluster.local import MARK, leftovers
from cluster.workdir import WorkDir
from tests.cluster.processes import title

CLUSTER_FILE = Path(__file__).parents[2] / "ray_cluster.yaml"
HEAD_TYPE = "ray.head.default"
_LISTS = (
    "cluster_synced_files",
    "rsync_exclude",
    "rsync_filter",
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


def pretended(port: int, idle_s: float, max_gpus: int) -> dict[str, Any]:
    """The cluster file with a pretended provider, few machines, and small ones."""
    real = yaml.safe_load(CLUSTER_FILE.read_text())
    types = real["available_node_types"]
    head = types.pop(real["head_node_type"])
    types[HEAD_TYPE] = {**head, "node_config": {}}
    for kind in types.values():
        kind["node_config"] = {}
    types["gpu"]["max_workers"] = max_gpus
    return {
        "cluster_name": "pretended",
        "max_workers": max_gpus + 2,
        "idle_timeout_minutes": idle_s / 60,
        "upscaling_speed": real["upscaling_speed"],
        "provider": {
            "type": "fake_multinode",
            "gcs_address": f"127.0.0.1:{port}",
            "use_node_id_as_ip": True,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": types,
        "head_node_type": HEAD_TYPE,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in _LISTS},
    }


class FakeCluster:
    """Start it, give its `environment` to who should use it, stop it."""

    def __init__(self, folder: Path, port: int, *, idle_s: float = 8, max_gpus: int = 2) -> None:
        self._work = WorkDir(folder)
        self._config = pretended(port, idle_s, max_gpus)
        self._port = port
        self.environment = {
            **os.environ,
            "RAY_ADDRESS": f"127.0.0.1:{port}",
            "RAY_FAKE_CLUSTER": "1",
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_TMPDIR": str(folder),
        }

    def start(self) -> None:
        """The head alone; there is no other machine until somebody needs one."""
        file = self._work.root / "cluster.json"
        file.write_text(json.dumps(self._config))
        resources = self._config["available_node_types"][HEAD_TYPE]["resources"]
        control = json.dumps({"control": resources["control"]})
        environment = {**self.environment, MARK: str(self._work.root.resolve())}
        del environment["RAY_ADDRESS"]
        subprocess.run(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head"),
                *(f"--port={self._port}", "--node-ip-address=127.0.0.1"),
                *(f"--autoscaling-config={file}", f"--num-cpus={resources['CPU']}"),
                *("--num-gpus=0", f"--resources={control}", "--include-dashboard=false"),
                *("--object-store-memory=100000000", "--disable-usage-stats"),
            ],
            env=environment,
            check=True,
            capture_output=True,
            timeout=120,
        )

    def machines(self) -> list[psutil.Process]:
        """The raylets of pretended machines, the head's excepted."""
        titles = {process: title(process) for process in leftovers(self._work)}
        return [
            p for p, words in titles.items() if "raylet/raylet" in words and "--head" not in words
        ]

    def stop(self) -> None:
        """End all of it."""
        for _ in range(3):
            for process in leftovers(self._work):
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
