"""Steps that are left out: when, of whom, and what it costs."""

import dataclasses

import pytest
import torch

from pipelines.backbone import Backbone
from pipelines.guidance import guided_velocity
from pipelines.lora import Adapter, adapted_modules
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene
from pipelines.progress import Cancelled
from pipelines.region_layout import RegionLayout
from pipelines.regions import TokenGrid
from pipelines.render import RenderOptions, render_conditions, render_scene, scene_latents
from pipelines.step_cache import CachedVelocity, region_changes

OPTIONS = RenderOptions(num_steps=12, guidance=2.0)
GRID = TokenGrid(2, 4, 6)
SHAPE = (1, 2, 16, 8, 12)
PRODUCTS = torch.linspace(0.999, 0.0, 1000)


def new_scene():
    def region(entity, motion, left, right):
        box = Box(left=left, top=0.0, right=right, bottom=1.0)
        return Region.of(entity, motion, f"a {entity} is {motion}", box)

    regions = (region("witch", "walking", 0.0, 0.4), region("cat", "sitting", 0.6, 1.0))
    layout = Layout(background="the forest", key_frames=(KeyFrame(regions=regions),) * 6)
    return Scene(place="forest", narration="They go.", motions=("walking",), layout=layout)


SCENE = new_scene()


def new_adapter(backbone):
    draw = torch.Generator().manual_seed(0)
    weights = {}
    for name in adapted_modules(len(backbone.transformer.transformer_blocks), "motion"):
        rows, columns = backbone.transformer.get_submodule(name).weight.shape
        weights[name] = tuple(
            0.2 * torch.randn(shape, generator=draw) for shape in ((2, columns), (rows, 2))
        )
    return Adapter(id="walking", kind="motion", target="walking", weights=weights, rank=2)


def made(backbone: Backbone, threshold: float, **more):
    options = dataclasses.replace(OPTIONS, caching=threshold)
    return scene_latents(backbone, SCENE, [new_adapter(backbone)], options=options, seed=3, **more)


def small_and_still():
    """One token of a figure, all others background."""
    masks = torch.zeros(2, *GRID.shape, dtype=torch.bool)
    masks[0, 0, 0, 0] = True
    masks[1] = ~masks[0]
    return RegionLayout.build(masks, 3)


def whole():
    return RegionLayout.build(torch.ones(1, *GRID.shape, dtype=torch.bool), 3)


class Figure:
    """A predictor whose clean clip is still but for one token, brighter every other time."""

    def __init__(self, brighter: float) -> None:
        self.brighter, self.asked = brighter, 0

    def __call__(self, latents, timestep):
        clean = torch.ones(SHAPE)
        clean[0, 0, :, :2, :2] += self.brighter * (self.asked % 2)
        self.asked += 1
        signal, noise = PRODUCTS[timestep].sqrt(), (1 - PRODUCTS[timestep]).sqrt()
        return (signal * latents - clean) / noise


def asked_of(figure: Figure, layout: RegionLayout, threshold: float, num_steps: int = 5) -> int:
    cached = CachedVelocity(
        compute=figure, grid=GRID, layout=layout, products=PRODUCTS, threshold=threshold
    )
    for step in range(num_steps):
        cached(torch.zeros(SHAPE), 900 - 100 * step)
    assert cached.num_reused == num_steps - figure.asked
    return figure.asked


def test_the_region_that_changes_most_decides_however_small_it_is():
    """Averaged over the frame, what the figure does would be too little to compute for."""
    assert asked_of(Figure(0.2), small_and_still(), 0.1) == 5
    assert asked_of(Figure(0.2), whole(), 0.1) == 2
    assert asked_of(Figure(0.0), small_and_still(), 0.1) == 2


def test_what_a_group_of_tokens_changed_by():
    layout, old = small_and_still(), torch.ones(SHAPE)
    new = old.clone()
    new[0, 0, :, :2, :2] *= 2
    changes = dict(zip(layout.groups, region_changes(new, old, GRID, layout), strict=True))
    found = {group.captions: change.item() for group, change in changes.items()}
    assert found == {(0,): 0.5, (1,): 0.0}
    assert region_changes(torch.zeros(SHAPE), old * 0, GRID, layout).tolist() == [0, 0]


