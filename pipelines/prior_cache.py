"""Latents and text embeddings on disk, by content: computed once, whatever training asks.

A clip that teaches two motions is encoded once, and a training that goes on after being killed
encodes nothing. A folder belongs to one model: whoever names it names it by the model's content. A
file is named by whatever else shapes its tensor, written aside and renamed: present means complete.
The folder is kept under a number of bytes; what was unused longest leaves.
"""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from pipelines.backbone import Backbone
from pipelines.tensor_file import load_tensors, save_tensors

CODE_VERSION = 1
"""Counts changes of what is computed from the same pixels and words."""
MAX_BYTES = 8 * 2**30
_TENSOR = "tensor"


class Encoder(Protocol):
    """The part of a `Backbone` that prepares what is trained on."""

    def encode_video(self, pixels: Tensor) -> Tensor:
        """Scaled latents fp32 (B, T, C, h, w) of pixels (B, 3, F, H, W) in [-1, 1]."""

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(n, L, D) in the transformer's dtype."""


class CachedEncoder:
    """A backbone's encoders that remember in a folder of that model's own.

    Several processes may share it. Every text and video is encoded by itself, so that no neighbour
    changes its rounding.
    """

    def __init__(self, backbone: Backbone, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.backbone, self.folder, self.max_bytes = backbone, folder, max_bytes

    def encode_video(self, pixels: Tensor) -> Tensor:
        """As `Backbone.encode_video`, of one video."""
        content = hashlib.sha256(pixels.contiguous().numpy().data)
        words = ("video", str(tuple(pixels.shape)), str(pixels.dtype), content.hexdigest())
        return self._kept(words, lambda: self.backbone.encode_video(pixels))

    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """As `Backbone.encode_text`."""
        return torch.cat([self._text(text) for text in texts])

    def _text(self, text: str) -> Tensor:
        return self._kept(("text", text), lambda: self.backbone.encode_text([text]))

    def _kept(self, words: tuple[str, ...], encode: Callable[[], Tensor]) -> Tensor:
        path = self.folder / f"{self._key(words)}.safetensors"
        if path.exists():
            try:
                tensors, _ = load_tensors(path)
            except ValueError:
                # Another process made room, or the disk failed: as if it had never been there.
                path.unlink(missing_ok=True)
            else:
                _used(path)
                return tensors[_TENSOR].to(self.backbone.device)
        encoded = encode()
        self.folder.mkdir(parents=True, exist_ok=True)
        save_tensors(path, {_TENSOR: encoded}, {})
        _used(path)
        self._make_room()
        return encoded

    def _key(self, words: tuple[str, ...]) -> str:
        """The kind of device counts: another rounds otherwise."""
        backbone = self.backbone
        where = (str(backbone.dtype), backbone.device.type, torch.__version__)
        return hashlib.sha256(repr((CODE_VERSION, *where, *words)).encode()).hexdigest()

    def _make_room(self) -> None:
        found = []
        for path in self.folder.glob("*.safetensors*"):  # also what killed writers left aside
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            found.append((status.st_mtime_ns, status.st_size, path))
        excess = sum(size for _, size, _ in found) - self.max_bytes
        for _, size, path in sorted(found):
            if excess <= 0:
                return
            path.unlink(missing_ok=True)
            excess -= size


def _used(path: Path) -> None:
    """Mark it as used now, by a finer clock than the file system's own."""
    now = time.time_ns()
    with suppress(FileNotFoundError):
        os.utime(path, ns=(now, now))
