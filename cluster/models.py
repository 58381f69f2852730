"""Keeps the one model that is too dear to load twice."""

from cluster.artifacts import Place
from pipelines.backbone import Backbone


class BackboneKeeper:
    """One backbone at a time, loaded when first asked for."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: tuple[str, Backbone] | None = None

    def load(self, place: Place) -> Backbone:
        """The backbone of this content."""
        if self._loaded is None or self._loaded[0] != place.content:
            self._loaded = None  # make room before the next one comes in
            self._loaded = place.content, Backbone.load(place.path, self._device)
        return self._loaded[1]
