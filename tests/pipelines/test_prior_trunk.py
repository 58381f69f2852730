"""The fast forward of training against diffusers' own."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from pipelines.backbone import Backbone
from pipelines.backbone_shape import new_pipeline
from pipelines.lora import LowRankPath
from pipelines.prior_block import joint_block, thrifty_block
from pipelines.prior_draws import generator_of
from pipelines.prior_trunk import JointTrunk, PlainTrunk, stacked
from pipelines.prior_weights import new_pairs, parameters_of, paths_of


@pytest.fixture(params=[False, True], ids=["2B", "5B"])
def backbone(request, tiny_shape):
    shape = dataclasses.replace(tiny_shape, rotary=request.param)
    return Backbone(new_pipeline(shape, ["a"], seed=0), Path("tiny"), torch.device("cpu"))


def pairs_of(backbone, kind, *words):
    """Pairs that are no longer fresh: fresh ones add nothing."""
    pairs = new_pairs(backbone.transformer, kind, 4, kind, *words)
    for name, (_, up) in pairs.items():
        torch.nn.init.normal_(up, std=0.05, generator=generator_of(name, *words))
    return pairs


def inputs(backbone, count=1, num_frames=17):
    shape = count, *backbone.latent_shape(num_frames)
    text = count, backbone.text_length, backbone.transformer.config.text_embed_dim
    generator = generator_of("inputs")
    return (
        torch.randn(shape, generator=generator),
        torch.randn(text, generator=generator),
        torch.randint(0, 1000, (count,), generator=generator),
    )


def learned(trunk, paths, pairs, given):
    """v, and gradients of its square."""
    for parameter in parameters_of(pairs):
        parameter.grad = None
    with trunk(paths) as velocity:
        v = velocity(*given)
        v.square().mean().backward()
    return v.detach(), [parameter.grad for parameter in parameters_of(pairs)]


def assert_close(ours, theirs):
    for a, b in zip([ours[0], *ours[1]], [theirs[0], *theirs[1]], strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("kind", ["motion", "subject"])
def test_the_fast_forward_equals_diffusers_own(backbone, kind, checkpointing):
    pairs = pairs_of(backbone, kind)
    other = pairs_of(backbone, "subject" if kind == "motion" else "motion")
    paths = paths_of(other, learn=False) | paths_of(pairs, learn=True)
    fast = JointTrunk(backbone, compiled=False, checkpointing=checkpointing)
    given = inputs(backbone)
    assert_close(
        learned(fast, paths, pairs, given), learned(PlainTrunk(backbone), paths, pairs, given)
    )
    assert all(p.grad is None for p in parameters_of(other))


def test_the_fast_forward_looks_without_pairs_and_without_gradients(backbone):
    given = inputs(backbone, count=2, num_frames=1)
    with torch.no_grad(), JointTrunk(backbone, compiled=False)({}) as velocity:
        v = velocity(*given)
    assert (v - backbone.velocity(*given)).abs().max() <= 1e-5 * v.abs().max()
    assert not v.requires_grad


def test_nothing_is_remembered_before_the_first_pair_that_learns(backbone):
    pairs = pairs_of(backbone, "subject")
    seen = []
    trunk = JointTrunk(backbone, compiled=False)
    trunk._looking = lambda block, *more: seen.append(block) or joint_block(block, *more)
    learned(trunk, paths_of(pairs, learn=True), pairs, inputs(backbone))
    assert seen == [backbone.transformer.transformer_blocks[0]]


def test_every_sample_may_have_pairs_of_its_own(backbone):
    """Three samples side by side are three samples one by one."""
    trunk = JointTrunk(backbone, compiled=False)
    given = inputs(backbone, count=3)
    each = [pairs_of(backbone, "subject", k) for k in range(3)]
    alone = []
    for k, pairs in enumerate(each):
        own = tuple(x[k : k + 1] for x in given)
        alone.append(learned(trunk, paths_of(pairs, learn=True), pairs, own))
    paths = stacked([paths_of(pairs, learn=True) for pairs in each])
    for pairs in each:
        for parameter in parameters_of(pairs):
            parameter.grad = None
    with trunk(paths) as velocity:
        together = velocity(*given)
        together.square().mean((1, 2, 3, 4)).sum().backward()
    for k, pairs in enumerate(each):
        grads = [parameter.grad for parameter in parameters_of(pairs)]
        assert_close((together[k : k + 1].detach(), grads), alone[k])


@pytest.mark.parametrize("block", [joint_block, thrifty_block])
def test_blocks_of_a_kind_share_one_graph(backbone, block):
    """However many layers: a graph for those that learn, and one for those that only pass on."""
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    trunk = JointTrunk(backbone, compiled=False)
    trunk._block = torch.compile(block, backend=counter, fullgraph=True, dynamic=False)
    pairs, given = pairs_of(backbone, "motion"), inputs(backbone)
    paths = paths_of(pairs, learn=True)
    compiled = learned(trunk, paths, pairs, given)
    assert counter.frame_count == 2
    assert_close(compiled, learned(PlainTrunk(backbone), paths, pairs, given))
    # Other pairs and another clip of the same shape: nothing is compiled again.
    others = pairs_of(backbone, "motion", "others")
    learned(trunk, paths_of(others, learn=True), others, inputs(backbone))
    assert counter.frame_count == 2


def test_stacked_paths_have_a_first_axis():
    paths = stacked([{"a": LowRankPath(torch.zeros(4, 8), torch.zeros(6, 4))}] * 3)
    assert paths["a"].down.shape == (3, 4, 8)
    assert paths["a"].up.shape == (3, 6, 4)
