"""Names of the files inside artifacts, and the small ones read as the nouns they are."""

from cluster.artifacts import Artifact, Store
from pipelines.plan import StoryPlan
from retrieval_index.records import SearchResult

PLAN = "plan.json"
CLIPS = "clips.json"
ADAPTER, PRIOR_REPORT = "adapter.safetensors", "prior.json"
SCENE = "scene.mp4"
FILM, SHEET, RECORD_OF_FILM = "film.mp4", "film.png", "film.json"


class Reader:
    """Reads plans and search results."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def read_plan(self, artifact: Artifact) -> StoryPlan:
        """Raises `FileNotFoundError`."""
        return StoryPlan.model_validate_json((self.store.folder(artifact) / PLAN).read_bytes())

    def read_clips(self, artifact: Artifact) -> SearchResult:
        """Raises `FileNotFoundError`."""
        return SearchResult.model_validate_json((self.store.folder(artifact) / CLIPS).read_bytes())
