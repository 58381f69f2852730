"""Official checkpoints become folders; nothing but tensors and layers comes out of a pickle."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.convert import convert_detector, convert_viclip, read_pickle
from pipelines.detector import Detector, DetectorConfig, build_network
from pipelines.viclip import ViClip, ViClipConfig, fitting_weights


class Evil:
    """What a pickle can do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_does_things_is_refused(tmp_path: Path, legacy: bool) -> None:
    source, harmed = tmp_path / "evil.pt", tmp_path / "harmed"
    torch.save({"model": Evil(harmed)}, source, _use_new_zipfile_serialization=not legacy)
    for convert in (convert_detector, convert_viclip):
        with pytest.raises((ValueError, pickle.UnpicklingError)):
            convert(source, tmp_path / "out")
    assert not harmed.exists()
    assert not (tmp_path / "out").exists()


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not here: fetch it"):
        read_pickle(tmp_path / "gone.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ValueError, match="a list"):
        read_pickle(tmp_path / "list.pt")
    torch.save({"model": {"temp": torch.ones(())}}, tmp_path / "temp.pt")
    with pytest.raises(ValueError, match="neither a ViCLIP"):
        convert_viclip(tmp_path / "temp.pt", tmp_path / "out")
    with pytest.raises(ValueError, match="no network"):
        convert_detector(tmp_path / "temp.pt", tmp_path / "out")


def test_a_detector_of_ultralytics_sees_the_same_after_conversion(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = DetectorConfig(depth=0.33, width=0.125, names=("cat", "person"))
    network = build_network(config)
    network.names = {0: "cat", 1: "person"}
    saved = {"epoch": -1, "model": network, "ema": None, "train_args": {"imgsz": 640}}
    torch.save(saved, tmp_path / "yolov5.pt")
    convert_detector(tmp_path / "yolov5.pt", tmp_path / "out")
    converted = Detector.load(tmp_path / "out")
    frames = np.random.default_rng(0).integers(0, 256, (2, 96, 144, 3), dtype=np.uint8)
    network.eval().fuse(verbose=False)
    expected = Detector(network, config, "x", "cpu").detect(frames, confidence=1e-5)
    for one, other in zip(expected, converted.detect(frames, confidence=1e-5), strict=True):
        np.testing.assert_array_equal(one.boxes, other.boxes)
        assert len(one.boxes)


@pytest.mark.slow
def test_an_official_viclip_is_told_by_its_shapes(tmp_path: Path) -> None:
    config = ViClipConfig.base()
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in ViClip(config).state_dict().items()}
    weights = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}
    torch.save({"model": weights}, tmp_path / "viclip.pth")
    convert_viclip(tmp_path / "viclip.pth", tmp_path / "out", "clip")
    settings = (tmp_path / "out" / "config.json").read_text()
    assert '"preprocessing": "clip"' in settings
    assert '"embed_dim": 512' in settings
    assert (tmp_path / "out" / "viclip.safetensors").stat().st_size > 2 * 149_603_841
    for file in (tmp_path / "viclip.pth", tmp_path / "out" / "viclip.safetensors"):
        file.unlink()  # pytest would keep them
    del weights["temp"]
    with pytest.raises(ValueError, match="1 of 303 tensors"):
        fitting_weights(weights, config, "it")
