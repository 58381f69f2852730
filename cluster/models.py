"""Keeps the one model that is too dear to load twice."""

from cluster.artifacts import Place
from pipelines.backbone import Backbone


class BackboneKeeper:
    """One backbone at a time, loaded when first asked for, with its twin on a second device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._loaded: tuple[tuple[str, bool], Backbone] | None = None
        self._twin: Backbone | None = None

    def load(self, place: Place, *, compiled: bool = False) -> Backbone:
        """The backbone of this content, its blocks compiled or as they are."""
        wanted = (place.content, compiled)
        if self._loaded is None or self._loaded[0] != wanted:
            self._loaded = self._twin = None  # make room before the next one comes in
            backbone = Backbone.load(place.path, self._device)
            if compiled:
                backbone.compile()
            self._loaded = wanted, backbone
        return self._loaded[1]

    def twin(self, device: str) -> Backbone:
        """The loaded one's twin on another device (`Backbone.twin`)."""
        assert self._loaded is not None, "a twin has an elder"
        if self._twin is None:
            self._twin = self._loaded[1].twin(device)
        return self._twin
