"""Deployment files: valid, tied to the code they start, and closed to strangers."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.artifacts import Place
from cluster.profiles import load_profile
from serve.app_args import AppArgs
from serve.commands.serving import RAY_ENVIRONMENT
from serve.config import serve_config
from serve.planner import QUESTIONS_AT_ONCE, vllm_config

ROOT = Path(__file__).parent.parent
KUBERAY = sorted((ROOT / "deploy" / "kuberay").glob("*.yaml"))


def read(path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / path).read_text())
    return content


def strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from strings(part)
    elif isinstance(value, str):
        yield value


def test_the_cluster_file_is_valid_for_ray_up():
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(read("ray_cluster.yaml"))
    validate_config(config)


def test_its_machines_come_and_go_and_only_gpu_machines_have_gpus():
    types = read("ray_cluster.yaml")["available_node_types"]
    assert {name: bool(kind["resources"].get("GPU")) for name, kind in types.items()} == {
        "head": False,
        "ingest": False,
        "gpu": True,
    }
    assert all(types[name]["min_workers"] == 0 for name in ("ingest", "gpu"))


def test_no_stranger_gets_in():
    config = read("ray_cluster.yaml")
    starts = config["head_start_ray_commands"] + config["worker_start_ray_commands"]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    head = next(line for line in starts if "--head" in line)
    assert "--dashboard-host=127.0.0.1" in head
    for path in KUBERAY:
        spec = yaml.safe_load(path.read_text())["spec"]
        cluster = spec.get("rayClusterConfig") or spec["rayClusterSpec"]
        assert cluster["authOptions"] == {"mode": "token"}
        assert "serviceType" not in cluster["headGroupSpec"], "inside the cluster alone"


def test_only_the_operator_reaches_the_dashboard_and_everybody_the_doors():
    policy = read("deploy/network-policy.yaml")["spec"]
    assert policy["podSelector"] == {"matchLabels": {"ray.io/is-ray-node": "yes"}}
    open_to: dict[int, list[str]] = {}
    for rule in policy["ingress"]:
        for port in rule.get("ports", []):
            open_to.setdefault(port["port"], []).append(json.dumps(rule.get("from", "everybody")))
    assert "kuberay-operator" in open_to[8265][0]
    assert "everybody" not in "".join(open_to[8265])
    assert [port for port, who in open_to.items() if '"everybody"' in who] == [8000]
    every_port = [rule["from"] for rule in policy["ingress"] if "ports" not in rule]
    assert every_port == [[{"podSelector": policy["podSelector"]}]]


def test_the_operator_finds_what_it_looks_for():
    """KubeRay takes the head's ports as its service's, by name, as soon as one is named, and asks
    the dashboard from another pod."""
    for path in KUBERAY:
        spec = yaml.safe_load(path.read_text())["spec"]
        cluster = spec.get("rayClusterConfig") or spec["rayClusterSpec"]
        head = cluster["headGroupSpec"]
        assert head["rayStartParams"]["dashboard-host"] == "0.0.0.0"
        ports = head["template"]["spec"]["containers"][0].get("ports", [])
        if ports:
            assert {port["name"] for port in ports} >= {"gcs-server", "dashboard", "serve"}


def test_there_is_never_a_second_director():
    assert read("deploy/kuberay/rayservice.yaml")["spec"]["upgradeStrategy"] == {"type": "None"}


def test_the_image_has_what_its_callers_call():
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    packages = text.partition("--no-install-recommends")[2].partition("&&")[0].split()
    assert {"wget", "rsync", "libgl1", "libglib2.0-0", "libxcb1"} <= set(packages)
    told = dict(re.findall(r"(\w+)=([\w.:]+)", text.partition("ENV ")[2].partition("EXPOSE")[0]))
    assert RAY_ENVIRONMENT.items() <= told.items(), "as `dreamrunner serve` tells its own Ray"


def test_no_secret_lies_in_a_file():
    for path in [ROOT / "ray_cluster.yaml", *KUBERAY]:
        for text in strings(yaml.safe_load(path.read_text())):
            for line in text.splitlines():
                if "postgresql" in line and "@" in line:
                    user = line.partition("//")[2].partition("@")[0]
                    assert ":" not in user, f"a password in {path.name}"


@pytest.mark.parametrize("path", KUBERAY, ids=lambda path: path.stem)
def test_kuberay_resources_have_the_shape_of_their_kind(path):
    resource = yaml.safe_load(path.read_text())
    spec = resource["spec"]
    assert resource["apiVersion"] == "ray.io/v1"
    clusters = {"RayService": "rayClusterConfig", "RayJob": "rayClusterSpec"}
    cluster = spec[clusters[resource["kind"]]]
    assert cluster["enableInTreeAutoscaling"] is True
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        pod = group["template"]["spec"]
        names = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert pod["securityContext"]["fsGroup"] == container["securityContext"]["runAsUser"]
            assert container["resources"]["limits"] == container["resources"]["requests"]
            assert container["securityContext"]["runAsNonRoot"] is True
            assert {mount["name"] for mount in container["volumeMounts"]} <= names
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] == 0 < group["maxReplicas"]


def test_the_services_config_is_what_the_command_prints():
    spec = read("deploy/kuberay/rayservice.yaml")["spec"]
    config = yaml.safe_load(spec["serveConfigV2"])
    args = AppArgs.model_validate(config["applications"][0]["args"])
    assert config == serve_config(args)
    head = spec["rayClusterConfig"]["headGroupSpec"]["rayStartParams"]["resources"]
    assert args.control in json.loads(json.loads(f'"{head[1:-1]}"'))


def test_ray_serve_accepts_the_config():
    from ray.serve.schema import ServeDeploySchema

    spec = read("deploy/kuberay/rayservice.yaml")["spec"]
    ServeDeploySchema.model_validate(yaml.safe_load(spec["serveConfigV2"]))


def test_the_clusters_profile_fits_its_machines():
    profile = load_profile(str(ROOT / "deploy" / "cluster.yaml"))
    types = read("ray_cluster.yaml")["available_node_types"]
    pools = profile.resources.pools
    for name in ("trainer", "renderer", "planner"):
        assert pools[name].gpus <= types["gpu"]["resources"]["GPU"]
        assert pools[name].cpus <= types["gpu"]["resources"]["CPU"]
    assert pools["helper"].cpus <= types["ingest"]["resources"]["CPU"]
    gpus = pools["trainer"].workers + pools["renderer"].workers
    gpus += math.ceil(pools["planner"].workers / QUESTIONS_AT_ONCE) * pools["planner"].gpus
    assert gpus <= types["gpu"]["max_workers"] * types["gpu"]["resources"]["GPU"], "none waits"


def test_the_clusters_models_are_where_every_machine_sees_them():
    profile = load_profile(str(ROOT / "deploy" / "cluster.yaml"))
    assert all(name.startswith("/shared/models/") for name in profile.models.model_dump().values())
    assert profile.corpus is not None
    job = read("deploy/kuberay/index-job.yaml")["spec"]["entrypoint"]
    assert f"--index {profile.corpus.library} " in job


def test_a_vllm_on_gpus_plans_for_the_cluster():
    config = yaml.safe_load(read("deploy/kuberay/rayservice.yaml")["spec"]["serveConfigV2"])
    assert config["applications"][0]["args"]["planner"] == "vllm"
    assert "--planner vllm" in (ROOT / "ray_cluster.yaml").read_text()
    profile = load_profile(str(ROOT / "deploy" / "cluster.yaml"))
    share = profile.resources.share("planner")
    config = vllm_config(Place(path=profile.models.planner, content="planner"), share)
    assert config.placement_group_config == {"bundles": [{"CPU": share.cpus, "GPU": 1}]}
