"""The recipes of the retrieval models: dry runs, their data, and the shipped models' bars."""

import dataclasses
import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from miniature.cast import MOTIONS, PERSON
from miniature.phrases import SUBJECTS, all_words
from miniature.recipes import clip, detector, dino, viclip
from miniature.recipes.contrastive import (
    VOCABULARY,
    info_nce,
    pinned,
    tokenize,
    train_tokenizer,
)
from miniature.recipes.steps import steps_left
from miniature.recipes.views import make_pool
from miniature.run import Run
from pipelines.detector import Detections, Detector
from pipelines.encoders import ClipEncoder, DinoEncoder
from pipelines.viclip import ViClipEncoder

CHECKPOINTS = Path("miniature/checkpoints")


def run(folder: Path) -> Run:
    return Run(
        out=folder / "out", state=folder / "state", seed=0, minutes=5, device="cpu", tiny=True
    )


def test_clip_trains_and_its_folder_loads(tmp_path: Path) -> None:
    figures = clip.train(run(tmp_path))
    assert set(figures) >= {"retrieval_top1_of_64", "motion_auc", "parameters"}
    assert ClipEncoder.load(tmp_path / "out").embed_texts(["a bear"]).shape == (1, 96)
    assert (tmp_path / "out" / "open_clip_model.safetensors").stat().st_size < 1.8 * 2**20


def test_viclip_trains_and_its_folder_loads(tmp_path: Path) -> None:
    viclip.train(run(tmp_path))
    assert ViClipEncoder.load(tmp_path / "out").embed_texts(["a bear"]).shape == (1, 96)
    assert (tmp_path / "out" / "viclip.safetensors").stat().st_size < 2.4 * 2**20


def test_dino_trains_and_its_folder_loads(tmp_path: Path) -> None:
    figures = dino.train(run(tmp_path))
    assert set(figures) >= {"cosine_same_character", "cosine_different_character"}
    pictures = np.zeros((1, 96, 144, 3), np.uint8)
    assert DinoEncoder.load(tmp_path / "out").embed_images(pictures).shape == (1, 96)


def test_the_detector_trains_and_its_folder_loads(tmp_path: Path) -> None:
    figures = detector.train(run(tmp_path))
    assert 0 <= figures["map50"] <= 1
    assert len(Detector.load(tmp_path / "out").detect(np.zeros((2, 96, 144, 3), np.uint8))) == 2


def test_the_tokenizer_knows_the_world_and_survives_the_rest() -> None:
    tokenizer = train_tokenizer()
    ids = tokenize(tokenizer, [*all_words()[:500], "", "Übergrößenträger 123 🙂", "bow " * 100])
    assert ids.shape[1] == 32
    assert int(ids.max()) == tokenizer.eos_token_id < VOCABULARY
    assert (ids.argmax(1) > 0).all()
    lengths = (ids[:500] != tokenizer.pad_token_id).sum(1)
    assert int(lengths.max()) <= 32


def test_a_pool_knows_who_does_what() -> None:
    pool = make_pool(12, 32, 0, "cpu", chunk=12)
    again = make_pool(12, 32, 0, "cpu", chunk=12)
    assert pool.frames.shape == (12, 8, 3, 32, 32)
    assert torch.equal(pool.frames, again.frames)
    assert pool.texts == again.texts
    for texts, acts in zip(pool.texts, pool.acts, strict=True):
        for subject, motion in acts.nonzero().tolist():
            if SUBJECTS[subject] in (PERSON, *SUBJECTS[:15]):
                assert MOTIONS[motion] in texts[0]


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    """The third step after a stop is the third step without one, to the bit."""
    ends = []
    for stops in ([], [0, 1]):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 4)
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        state = tmp_path / str(len(stops))
        for minutes in [0.0 for _ in stops] + [5.0]:
            here = dataclasses.replace(run(tmp_path), state=state, minutes=minutes)
            for step, _ in steps_left(here, model, optimizer, 5):
                loss = model(torch.full((1, 4), float(step))).square().sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            torch.manual_seed(1)
            if minutes == 0.0:
                model = torch.nn.Linear(4, 4)
                optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        ends.append(model.weight.detach())
    assert torch.equal(*ends)


def test_losses_are_least_where_they_should_be() -> None:
    torch.manual_seed(0)
    vectors = functional.normalize(torch.randn(6, 16), dim=-1)
    meanings, scale = torch.arange(6), torch.tensor(20.0)
    right = info_nce(vectors, vectors, meanings, scale)
    assert right < info_nce(vectors, vectors.roll(1, 0), meanings, scale)
    queries = functional.normalize(torch.randn(2, 3, 16), dim=-1)
    acts = torch.zeros(1, 2, 3, dtype=torch.bool)
    acts[0, 1, 2] = True
    assert pinned(queries[1, 2][None], queries, acts) < pinned(queries[0, 0][None], queries, acts)


def found(*rows: tuple[float, float, float, float, float]) -> Detections:
    table = np.array(rows, np.float32).reshape(-1, 5)
    return Detections(table[:, :4], table[:, 4])


def test_average_precision_by_hand() -> None:
    box, other = (0.1, 0.1, 0.4, 0.9), (0.6, 0.1, 0.9, 0.9)
    truth = np.array([box, other], np.float32)
    assert detector.average_precision([found((*box, 0.9), (*other, 0.8))], [truth]) == 1.0
    assert detector.average_precision([found((*box, 0.9))], [truth]) == 0.5
    # a second hit of the same box is a mistake: precision 1, 1/2, 2/3 at recalls 1/2, 1/2, 1
    doubled = [found((*box, 0.9), (*box, 0.8), (*other, 0.7))]
    assert detector.average_precision(doubled, [truth]) == pytest.approx((1 + 2 / 3) / 2)
    assert detector.average_precision([found()], [truth]) == 0.0
    assert detector.recall([found((*box, 0.4), (*other, 0.8))], [truth]) == 0.5


@pytest.mark.parametrize(
    ("name", "bars"),
    [
        ("clip", {"retrieval_top1_of_64": 0.9}),
        ("viclip", {"retrieval_top1_of_64": 0.9}),
        ("detector", {"map50": 0.95}),
        ("dino", {"nearest_is_same_character": 0.95}),
    ],
)
def test_shipped_models_met_their_bars(name: str, bars: dict[str, float]) -> None:
    figures = json.loads((CHECKPOINTS / name / "figures.json").read_text())
    for figure, bar in bars.items():
        assert figures[figure] >= bar


def test_shipped_encoders_tell_motions_apart() -> None:
    """The real folders, on a few videos of another seed: right motions mostly above wrong ones."""
    pool = make_pool(24, 96, random.Random(5).randrange(1 << 30), "cpu", chunk=24)
    persons = pool.acts[:, SUBJECTS.index(PERSON)]
    rows = persons.any(-1)
    videos = pool.frames[rows].permute(0, 1, 3, 4, 2).numpy()
    queries = [f"the person is {motion}" for motion in MOTIONS]
    first, second = (
        ClipEncoder.load(CHECKPOINTS / "clip"),
        ViClipEncoder.load(CHECKPOINTS / "viclip"),
    )
    by_frame = np.stack([first.embed_images(v).mean(0) for v in videos])
    scores = by_frame @ first.embed_texts(queries).T
    scores = (scores + second.embed_videos(list(videos)) @ second.embed_texts(queries).T) / 2
    right = persons[rows].numpy()
    assert (scores[right] > 0.2).mean() > 0.8
    assert (scores[~right] > 0.2).mean() < 0.25
