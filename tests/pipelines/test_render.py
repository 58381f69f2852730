"""A scene rendered by a tiny random model: binding, guidance, seeds, progress, cancelling."""

import dataclasses

import numpy as np
import pytest
import torch

from pipelines.guidance import adapter_masks
from pipelines.lora import Adapter, adapted_modules
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene
from pipelines.progress import Cancelled
from pipelines.region_layout import RegionLayout
from pipelines.regions import Condition, scene_conditions
from pipelines.render import (
    RenderOptions,
    bound_adapters,
    render_conditions,
    render_scene,
)
from pipelines.scene_captions import merged_caption, with_token

QUICK = RenderOptions(num_steps=3, guidance=4.0)


def adapter(backbone, kind, target, seed=0, size=0.3, **more):
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name in adapted_modules(len(backbone.transformer.transformer_blocks), kind):
        rows, columns = backbone.transformer.get_submodule(name).weight.shape
        weights[name] = tuple(
            size * torch.randn(shape, generator=generator) for shape in ((2, columns), (rows, 2))
        )
    return Adapter(id=f"{kind}-{target}", kind=kind, target=target, weights=weights, rank=2, **more)


def scene(*regions, later=None):
    frames = [KeyFrame(regions=regions)] * 3 + [KeyFrame(regions=later or regions)] * 3
    layout = Layout(background="the forest", key_frames=tuple(frames))
    return Scene(place="forest", narration="They go.", motions=("walking",), layout=layout)


def region(entity, motion, left, right):
    where = Box(left=left, top=0.0, right=right, bottom=1.0)
    return Region.of(entity, motion, f"a {entity} is {motion} in the forest", where)


WITCH, CAT = region("witch", "walking", 0.0, 0.4), region("cat", "sitting", 0.6, 1.0)
TWO = scene(WITCH, CAT)


def test_a_scene_is_frames_and_repeats_byte_for_byte(tiny_backbone):
    frames = render_scene(tiny_backbone, TWO, options=QUICK, seed=1)
    assert frames.shape == (17, 32, 48, 3)
    assert frames.dtype == np.uint8
    again = render_scene(tiny_backbone, TWO, options=QUICK, seed=1)
    other = render_scene(tiny_backbone, TWO, options=QUICK, seed=2)
    assert frames.tobytes() == again.tobytes()
    assert frames.tobytes() != other.tobytes()


@pytest.mark.parametrize(
    "changes",
    [
        {"sampler": "ddim"},
        {"regions": False},
        {"unconditional": "per_region"},
        {"guidance": 1.0},
        {"adapters_in": "conditional"},
    ],
)
def test_every_option_changes_the_film(tiny_backbone, changes):
    adapters = [adapter(tiny_backbone, "motion", "walking")]
    plain = render_scene(tiny_backbone, TWO, adapters, options=QUICK)
    options = dataclasses.replace(QUICK, **changes)
    found = render_scene(tiny_backbone, TWO, adapters, options=options)
    assert found.shape == plain.shape
    assert found.tobytes() != plain.tobytes()


def test_dense_and_factorised_give_one_film(tiny_backbone):
    adapters = [adapter(tiny_backbone, "motion", "walking")]
    films = [
        render_scene(
            tiny_backbone, TWO, adapters, options=dataclasses.replace(QUICK, attention=which)
        )
        for which in ("factorised", "dense")
    ]
    assert np.abs(films[0].astype(int) - films[1]).max() <= 1


def test_adapters_bind_by_id_never_by_words(tiny_backbone):
    plan = scene(region("category", "walking", 0.0, 0.4))
    adapters = [
        adapter(tiny_backbone, "subject", "cat"),
        adapter(tiny_backbone, "motion", "category"),
        adapter(tiny_backbone, "motion", "walking"),
    ]
    assert [a.id for a in bound_adapters(plan, adapters)] == ["motion-walking"]
    without = render_scene(tiny_backbone, plan, options=QUICK)
    unbound = render_scene(tiny_backbone, plan, adapters[:2], options=QUICK)
    assert unbound.tobytes() == without.tobytes()
    assert render_scene(tiny_backbone, plan, adapters, options=QUICK).tobytes() != without.tobytes()


