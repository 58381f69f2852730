"""The cluster as a Ray Serve application: doors, one director, and renderers that scale.

`build` binds plain classes; `dreamrunner serve` runs it on one machine, and a Serve config that
names ``serve.app:build`` on many. It imports no model's code: each replica imports what it uses.
"""

from typing import Any

from ray import serve
from ray.serve import Application

from cluster.locate import find_model
from serve.app_args import AppArgs
from serve.director import Director
from serve.gateway import Gateway
from serve.premises import Site
from serve.renderer import COMES_AND_GOES, Renderer

_LEAVES = {"graceful_shutdown_wait_loop_s": 0.2}
"""Between looks whether a replica that is to go still has requests."""
_STAYS = {**_LEAVES, "max_constructor_retry_count": 3}
"""If it cannot be started, the application is told to be broken."""
_WATCHED = {**_STAYS, "health_check_period_s": 2}
"""Those that nobody can do without: a dead one is missed soon."""


def build(args: AppArgs) -> Application:
    """The whole application. Raises `ProfileError` and `MissingError`."""
    site = Site(args)
    share = site.profile.resources.share("renderer")
    renderer = serve.deployment(
        Renderer,
        name="Renderer",
        ray_actor_options={"num_cpus": share.cpus, "num_gpus": share.gpus},
        max_ongoing_requests=1,
        autoscaling_config={
            "min_replicas": 0,
            "max_replicas": share.workers,
            "target_ongoing_requests": 1,
            "upscale_delay_s": 0.5,
            "downscale_delay_s": max(share.idle_s, 1.0),
            "metrics_interval_s": 0.5,
            "look_back_period_s": 2.0,
        },
        health_check_period_s=5,
        **COMES_AND_GOES,
        **_LEAVES,
    ).bind(share.model_dump(mode="json"), site.store_uri, args.work_dir)
    director = serve.deployment(
        Director,
        name="Director",
        num_replicas=1,
        ray_actor_options=_control(args),
        max_ongoing_requests=100,
        **_WATCHED,
    ).bind(args, renderer, _planner(site))
    gateway = serve.deployment(
        serve.ingress()(Gateway),
        name="Gateway",
        num_replicas=args.gateways,
        ray_actor_options=_control(args),
        max_ongoing_requests=args.max_ongoing,
        **_WATCHED,
    )
    return gateway.bind(args, director)


def _planner(site: Site) -> Application | None:
    """The desk and its model, where plans come from a vLLM of its own."""
    if site.args.planner != "vllm":
        return None
    from serve.planner import PlannerDesk, vllm_deployment  # slow to import

    share = site.profile.resources.share("planner")
    model = vllm_deployment(find_model("planner", site.profile, site.work), share)
    return serve.deployment(
        PlannerDesk,
        name="Planner",
        num_replicas=1,
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=share.workers,
        **_STAYS,
    ).bind(
        share.model_copy(update={"gpus": 0}).model_dump(mode="json"),
        site.store_uri,
        site.args.work_dir,
        model,
    )


def _control(args: AppArgs) -> dict[str, Any]:
    """Director and gateways compute nothing; they stay on the machines that stay."""
    place = {} if args.control is None else {"resources": {args.control: 0.001}}
    return {"num_cpus": 0, **place}
