"""What each role of a run may use of the machines, as data (the one place that says so)."""

from typing import Any, Literal, Self, get_args

from pydantic import Field, model_validator

from pipelines.plan import Record

Role = Literal["library", "planner", "trainer", "renderer", "editor"]
"""Who does a step: builds and searches the clip library, plans, learns priors, renders scenes,
cuts the film."""


class Share(Record):
    """One pool: how many workers, and what each may use."""

    workers: int = Field(default=1, ge=1, le=4096)
    """At most so many at a time; they start when there is work."""
    cpus: float = Field(default=1.0, ge=0)
    """Ray CPUs a worker."""
    gpus: float = Field(default=0.0, ge=0)
    """Ray GPUs a worker. A renderer of two shares each scene out between them."""
    runs_on: Literal["cpu", "cuda"] | None = None
    """Where its models run; if left out, on CUDA where it has GPUs."""
    threads: int = Field(default=1, ge=1, le=256)
    """Threads of one computation. Part of what makes a film the same byte for byte."""
    idle_s: float = Field(default=1.0, ge=0)
    """A worker without work leaves after so long, and its memory with it."""
    attempts: int = Field(default=3, ge=1, le=10)
    """How often a step is tried when workers die under it."""

    @property
    def device(self) -> str:
        return self.runs_on or ("cuda" if self.gpus > 0 else "cpu")

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device of a worker; a worker of whole GPUs sees its own, from 0 on."""
        if self.device != "cuda":
            return (self.device,)
        return tuple(f"cuda:{i}" for i in range(max(1, int(self.gpus))))

    @property
    def ray_options(self) -> dict[str, Any]:
        """Options of the Ray actor. Two calls at a time: the step, and the word to stop it."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "max_concurrency": 2}


class Machine(Record):
    """The local Ray that a command starts for itself."""

    cpus: int = Field(default=2, ge=1, le=1024)
    gpus: int = Field(default=0, ge=0, le=64)
    object_store_mb: int = Field(default=128, ge=80)
    """Big things travel by the artifact store; this holds messages and blocks of the index."""


class Resources(Record):
    """The pools of one profile, and which pool does which role's steps.

    Roles that share a pool share its processes, and what those have loaded.
    """

    machine: Machine = Machine()
    pools: dict[str, Share]
    roles: dict[Role, str]
    """Name of the pool of each role."""

    @model_validator(mode="after")
    def _every_role_has_a_pool(self) -> Self:
        for role in get_args(Role):
            if self.roles.get(role) not in self.pools:
                raise ValueError(
                    f"role {role} is done by {self.roles.get(role)!r}, which is no pool; "
                    f"pools: {', '.join(self.pools)}"
                )
        return self

    def share(self, role: Role) -> Share:
        """What the pool of a role may use."""
        return self.pools[self.roles[role]]

    def apart(self, role: Role, **changes: Any) -> Self:
        """The same, where this role has a pool of its own: the one it has, or one like it with
        these changes."""
        pool = self.roles[role]
        if [name for name, other in self.roles.items() if other == pool] == [role]:
            return self
        own = role if role not in self.pools else f"{role} alone"
        share = self.pools[pool].model_copy(update=changes)
        update = {"pools": {**self.pools, own: share}, "roles": {**self.roles, role: own}}
        return self.model_copy(update=update)