def test_adapter_masks_are_clamped_unions_of_regions_and_their_words(tiny_backbone):
    plan = scene(WITCH, CAT, region("witch", "sitting", 0.2, 0.8))
    adapters = [
        adapter(tiny_backbone, "subject", "witch"),
        adapter(tiny_backbone, "motion", "sitting"),
    ]
    conditions = scene_conditions(plan.layout, tiny_backbone.grid())
    assert [c.caption.split()[1] for c in conditions] == ["witch", "cat", "witch"]
    layout = RegionLayout.build(torch.stack([c.mask for c in conditions]), 2)
    masks = adapter_masks(conditions, layout, adapters)
    assert masks[:6].tolist() == [[1, 0], [1, 0], [0, 1], [0, 1], [1, 1], [1, 1]]
    visual = masks[6:][layout.inverse].bool().T.reshape(2, *tiny_backbone.grid().shape)
    assert torch.equal(visual[0], conditions[0].mask | conditions[2].mask)
    assert torch.equal(visual[1], conditions[1].mask | conditions[2].mask)


def test_the_subjects_token_stands_before_its_phrase(tiny_backbone):
    mia = adapter(tiny_backbone, "subject", "cat", token="[v1]", phrase="cat")
    found = render_conditions(tiny_backbone, TWO, [mia], QUICK)
    assert [c.caption for c in found] == [
        "a witch is walking in the forest",
        "a [v1] cat is sitting in the forest",
        "the forest",
    ]


def test_token_words():
    assert with_token("an alien is waving", "[v2]", "alien") == "a [v2] alien is waving"
    assert with_token("a category", "[v1]", "cat") == "a [v1] cat, a category"
    assert with_token("a [v1] cat is sitting", "[v1]", "cat") == "a [v1] cat is sitting"
    assert with_token("the Girl Witch waves", "[v1]", "girl witch") == "the [v1] Girl Witch waves"


def test_without_regions_there_is_one_caption_for_all(tiny_backbone):
    options = dataclasses.replace(QUICK, regions=False)
    plan = scene(WITCH, CAT, later=(region("witch", "waving", 0.0, 0.4), CAT))
    (only,) = render_conditions(tiny_backbone, plan, [], options)
    assert only.mask.all()
    assert only.caption == "a witch is walking then waving and a cat is sitting in the forest"


def test_merged_captions():
    def captions(*texts):
        mask = torch.ones(1, 1, 1, dtype=torch.bool)
        return [Condition(text, mask, str(i)) for i, text in enumerate(texts)]

    assert merged_caption(captions("a cat is here.")) == "a cat is here"
    assert merged_caption(captions("a cat in the park", "a dog in the park")) == (
        "a cat and a dog in the park"
    )


def test_progress_counts_every_step_and_the_decoding(tiny_backbone):
    calls = []
    render_scene(
        tiny_backbone, TWO, options=QUICK, progress=lambda done, total: calls.append((done, total))
    )
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_cancelling_stops_within_a_step_and_leaves_the_model_whole(tiny_backbone):
    before = render_scene(tiny_backbone, TWO, options=QUICK)
    calls = []

    def stop(done, total):
        calls.append(done)
        raise Cancelled

    with pytest.raises(Cancelled):
        render_scene(
            tiny_backbone,
            TWO,
            [adapter(tiny_backbone, "motion", "walking")],
            options=QUICK,
            progress=stop,
        )
    assert calls == [1]
    assert render_scene(tiny_backbone, TWO, options=QUICK).tobytes() == before.tobytes()


@pytest.mark.parametrize("wrong", [{"num_steps": 0}, {"guidance": 0.5}])
def test_options_say_what_is_wrong(wrong):
    with pytest.raises(ValueError, match="at least 1"):
        RenderOptions(**wrong)


def test_priors_act_as_strongly_as_they_are_told(tiny_backbone):
    walking = adapter(tiny_backbone, "motion", "walking", size=1.0)
    cat = adapter(tiny_backbone, "subject", "cat", seed=1, size=1.0)

    def frames(**scales):
        options = dataclasses.replace(QUICK, **scales)
        return render_scene(tiny_backbone, TWO, (walking, cat), options=options, seed=1)

    none = render_scene(tiny_backbone, TWO, (), options=QUICK, seed=1)
    as_learned = frames()
    # Captions are sorted by who acts in them, so sums are rounded in another order.
    unheard = frames(motion_scale=0.0, subject_scale=0.0)
    assert np.abs(unheard.astype(int) - none).max() <= 1
    assert np.abs(as_learned.astype(int) - none).max() > 1
    assert not (frames(motion_scale=1.5) == as_learned).all()
    assert not (frames(subject_scale=1.5) == as_learned).all()
