"""The places and numbers that an application's parts share."""

from pathlib import Path

from cluster.artifacts import open_store
from cluster.ledger import Ledger
from cluster.profiles import Profile, load_profile
from cluster.workdir import WorkDir
from serve.app_args import AppArgs
from serve.backstage import Backstage

_PLANS_AT_ONCE = 8
"""Where a profile does not say."""


class Site:
    """An application's arguments, looked up. Raises `ProfileError`."""

    def __init__(self, args: AppArgs) -> None:
        self.args = args
        profile = load_profile(args.profile)
        self.profile = _with_vllm(profile) if args.planner == "vllm" else profile
        self.work = WorkDir(Path(args.work_dir))
        self.work.root.mkdir(parents=True, exist_ok=True)
        self.store_uri = args.artifacts or str(self.work.artifacts)
        self.store = open_store(self.store_uri, self.work.scratch)
        self.backstage = Backstage.of(self.profile, self.work, self.store)

    def open_ledger(self) -> Ledger:
        """A connection to what was accepted."""
        return Ledger(self.args.ledger or f"sqlite:///{self.work.root.resolve() / 'ledger.sqlite'}")

    @property
    def flows(self) -> str:
        """URL of the durable flows' database."""
        return self.args.flows or f"sqlite:///{self.work.flows.resolve()}"


def _with_vllm(profile: Profile) -> Profile:
    """The profile with a planner that is served: replicas, where a pool may be actors."""
    resources = profile.resources.apart("planner", workers=_PLANS_AT_ONCE)
    return profile.model_copy(update={"engine": "vllm", "resources": resources})
