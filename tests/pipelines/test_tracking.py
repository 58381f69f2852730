"""A tiny real YOLOv5 through its seam, and the rules that turn boxes into segments."""

from pathlib import Path

import numpy as np
import pytest
import torch

from miniature.recipes import detector as recipe
from miniature.world import Puppet, Spec, render
from pipelines.detector import (
    Detections,
    Detector,
    DetectorConfig,
    build_network,
    pad,
    training_batch,
)
from pipelines.plan import Box
from pipelines.tracking import Track, crop_around, find_person, link, segments, track

FPS = 8.0
SIZE_PX = (96, 144)


def seen(*boxes: tuple[float, float, float, float]) -> Detections:
    return Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32)
    )


def walking(frame: int) -> tuple[float, float, float, float]:
    left = 0.1 + 0.01 * frame
    return (left, 0.2, left + 0.2, 0.9)


STANDING = (0.7, 0.3, 0.8, 0.8)


def test_two_people_are_two_tracks_largest_first() -> None:
    tracks = link([seen(STANDING, walking(i)) for i in range(30)], FPS)
    assert [len(one.boxes) for one in tracks] == [30, 30]
    np.testing.assert_allclose(tracks[0].boxes[10], walking(10), atol=1e-6)
    np.testing.assert_allclose(tracks[1].boxes[10], STANDING, atol=1e-6)
    assert tracks[0].confidence == pytest.approx(0.9)


def test_the_order_of_detections_does_not_matter() -> None:
    mixed = [seen(STANDING, walking(i)) if i % 2 else seen(walking(i), STANDING) for i in range(30)]
    assert [len(one.boxes) for one in link(mixed, FPS)] == [30, 30]


def test_short_gaps_are_bridged_and_long_ones_are_not() -> None:
    for gap, lengths in ((4, [30]), (5, [13, 12])):
        frames = [seen() if 13 <= i < 13 + gap else seen(walking(i)) for i in range(30)]
        assert [len(one.boxes) for one in link(frames, FPS)] == lengths
    bridged = link([seen() if i == 13 else seen(walking(i)) for i in range(30)], FPS)[0]
    np.testing.assert_allclose(bridged.boxes[13], walking(13), atol=1e-6)


def test_nobody_is_no_track() -> None:
    assert link([seen() for _ in range(20)], FPS) == []


def one_track(num_frames: int, start: int = 0) -> Track:
    boxes = np.array([walking(i % 40) for i in range(num_frames)], np.float32)
    return Track(start, boxes, 0.9)


def test_tracks_under_two_seconds_make_no_segment() -> None:
    assert segments([one_track(15)], FPS, SIZE_PX) == []
    (made,) = segments([one_track(16, start=4)], FPS, SIZE_PX)
    assert (made.start_s, made.end_s) == (0.5, 2.5)


def test_long_tracks_are_cut_into_windows() -> None:
    (whole,) = segments([one_track(49)], FPS, SIZE_PX)
    assert whole.end_s == pytest.approx(49 / 8)
    halves = segments([one_track(60)], FPS, SIZE_PX)
    assert [(half.start_s, half.end_s) for half in halves] == [(0.0, 3.75), (3.75, 7.5)]


def test_the_crop_is_the_union_with_a_margin() -> None:
    boxes = np.array([(0.3, 0.4, 0.6, 0.8), (0.4, 0.4, 0.7, 0.8)], np.float32)
    crop = crop_around(boxes, (100, 100))
    assert crop is not None
    np.testing.assert_allclose(
        (crop.left, crop.top, crop.right, crop.bottom), (0.26, 0.36, 0.74, 0.84), atol=1e-6
    )


def test_narrow_crops_are_widened_and_stay_inside() -> None:
    crop = crop_around(np.array([(0.0, 0.2, 0.1, 0.8)], np.float32), SIZE_PX)
    assert crop is not None
    aspect = (crop.right - crop.left) * 144 / ((crop.bottom - crop.top) * 96)
    assert aspect == pytest.approx(0.9)
    assert crop.left == 0.0
    assert crop_around(np.array([(0.1, 0.0, 0.9, 1.0)], np.float32), (144, 96)) is None


