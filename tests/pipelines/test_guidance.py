"""Two branches, one device or two, compiled or not: the same velocity; adapters side by side."""

import dataclasses
import time
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from pipelines.backbone import Backbone
from pipelines.backbone_shape import new_pipeline
from pipelines.guidance import LateStrengths, Stage, adapted_last, adapter_masks, guided_velocity
from pipelines.lora import Adapter, StackedAdapters, adapted_modules
from pipelines.region_layout import RegionLayout
from pipelines.regions import Condition
from pipelines.render import RenderOptions

OPTIONS = RenderOptions(guidance=4.0)


@pytest.fixture(params=[False, True], ids=["2B", "5B"])
def sized_backbone(request, tiny_shape):
    shape = dataclasses.replace(tiny_shape, rotary=request.param)
    pipeline = new_pipeline(shape, ["a", "cat"], seed=0)
    return Backbone(pipeline, Path("tiny"), torch.device("cpu"))


def adapter(backbone, kind, target, seed):
    draw = torch.Generator().manual_seed(seed)
    weights = {}
    for name in adapted_modules(len(backbone.transformer.transformer_blocks), kind):
        rows, columns = backbone.transformer.get_submodule(name).weight.shape
        weights[name] = tuple(
            0.2 * torch.randn(shape, generator=draw) for shape in ((2, columns), (rows, 2))
        )
    return Adapter(id=f"{kind}-{target}", kind=kind, target=target, weights=weights, rank=2)


def characters(grid, num_characters):
    """Side by side; each walks, then sits. The background has a margin."""
    masks = torch.zeros(2 * num_characters + 1, *grid.shape, dtype=torch.bool)
    width, half = grid.width // num_characters, grid.num_latents // 2
    for i in range(num_characters):
        columns = slice(i * width, (i + 1) * width)
        masks[2 * i, :half, 1:, columns] = True
        masks[2 * i + 1, half:, 1:, columns] = True
    masks[-1] = ~masks.any(0)
    whose = [(f"c{i}", motion) for i in range(num_characters) for motion in ("walking", "sitting")]
    return [
        Condition(f"a cat {pair}", mask, *pair)
        for pair, mask in zip([*whose, (None, None)], masks, strict=True)
    ]


def scene(backbone, num_characters=2, num_adapted=1):
    conditions = characters(backbone.grid(), num_characters)
    adapters = [
        adapter(backbone, "motion", "walking", 1),
        adapter(backbone, "motion", "sitting", 2),
        *(adapter(backbone, "subject", f"c{i}", 3 + i) for i in range(num_adapted)),
    ]
    return conditions, adapters


def velocity_of(backbone, conditions, adapters, options=OPTIONS, helper=None, timestep=500):
    latents = torch.randn(1, *backbone.latent_shape(), generator=torch.Generator().manual_seed(7))
    with torch.no_grad(), guided_velocity(backbone, conditions, adapters, options, helper) as found:
        return found(latents, timestep)


def test_what_adapters_act_on_is_one_range_of_rows(tiny_backbone):
    conditions, adapters = scene(tiny_backbone)
    conditions = adapted_last(conditions[::-1], adapters)
    layout = RegionLayout.build(torch.stack([c.mask for c in conditions]), 12)
    masks = adapter_masks(conditions, layout, adapters)
    stacked = StackedAdapters(tiny_backbone.transformer, adapters)
    for slots, (gate, rows) in stacked.gates(masks).items():
        acted = masks[:, list(set(slots))].any(1)
        start, stop = rows.tolist()
        assert acted[start:stop].all()
        assert not acted[:start].any()
        assert not acted[stop:].any()
        assert gate.shape == (len(acted), len(slots))
        assert 0 < stop - start < len(acted)


def test_the_order_of_conditions_changes_nothing(tiny_backbone):
    conditions, adapters = scene(tiny_backbone)
    found = velocity_of(tiny_backbone, conditions, adapters)
    other = velocity_of(tiny_backbone, conditions[::-1], adapters)
    assert (found - other).norm() <= 1e-5 * found.norm()


@pytest.mark.parametrize("changes", [{}, {"unconditional": "per_region"}, {"guidance": 1.0}])
def test_with_adapters_equals_the_formula_by_dense_attention(tiny_backbone, changes):
    """Adapters' ranges, joint downs and sorted tokens, against whole rows and a dense mask."""
    conditions, adapters = scene(tiny_backbone)
    options = dataclasses.replace(OPTIONS, **changes)
    found = velocity_of(tiny_backbone, conditions, adapters, options)
    plain = velocity_of(tiny_backbone, conditions, [], options)
    dense = dataclasses.replace(options, attention="dense")
    expected = velocity_of(tiny_backbone, conditions, adapters, dense)
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    assert (found - plain).norm() >= 1e-2 * plain.norm()


@pytest.mark.parametrize(
    "changes",
    [{}, {"unconditional": "per_region"}, {"adapters_in": "conditional"}, {"regions": False}],
)
def test_in_late_steps_priors_act_as_strongly_as_said(tiny_backbone, changes):
    """As other adapters that were made so strong would; before, as if nothing had been said."""
    conditions, adapters = scene(tiny_backbone)
    usual = dataclasses.replace(OPTIONS, **changes)
    late = LateStrengths(below=300, motion=0.5, subject=1.25)
    options = dataclasses.replace(usual, late=late)
    strengths = {"motion": 0.5, "subject": 1.25}
    scaled = [dataclasses.replace(a, scale=a.scale * strengths[a.kind]) for a in adapters]
    for timestep, same in ((300, adapters), (299, scaled)):
        found = velocity_of(tiny_backbone, conditions, adapters, options, timestep=timestep)
        expected = velocity_of(tiny_backbone, conditions, same, usual, timestep=timestep)
        assert (found - expected).norm() <= 1e-5 * expected.norm()
    unchanged = velocity_of(tiny_backbone, conditions, adapters, usual, timestep=299)
    assert (found - unchanged).norm() >= 1e-2 * unchanged.norm()


