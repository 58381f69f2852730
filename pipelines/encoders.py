"""What pictures and sentences look like to CLIP and to DINOv2: unit vectors to compare.

CLIP comes through open_clip (a folder in its own layout, or a hub or model name), DINOv2 through
transformers. Neither is trained here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional

from pipelines.video import Frames

Vectors = NDArray[np.float32]

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_MAX_TOLD = 200
"""Characters of another library's message."""


def uniform_indices(num_frames: int, count: int) -> NDArray[np.int64]:
    """The middles of `count` equal parts of `num_frames`; repeats when there are fewer frames.

    Raises:
        ValueError: there is no frame to take.
    """
    if num_frames < 1 or count < 1:
        raise ValueError(f"cannot take {count} frames out of {num_frames}")
    return ((np.arange(count) + 0.5) * num_frames / count).astype(np.int64)


class ClipEncoder:
    """Images and texts to one space of unit vectors; a score is a dot product."""

    def __init__(
        self, model: Any, transform: Any, tokenizer: Any, model_id: str, device: str
    ) -> None:
        self._model = model.to(device).eval().requires_grad_(False)
        self._transform = transform
        self._tokenizer = tokenizer
        self._device = device
        self.model_id = model_id

    @property
    def preprocessing(self) -> str:
        """How pictures are made ready, as open_clip's settings of the model say."""
        settings = self._model.visual.preprocess_cfg
        size, mode = settings["size"], settings["resize_mode"]
        return f"{mode} to {size} px, {settings['interpolation']}; {_scaling(settings)}"

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu") -> "ClipEncoder":
        """Load a folder of `open_clip_config.json` and weights, or a name open_clip knows.

        Names are ``hf-hub:OWNER/MODEL`` or ``MODEL:WEIGHTS`` ("ViT-L-14:openai").

        Raises:
            ValueError: a folder without safetensors weights (pickled ones are never loaded), or a
                name that open_clip does not know or cannot fetch now.
        """
        folder = Path(name)
        if not folder.is_dir():
            return cls(*_open_clip_by_name(str(name)), f"clip:{name}", device)
        if not any(folder.glob("open_clip*.safetensors")):
            raise ValueError(f"{folder} holds no open_clip safetensors weights")
        spec = f"local-dir:{folder}"
        model, transform = open_clip.create_model_from_pretrained(spec)
        return cls(model, transform, open_clip.get_tokenizer(spec), f"clip:{folder.name}", device)

    @torch.inference_mode()
    def embed_images(self, images: Frames | Sequence[Frames], batch_size: int = 64) -> Vectors:
        """uint8 (N, H, W, 3), or N pictures of any size, to unit float32 (N, D)."""
        batches = []
        for start in range(0, len(images), batch_size):
            pictures = [Image.fromarray(image) for image in images[start : start + batch_size]]
            pixels = torch.stack([self._transform(picture) for picture in pictures])
            batches.append(_unit(self._model.encode_image(pixels.to(self._device))))
        return np.concatenate(batches) if batches else np.zeros((0, 0), np.float32)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Vectors:
        """Texts to unit float32 (N, D)."""
        tokens = self._tokenizer(list(texts)).to(self._device)
        return _unit(self._model.encode_text(tokens))


def _open_clip_by_name(name: str) -> tuple[Any, Any, Any]:
    hub = name.startswith("hf-hub:")
    spec, _, weights = (name, "", "") if hub else name.partition(":")
    try:
        model, transform = open_clip.create_model_from_pretrained(spec, pretrained=weights or None)
        return model, transform, open_clip.get_tokenizer(spec)
    except (RuntimeError, OSError) as error:
        raise ValueError(
            f"CLIP model {name!r} is no folder here, and open_clip cannot load it by name: "
            f"{' '.join(str(error).split())[:_MAX_TOLD]} ... Where there is no network, name a "
            "folder of open_clip_config.json and open_clip_model.safetensors"
        ) from error


class DinoEncoder:
    """Images to DINOv2's unit vectors: alike means the same subject."""

    def __init__(self, model: Any, processor: Any, model_id: str, device: str) -> None:
        self._model = model.to(device).eval().requires_grad_(False)
        self._processor = processor
        self._device = device
        self.model_id = model_id

    @property
    def preprocessing(self) -> str:
        """How pictures are made ready, as the settings of the image processor say."""
        settings = self._processor.to_dict()
        crop = (
            f", centre crop {_sides(settings['crop_size'])}" if settings["do_center_crop"] else ""
        )
        scaling = _scaling({"mean": settings["image_mean"], "std": settings["image_std"]})
        way = Image.Resampling(settings["resample"]).name.lower()
        return f"resize to {_sides(settings['size'])}, {way}{crop}; {scaling}"

    @classmethod
    def load(cls, name: str | Path, device: str = "cpu") -> "DinoEncoder":
        """Load a transformers DINOv2 with its image processor, by folder or hub name."""
        from transformers import AutoImageProcessor, Dinov2Model

        model = Dinov2Model.from_pretrained(name, use_safetensors=True, dtype=torch.float32)
        processor = AutoImageProcessor.from_pretrained(name)
        return cls(model, processor, f"dino:{Path(name).name}", device)

    @torch.inference_mode()
    def embed_images(self, images: Frames | Sequence[Frames], batch_size: int = 64) -> Vectors:
        """uint8 (N, H, W, 3), or N pictures of any size, to unit float32 (N, D)."""
        batches = []
        for start in range(0, len(images), batch_size):
            pictures = list(images[start : start + batch_size])
            pixels = self._processor(images=pictures, return_tensors="pt")["pixel_values"]
            batches.append(_unit(self._model(pixels.to(self._device)).pooler_output))
        return np.concatenate(batches) if batches else np.zeros((0, 0), np.float32)


def _unit(vectors: torch.Tensor) -> Vectors:
    out: Vectors = functional.normalize(vectors.float(), dim=-1).cpu().numpy()
    return out


def _sides(size: Mapping[str, int]) -> str:
    """``{"height": 72, "width": 72}`` in words."""
    return " ".join(f"{name.replace('_', ' ')} {px} px" for name, px in size.items())


def _scaling(settings: Mapping[str, Any]) -> str:
    mean, std = ([round(value, 3) for value in settings[name]] for name in ("mean", "std"))
    return f"mean {mean}, deviation {std}"