CONFIG = DetectorConfig(depth=0.33, width=0.125, names=("person",), long_side_px=160)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    recipe.save(build_network(CONFIG), tmp_path)
    return tmp_path


def test_a_detector_loads_and_sees_batches_of_any_size(folder: Path) -> None:
    detector = Detector.load(folder)
    frames = np.random.default_rng(0).integers(0, 256, (5, 90, 130, 3), dtype=np.uint8)
    found = detector.detect(frames, confidence=1e-5, batch_size=2)
    again = detector.detect(frames[3:4], confidence=1e-5)
    assert len(found) == 5
    assert all(len(one.boxes) == len(one.confidence) for one in found)
    assert all((one.boxes >= 0).all() and (one.boxes <= 1).all() for one in found)
    assert len(found[3].boxes) == len(again[0].boxes)
    assert detector.detect(np.zeros((1, 400, 700, 3), np.uint8))[0].boxes.shape[1] == 4
    assert track(detector, frames, FPS) == []


def test_weights_of_another_network_are_refused(folder: Path) -> None:
    text = (folder / "detector.yaml").read_text()
    (folder / "detector.yaml").write_text(text.replace("0.125", "0.25"))
    with pytest.raises(ValueError, match="weights are not those"):
        Detector.load(folder)


def test_a_detector_without_people_is_refused(tmp_path: Path) -> None:
    config = DetectorConfig(depth=0.33, width=0.125, names=("cat",))
    with pytest.raises(ValueError, match="class 'person'"):
        Detector(build_network(config), config, "x", "cpu")


def test_the_loss_falls_on_one_picture() -> None:
    torch.manual_seed(0)
    network = build_network(CONFIG).train()
    picture = torch.zeros(4, 3, 90, 60)
    picture[:, :, 20:70, 15:45] = 1.0
    images = pad(picture, 32)
    assert images.shape == (4, 3, 96, 64)
    box = torch.tensor([[15 / 64, 20 / 96, 45 / 64, 70 / 96]]).repeat(4, 1)
    batch = training_batch(images, box, torch.arange(4), torch.zeros(4))
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    losses = []
    for _ in range(12):
        loss = network.loss(batch)[0].sum()  # type: ignore[operator]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.7 * losses[0]


def test_the_person_of_a_picture_is_found_at_any_size() -> None:
    checkpoints = Path(__file__).parents[2] / "miniature" / "checkpoints"
    detector = Detector.load(checkpoints / "detector")
    actor = Puppet(character="pirate", motions=("waving",), x0=0.6, x1=0.6, ground=0.93, height=0.7)
    spec = Spec(place="beach", seed=1, puppets=(actor,))
    for size_px in ((96, 144), (288, 432)):
        drawn = render([spec], size_px=size_px, frame_indices=torch.tensor([0]))
        image = (drawn.frames[0, 0].permute(1, 2, 0) * 255).byte().numpy()
        found = find_person(detector, image, long_side_px=144)
        assert found is not None
        edges = (found.left, found.top, found.right, found.bottom)
        assert edges == pytest.approx(drawn.boxes[0, 0, 0].tolist(), abs=0.08)
    empty = np.zeros((96, 144, 3), np.uint8)
    assert find_person(detector, empty, long_side_px=144) is None
    for size_px in ((8, 4000), (4000, 8)):
        thin = np.zeros((*size_px, 3), np.uint8)
        assert find_person(detector, thin, long_side_px=144) is None
        assert len(detector.detect(thin[None])) == 1


def test_a_person_beside_the_picture_is_none() -> None:
    """A thin picture is padded for the network, which may see somebody in the margin."""

    class Margin(Detector):
        def __init__(self) -> None:
            pass

        def detect(self, frames, *, confidence=0.5, batch_size=32):
            return [seen((0.1, 1.0, 0.3, 1.0), *more)]

    image = np.zeros((1, 144, 3), np.uint8)
    more: list[tuple[float, float, float, float]] = []
    assert find_person(Margin(), image, long_side_px=144) is None
    more.append((0.5, 0.0, 0.75, 1.0))
    found = find_person(Margin(), image, long_side_px=144)
    assert found == Box(left=0.5, top=0, right=0.75, bottom=1)