@pytest.mark.parametrize("changes", [{}, {"adapters_in": "conditional"}, {"regions": False}])
def test_where_a_motion_prior_acts_guidance_is_its_own(tiny_backbone, changes):
    conditions, adapters = scene(tiny_backbone)
    adapters = adapters[1:]  # of sitting, and of subjects
    usual = dataclasses.replace(OPTIONS, **changes)
    found, high, low = (
        velocity_of(tiny_backbone, conditions, adapters, dataclasses.replace(usual, **guidance))
        for guidance in ({"learned_guidance": 1.5}, {}, {"guidance": 1.5})
    )
    learned = torch.stack([c.mask for c in conditions if c.motion_id == "sitting"]).any(0)
    if not usual.regions:
        learned = torch.ones_like(learned)
    patch = tiny_backbone.transformer.config.patch_size
    here = learned.repeat_interleave(patch, 1).repeat_interleave(patch, 2)[None, :, None]
    assert torch.allclose(found, torch.where(here, low, high), atol=1e-6)
    assert not torch.allclose(low, high, atol=1e-2)


def test_without_a_motion_prior_guidance_is_as_usual(tiny_backbone):
    conditions, adapters = scene(tiny_backbone)
    own = dataclasses.replace(OPTIONS, learned_guidance=1.5)
    subjects = [adapter for adapter in adapters if adapter.kind == "subject"]
    found = velocity_of(tiny_backbone, conditions, subjects, own)
    assert torch.equal(found, velocity_of(tiny_backbone, conditions, subjects))


@pytest.mark.parametrize("wrong", [0.5, 4.5])
def test_guidance_of_motion_priors_is_from_1_to_the_usual(wrong):
    with pytest.raises(ValueError, match="from 1 to guidance, 4"):
        dataclasses.replace(OPTIONS, learned_guidance=wrong)


@pytest.mark.parametrize("wrong", [{"below": -1}, {"motion": -0.1}, {"subject": -1.0}])
def test_late_strengths_that_are_none_are_refused(wrong):
    with pytest.raises(ValueError, match="none may be negative"):
        LateStrengths(**wrong)


def test_a_helper_computes_with_as_many_threads(tiny_backbone):
    """Or sums are taken in another order, and a scene depends on who helped."""
    conditions, adapters = scene(tiny_backbone)
    helper, before = tiny_backbone.twin("cpu"), torch.get_num_threads()
    try:
        for num_threads in (1, 2, 3):
            torch.set_num_threads(num_threads)
            with guided_velocity(tiny_backbone, conditions, adapters, OPTIONS, helper) as velocity:
                assert velocity.pool.submit(torch.get_num_threads).result() == num_threads
    finally:
        torch.set_num_threads(before)


def test_a_helper_changes_nothing(tiny_backbone):
    conditions, adapters = scene(tiny_backbone)
    alone = velocity_of(tiny_backbone, conditions, adapters)
    helper = tiny_backbone.twin("cpu")
    assert torch.equal(velocity_of(tiny_backbone, conditions, adapters, helper=helper), alone)


def test_a_helpers_first_forward_is_over_before_another_begins(tiny_backbone, monkeypatch):
    """It may compile, and two threads that compile at once fail."""
    conditions, adapters = scene(tiny_backbone)
    running, most = [], []
    plain = Stage.velocity

    def watched(stage, *args):
        running.append(stage)
        most.append(len(running))
        time.sleep(0.2)
        made = plain(stage, *args)
        running.remove(stage)
        return made

    monkeypatch.setattr(Stage, "velocity", watched)
    latents = torch.zeros(1, *tiny_backbone.latent_shape())
    helper = tiny_backbone.twin("cpu")
    with guided_velocity(tiny_backbone, conditions, adapters, OPTIONS, helper) as velocity:
        velocity(latents, 500)
        assert max(most) == 1
        velocity(latents, 400)
        assert max(most) == 2, "from then on they are side by side"


def test_compiled_it_is_the_same_and_another_scene_compiles_nothing(sized_backbone):
    torch._dynamo.reset()
    scenes = [scene(sized_backbone, *shape) for shape in ((2, 2), (3, 2), (1, 1), (3, 3))]
    eager = [velocity_of(sized_backbone, *each) for each in scenes]
    counter = CompileCounterWithBackend("aot_eager")
    sized_backbone.compiled = True
    for block in sized_backbone.transformer.transformer_blocks:
        block.compile(fullgraph=True, backend=counter)
    graphs = []
    for each, expected in zip(scenes, eager, strict=True):
        found = velocity_of(sized_backbone, *each)
        assert (found - expected).norm() <= 1e-4 * expected.norm()
        graphs.append(counter.frame_count)
    # Sizes become dynamic with the second scene; ranks with the third, which has other adapters.
    assert graphs[3] == graphs[2]
