"""The doors as a deployment. It imports no model's code: a lost replica is soon replaced."""

from typing import Any

from cluster.locate import find_model, video_shape
from serve.app_args import AppArgs
from serve.doors.app import make_doors
from serve.doors.options import DoorOptions
from serve.logs import log_to_serve
from serve.premises import Site


class Gateway:
    """One replica of the doors."""

    def __init__(self, args: AppArgs, director: Any) -> None:
        log_to_serve()
        self._director = director  # so that there is one; they meet in the ledger
        self._site = Site(args)
        self._ledger = self._site.open_ledger()

    def __serve_build_asgi_app__(self) -> Any:
        options = door_options(self._site)
        return make_doors(self._ledger, self._site.backstage, options)


def door_options(site: Site) -> DoorOptions:
    """What the doors say of a profile."""
    profile, args = site.profile, site.args
    shape = video_shape(find_model("backbone", profile, site.work))
    return DoorOptions(
        auth=args.auth,
        names_requests=False,
        hosts=("localhost", "127.0.0.1", "::1", *args.hosts),
        model=profile.name,
        size=f"{shape.width_px}x{shape.height_px}",
        scene_s=shape.num_frames / profile.fps,
        defaults=profile.defaults,
        travelling=profile.planner_words("travelling"),
    )
