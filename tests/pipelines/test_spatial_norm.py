"""Spatial norms at the latents' size are the library's own, and the decoder's pictures too."""

import copy

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXSpatialNorm3D

from miniature.recipes.vae import make_vae
from pipelines.spatial_norm import shrink_norms


@pytest.mark.parametrize("num_latents", [1, 2, 5])
def test_the_decoder_shows_the_same(num_latents: int) -> None:
    torch.manual_seed(0)
    plain = make_vae().eval()
    for parameter in plain.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    small = copy.deepcopy(plain)
    shrink_norms(small)
    latents = torch.randn(1, 16, num_latents, 4, 6)
    with torch.no_grad():
        assert torch.allclose(
            small.decode(latents).sample, plain.decode(latents).sample, atol=1e-5, rtol=1e-5
        )
    norms = [m for m in small.modules() if isinstance(m, CogVideoXSpatialNorm3D)]
    assert norms
    assert all(type(norm) is not CogVideoXSpatialNorm3D for norm in norms), "nothing was tested"


def test_gradients_are_the_same() -> None:
    torch.manual_seed(0)
    plain = CogVideoXSpatialNorm3D(8, 4, groups=2)
    small = copy.deepcopy(plain)
    shrink_norms(small)  # of a module that is one itself
    frames, latents = torch.randn(1, 8, 9, 8, 12), torch.randn(1, 4, 3, 2, 3)
    found = []
    for norm in (plain, small):
        f, z = frames.clone().requires_grad_(), latents.clone().requires_grad_()
        norm(f, z)[0].square().sum().backward()
        found.append((f.grad, z.grad, norm.conv_y.conv.weight.grad))
    for ours, theirs in zip(*found, strict=True):
        assert ours is not None
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def test_nothing_is_kept_for_the_next_chunk() -> None:
    norm = CogVideoXSpatialNorm3D(8, 4, groups=2)
    shrink_norms(norm)
    assert norm(torch.randn(1, 8, 8, 8, 12), torch.randn(1, 4, 2, 2, 3))[1] == {}