def test_changes_add_up_until_a_step_is_computed():
    """A rate of 0.04 a step is left out twice under 0.1, then computed: 2 of 3 steps."""
    layout, figure = whole(), Figure(0.0)
    rates = iter([1.0, 1.04, 1.04 * 1.12, 2.0])

    def grows(latents, timestep):
        return figure(latents, timestep) * next(rates)

    cached = CachedVelocity(
        compute=grows, grid=GRID, layout=layout, products=PRODUCTS, threshold=0.1
    )
    reused = []
    for _ in range(7):
        before = cached.num_reused
        cached(torch.zeros(SHAPE), 999)
        reused.append(cached.num_reused > before)
    assert reused == [False, False, True, True, False, True, True]


def test_a_step_that_is_left_out_predicts_the_same_clean_clip():
    figure = Figure(0.0)
    cached = CachedVelocity(
        compute=figure, grid=GRID, layout=whole(), products=PRODUCTS, threshold=0.1
    )
    latents = torch.randn(SHAPE)
    for time in (900, 800, 500):
        velocity = cached(latents, time)
        clean = PRODUCTS[time].sqrt() * latents - (1 - PRODUCTS[time]).sqrt() * velocity
        assert torch.allclose(clean, torch.ones(SHAPE), atol=1e-5)
    assert (figure.asked, cached.num_reused) == (2, 1)


def test_a_threshold_of_nothing_computes_every_step_to_the_same_bits(tiny_backbone):
    options, latents = OPTIONS, torch.randn(1, *tiny_backbone.latent_shape())
    conditions = render_conditions(tiny_backbone, SCENE, [], options)
    with torch.no_grad(), guided_velocity(tiny_backbone, conditions, [], options) as velocity:
        cached = CachedVelocity(
            compute=velocity,
            grid=tiny_backbone.grid(),
            layout=velocity.layout,
            products=tiny_backbone.scheduler().alphas_cumprod,
            threshold=0.0,
        )
        for time in (999, 700, 699, 698):
            assert torch.equal(cached(latents, time), velocity(latents, time))
    assert cached.num_reused == 0


def test_more_is_left_out_and_lost_with_a_larger_threshold(tiny_backbone):
    exact = made(tiny_backbone, 0.0)
    assert exact.num_reused == 0
    calls = []
    handle = tiny_backbone.transformer.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for threshold in (0.02, 0.2, 0.6):
        calls.clear()
        cached = made(tiny_backbone, threshold)
        # What is left out is both branches, whole.
        assert len(calls) == 2 * (OPTIONS.num_steps - cached.num_reused)
        off = (cached.latents - exact.latents).norm() / exact.latents.norm()
        found.append((cached.num_reused, off.item()))
    handle.remove()
    reused, errors = zip(*found, strict=True)
    assert reused == tuple(sorted(reused))
    assert 0 < reused[-1] < OPTIONS.num_steps
    assert errors[0] <= errors[1] * 1.1
    assert errors[1] <= errors[2] * 1.1
    assert 0 < errors[2] < 0.6


def test_it_repeats_and_a_helper_changes_nothing(tiny_backbone):
    once, again = made(tiny_backbone, 0.4), made(tiny_backbone, 0.4)
    helped = made(tiny_backbone, 0.4, helper=tiny_backbone.twin("cpu"))
    assert once.num_reused > 0
    for other in (again, helped):
        assert other.num_reused == once.num_reused
        assert torch.equal(other.latents, once.latents)


def test_steps_that_are_left_out_are_counted_and_can_be_cancelled(tiny_backbone, caplog):
    options, calls = dataclasses.replace(OPTIONS, caching=0.9), []
    with caplog.at_level("INFO", "pipelines.render"):
        render_scene(
            tiny_backbone, SCENE, options=options, progress=lambda done, _: calls.append(done)
        )
    assert calls == list(range(1, OPTIONS.num_steps + 2))
    assert f"of {OPTIONS.num_steps} steps" in caplog.text

    def stop(done, _total):
        if done == 8:
            raise Cancelled

    with pytest.raises(Cancelled):
        render_scene(tiny_backbone, SCENE, options=options, progress=stop)


@pytest.mark.parametrize("wrong", [-0.1, 1.0, float("nan")])
def test_a_threshold_is_a_share(wrong):
    with pytest.raises(ValueError, match="from 0 to below 1"):
        RenderOptions(caching=wrong)
