"""The Ray of a work folder starts whatever was imported before it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster.local import LocalRay
from cluster.resources import Machine
from cluster.workdir import WorkDir

_PROGRAM = """
import sys
from pathlib import Path
from cluster.local import LocalRay, _session_folder
from cluster.resources import Machine
from cluster.workdir import WorkDir

local = LocalRay(WorkDir(Path(sys.argv[1])), Machine())
import ray  # as a step does that looks up Ray's exceptions while another step starts it
assert local.start().cluster_resources()["CPU"] == 2
assert ray.nodes()[0]["NodeManagerAddress"] == "127.0.0.1"
assert _session_folder(WorkDir(Path(sys.argv[1]))).stat().st_mode & 0o077 == 0
local.stop()
"""


@pytest.mark.slow
def test_it_starts_though_ray_was_imported_before(tmp_path: Path) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(tmp_path)],
        env=bare,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_named_ray_keeps_its_own_way_of_authenticating(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ | {"RAY_ADDRESS": "127.0.0.1:6379"})
    monkeypatch.delenv("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", raising=False)
    LocalRay(WorkDir(tmp_path), Machine())
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in os.environ
    assert "RAY_AUTH_MODE" not in os.environ
    assert "RAY_AUTH_TOKEN" not in os.environ
