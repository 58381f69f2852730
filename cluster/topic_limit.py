"""How long a topic may be at most, told by the planner's folder; no model is loaded.

Only what cannot fit is known here. A topic that leaves little room for an answer is the planner's
to refuse.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster.locate import model_folder
from cluster.profiles import Profile


@dataclass(frozen=True)
class TopicLimit:
    """What a planner takes."""

    folder: Path
    num_tokens: int

    @classmethod
    def of(cls, profile: Profile) -> "TopicLimit":
        """As good as none where it is not known: of a planner behind a URL or not on this machine,
        and of one whose positions are stretched, for engines differ in what they make of that."""
        folder = model_folder(profile.models.planner)
        files = folder is not None and all(map(Path.is_file, _files(folder)))
        if folder is None or not files or profile.engine.startswith("http"):
            return NO_LIMIT
        return cls(folder, _positions(folder))

    def fault(self, topic: str) -> str | None:
        """What is wrong with a topic that fills the model alone; None for any other."""
        if len(topic.encode()) < self.num_tokens:
            return None  # no token is shorter than a byte
        from tokenizers import Tokenizer  # late: few topics are so long

        tokenizer = Tokenizer.from_file(str(_files(self.folder)[0]))
        num_tokens = len(tokenizer.encode(topic, add_special_tokens=False).ids)
        if num_tokens < self.num_tokens:
            return None
        return f"has {num_tokens} tokens, and the planner takes {self.num_tokens} in all"


NO_LIMIT = TopicLimit(Path(), sys.maxsize)


def _files(folder: Path) -> tuple[Path, Path]:
    return folder / "tokenizer.json", folder / "config.json"


def _positions(folder: Path) -> int:
    config = json.loads(_files(folder)[1].read_text(encoding="utf-8"))
    text = config.get("text_config", config)
    stretched = "factor" in (text.get("rope_parameters") or text.get("rope_scaling") or {})
    return sys.maxsize if stretched else int(text.get("max_position_embeddings", sys.maxsize))
