"""Tensors and a few words in one safetensors file: the same content gives the same bytes.

safetensors writes several metadata entries in a random order; here they are sorted. A file is
written aside and renamed when the disk has it, so it is whole or absent, also after a power cut. No
pickle anywhere.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from pipelines.whole_file import whole


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file; its folder must exist."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = save(plain, metadata=dict(metadata))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with whole(path) as aside, aside.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.write(data[end:])


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a file. Raises `ValueError` unless it is whole safetensors."""
    try:
        with safe_open(path, framework="pt") as file:
            names = list(file.keys())
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except (SafetensorError, FileNotFoundError) as error:
        raise ValueError(f"{path} cannot be read as safetensors: {error}") from error
