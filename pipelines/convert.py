"""Turn official checkpoints, which are pickles, into the folders that this project loads.

    python -m pipelines.convert viclip ViClip-InternVid-10M-FLT.pth models/viclip-l-14
    python -m pipelines.convert detector yolov5su.pt models/yolov5

From a pickle it takes tensors and network layers; a file that asks for anything else is refused
before any of it is loaded.
"""

import argparse
import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn

from pipelines.detector import Detector
from pipelines.viclip import Preprocessing, ViClipConfig, fitting_weights

_LAYERS = ("torch.nn.modules.", "ultralytics.nn.")
_PLAIN = ("ultralytics.utils.IterableSimpleNamespace",)
"""What else ultralytics saves beside its layers: settings."""
_PATCHES = "vision_encoder.conv1.weight"


def convert_viclip(source: Path, folder: Path, preprocessing: Preprocessing = "imagenet") -> None:
    """Write the folder of an official ViCLIP, L/14 or B/16, which its shapes tell apart.

    Raises `ValueError` if the file is something else.
    """
    loaded = read_pickle(source)
    weights = cast(dict[str, Tensor], loaded.get("model", loaded))
    config = dataclasses.replace(_viclip_of(weights, source), preprocessing=preprocessing)
    plain = fitting_weights(weights, config, str(source))
    folder.mkdir(parents=True)
    save_file(
        {key: value.contiguous() for key, value in plain.items()}, folder / "viclip.safetensors"
    )
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(config), indent=1))


def _viclip_of(weights: dict[str, Tensor], source: Path) -> ViClipConfig:
    patches = weights.get(_PATCHES, weights.get(f"model.{_PATCHES}"))
    for config in (ViClipConfig.large(), ViClipConfig.base()):
        shape = (config.vision_width, 3, 1, config.patch_px, config.patch_px)
        if patches is not None and patches.shape == shape:
            return config
    raise ValueError(f"{source} holds neither a ViCLIP L/14 nor a B/16")


def convert_detector(source: Path, folder: Path) -> None:
    """Write the folder of a YOLOv5 as ultralytics saves it.

    Raises `ValueError` if the file is something else.
    """
    loaded = read_pickle(source)
    network = loaded.get("model") if loaded.get("ema") is None else loaded["ema"]
    if not isinstance(network, nn.Module):
        raise ValueError(f"{source} holds no network of ultralytics")
    described: dict[str, Any] = network.yaml  # type: ignore[assignment]
    depth, width, *_ = described["scales"][described["scale"]]
    names: dict[int, str] = network.names  # type: ignore[assignment]
    settings = {"depth": depth, "width": width, "names": [names[key] for key in sorted(names)]}
    folder.mkdir(parents=True)
    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    save_file(weights, folder / "detector.safetensors")
    (folder / "detector.yaml").write_text(yaml.safe_dump(settings))
    Detector.load(folder)


def read_pickle(source: Path) -> dict[str, Any]:
    """A checkpoint of tensors and network layers. Raises `ValueError` where there is more."""
    try:
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(source)
    except FileNotFoundError as error:
        raise ValueError(f"{source} is not here: fetch it where there is a network") from error
    allowed: list[Any] = [_allowed(name, source) for name in wanted]
    with torch.serialization.safe_globals(allowed):
        loaded = torch.load(source, map_location="cpu", weights_only=True)
    if not isinstance(loaded, dict):
        raise ValueError(f"{source} holds no checkpoint but a {type(loaded).__name__}")
    return loaded


def _allowed(name: str, source: Path) -> Any:
    module, _, attribute = name.rpartition(".")
    if name.startswith(_LAYERS) or name in _PLAIN:
        found = getattr(importlib.import_module(module), attribute, None)
        if name in _PLAIN or (isinstance(found, type) and issubclass(found, nn.Module)):
            return found
    raise ValueError(f"{source} asks for {name}, which is no network layer: it is not loaded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("viclip", "detector"))
    parser.add_argument("source", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--preprocessing", choices=("imagenet", "clip"), default="imagenet")
    words = parser.parse_args()
    if words.kind == "viclip":
        convert_viclip(words.source, words.folder, words.preprocessing)
    else:
        convert_detector(words.source, words.folder)


if __name__ == "__main__":
    main()
