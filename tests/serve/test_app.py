"""The application as it is bound, without a Ray."""

from collections.abc import Iterator
from typing import Any

from ray.serve import Application

from serve.app import build
from serve.app_args import AppArgs


def deployments(application: Application) -> Iterator[Any]:
    """All of an application's."""
    deployment = application._bound_deployment
    yield deployment
    for part in deployment.init_args:
        if isinstance(part, Application):
            yield from deployments(part)


def test_a_broken_application_is_told_soon_and_who_comes_and_goes_is_never_given_up(tmp_path):
    tries = {
        deployment.name: deployment._deployment_config.max_constructor_retry_count
        for deployment in deployments(build(AppArgs(work_dir=str(tmp_path))))
    }
    assert tries == {"Gateway": 3, "Director": 3, "Renderer": 1_000_000}
