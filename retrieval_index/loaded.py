"""A snapshot, and what has been loaded from it so far."""

from functools import cached_property

from retrieval_index.catalogue import Catalogue, MemoryCatalogue, TableCatalogue
from retrieval_index.lexical import LanceText, Lexical, MemoryText
from retrieval_index.options import SearchOptions
from retrieval_index.snapshot import Snapshot


class Loaded:
    """What `retrieval_index.answer` asks; threads may share one."""

    def __init__(self, snapshot: Snapshot, *, warm: bool = False) -> None:
        self.snapshot = snapshot
        self.warm = warm
        self.catalogue: Catalogue = (MemoryCatalogue if warm else TableCatalogue)(snapshot)
        """The facts in memory if warm, else the tables."""

    def prepare(self, options: SearchOptions) -> None:
        """Load now what these options need, so that threads do not each load it."""
        self.lexical(options)

    def lexical(self, options: SearchOptions) -> Lexical:
        """The BM25 engine of these options."""
        return LanceText(self.snapshot) if options.lexical == "lance" else self._memory_text

    @cached_property
    def viclip_preprocessing(self) -> str:
        """How ViCLIP saw the frames; empty where there is no segment."""
        return self.snapshot.viclip_preprocessing()

    @cached_property
    def _memory_text(self) -> MemoryText:
        return MemoryText.of(self.snapshot)
