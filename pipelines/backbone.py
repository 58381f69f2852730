"""The video model: any CogVideoX pipeline folder, loaded the ordinary way, and what is asked of it.

Text in, latents out and back. What to generate and how to sample is not here (`render`), nor is
anything learned (`priors`). Shapes: B clips, F frames, T latent frames, C channels, L text tokens.
"""

import copy
import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    CogVideoXPipeline,
    DiffusionPipeline,
)
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXResnetBlock3D
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.models.upsampling import CogVideoXUpsample3D
from diffusers.utils import logging as diffusers_log
from torch import Tensor, nn
from transformers.utils import logging as transformers_log

from pipelines.regions import TokenGrid
from pipelines.spatial_norm import shrink_norms

Sampler = Literal["dpm", "ddim"]
MAX_CACHED_TEXTS = 512


def default_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the hardware multiplies it natively, else fp32."""
    if device.type == "cuda":
        return torch.bfloat16
    multiplies_bf16 = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if multiplies_bf16 else torch.float32


class Backbone:
    """A loaded CogVideoX: transformer, VAE, text encoder, tokenizer, noise schedule; all frozen."""

    def __init__(self, pipeline: Any, folder: Path, device: torch.device) -> None:
        self.folder, self.device = folder, device
        self.transformer = pipeline.transformer.requires_grad_(False).eval()
        self.vae = pipeline.vae.requires_grad_(False).eval()
        shrink_norms(self.vae)
        self.text_encoder = pipeline.text_encoder.requires_grad_(False).eval()
        self.tokenizer = pipeline.tokenizer
        self._schedule = dict(pipeline.scheduler.config)
        self._texts: OrderedDict[str, Tensor] = OrderedDict()
        self.compiled = False
        if self.transformer.config.patch_size_t is not None:
            raise ValueError(
                f"{folder} is a CogVideoX 1.5 model (patches in time); use a 2B or 5B of 1.0"
            )

    @classmethod
    def load(
        cls, model: str | Path, device: str = "cpu", dtype: torch.dtype | None = None
    ) -> "Backbone":
        """Load a local pipeline folder, or a hub id that is cached or reachable.

        ``dtype`` is the transformer's and the VAE's (None: `default_dtype`); the text encoder stays
        fp32 on a CPU. Only safetensors are read. Raises `ValueError` when there is no such folder.
        """
        place = torch.device(device)
        dtype = dtype or default_dtype(place)
        folder = _folder_of(model)
        text_dtype = torch.float32 if place.type == "cpu" else dtype
        with quiet_loading():
            pipeline = CogVideoXPipeline.from_pretrained(
                folder,
                dtype={"default": dtype, "text_encoder": text_dtype},
                use_safetensors=True,
            )
        return cls(pipeline.to(place), folder, place)

    def compile(self, *, decoder: bool = True) -> None:
        """Compile the transformer's blocks on first use: one graph serves all blocks, any layout
        and any number of captions. With ``decoder``, the autoencoder's too."""
        self.compiled = True
        _compile(self.transformer.transformer_blocks, fullgraph=True)
        if decoder:
            self.compile_decoder()

    def compile_decoder(self) -> None:
        """Compile the decoder's blocks on first use, once for each of a clip's few shapes."""
        decoder = self.vae.decoder
        blocks = [m for m in decoder.modules() if isinstance(m, CogVideoXResnetBlock3D)]
        others = [m for m in decoder.modules() if isinstance(m, CogVideoXUpsample3D)]
        _compile([*blocks, *others, decoder.norm_out], dynamic=False)

    def twin(self, device: str) -> "Backbone":
        """The same model with a transformer of its own on another device; the rest is shared."""
        other = copy.copy(self)
        other.device = torch.device(device)
        other.transformer = copy.deepcopy(self.transformer).to(other.device)
        if self.compiled:
            other.compile(decoder=False)
        return other

    @cached_property
    def revision(self) -> str:
        """A hash of every file of the folder: the model's name in artifact keys."""
        return folder_revision(self.folder)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.transformer.dtype
        return dtype

    @property
    def text_length(self) -> int:
        """L: tokens of one caption, padding included."""
        return int(self.transformer.config.max_text_seq_length)

    @property
    def num_frames(self) -> int:
        """Frames of a full clip, 4n+1; of a model as the authors run theirs, 4n."""
        return int(self.transformer.config.sample_frames)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of a frame."""
        factor = 2 ** (len(self.vae.config.block_out_channels) - 1)
        config = self.transformer.config
        return config.sample_height * factor, config.sample_width * factor

    def num_latents(self, num_frames: int) -> int:
        """Latent frames of a clip. Raises `ValueError` unless the frames are 4n+1, or 4n and as
        many as the model's own: then each latent frame holds four."""
        ratio = int(self.transformer.config.temporal_compression_ratio)
        if num_frames == self.num_frames and num_frames % ratio == 0:
            return num_frames // ratio
        if num_frames < 1 or (num_frames - 1) % ratio:
            raise ValueError(
                f"{num_frames} frames; the VAE takes {ratio}n+1, such as {ratio * 4 + 1}"
            )
        return (num_frames - 1) // ratio + 1

    def grid(self, num_frames: int | None = None) -> TokenGrid:
        """The visual tokens of a clip of so many frames (default: a full clip)."""
        config = self.transformer.config
        return TokenGrid(
            self.num_latents(num_frames or self.num_frames),
            config.sample_height // config.patch_size,
            config.sample_width // config.patch_size,
        )

    def latent_shape(self, num_frames: int | None = None) -> tuple[int, int, int, int]:
        """(T, C, h, w) of a clip's latents."""
        config = self.transformer.config
        num_latents = self.num_latents(num_frames or self.num_frames)
        return num_latents, config.in_channels, config.sample_height, config.sample_width

    def scheduler(self, sampler: Sampler = "dpm") -> Any:
        """A fresh CogVideoX scheduler with the model's own noise schedule."""
        kind = CogVideoXDPMScheduler if sampler == "dpm" else CogVideoXDDIMScheduler
        return kind.from_config(self._schedule)

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Tensor:
        """(n, L, D) in the transformer's dtype; padding included and unmasked, as it was trained.

        The last `MAX_CACHED_TEXTS` distinct texts are remembered. Longer texts are cut at L tokens.
        """
        fresh = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if fresh:
            tokens = self.tokenizer(
                fresh,
                padding="max_length",
                max_length=self.text_length,
                truncation=True,
                return_tensors="pt",
            )
            states = self.text_encoder(tokens.input_ids.to(self.device)).last_hidden_state
            self._texts.update(zip(fresh, states.to(self.dtype), strict=True))
        for text in texts:
            self._texts.move_to_end(text)
        found = torch.stack([self._texts[text] for text in texts])
        while len(self._texts) > MAX_CACHED_TEXTS:
            self._texts.popitem(last=False)
        return found

    @torch.no_grad()
    def encode_video(self, pixels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Scaled latents, fp32 (B, T, C, h, w), of pixels (B, 3, F, H, W) in [-1, 1].

        Without a generator the posterior's mode. Raises `ValueError` on integers and on pixels
        outside [-1, 1]: a clip must be scaled first.
        """
        if not pixels.is_floating_point() or pixels.abs().max() > 1.001:
            raise ValueError("pixels must be floats in [-1, 1]; scale uint8 by x / 127.5 - 1")
        self.num_latents(pixels.shape[2])
        posterior = self.vae.encode(pixels.to(self.device, self.vae.dtype)).latent_dist
        latents = posterior.mode() if generator is None else posterior.sample(generator)
        scaled: Tensor = latents.transpose(1, 2).float() * self.vae.config.scaling_factor
        return scaled

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """uint8 (B, F, H, W, 3) of scaled latents (B, T, C, h, w)."""
        unscaled = latents.to(self.device).float() / self.vae.config.scaling_factor
        video = self.vae.decode(unscaled.to(self.vae.dtype).transpose(1, 2)).sample
        bright: Tensor = (video.float() / 2 + 0.5).clamp(0, 1) * 255
        return bright.round().to(torch.uint8).permute(0, 2, 3, 4, 1).contiguous()

    def rotary(self, num_latents: int) -> tuple[Tensor, Tensor] | None:
        """Rotary tables (V, D) of a 5B model, t, h, w order; None for a 2B: it adds positions."""
        config = self.transformer.config
        if not config.use_rotary_positional_embeddings:
            return None
        height, width = self.size_tokens
        tables: tuple[Tensor, Tensor] = get_3d_rotary_pos_embed(
            embed_dim=config.attention_head_dim,
            crops_coords=((0, 0), (height, width)),
            grid_size=(height, width),
            temporal_size=num_latents,
            device=self.device,
        )
        return tables

    @property
    def size_tokens(self) -> tuple[int, int]:
        """Token rows and columns of a latent frame."""
        grid = self.grid(1)
        return grid.height, grid.width

    def velocity(
        self,
        noisy: Tensor,
        text: Tensor,
        timesteps: Tensor,
        *,
        rotary: tuple[Tensor, Tensor] | None = None,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Tensor:
        """The model's v, fp32 (B, T, C, h, w), of noisy latents of that shape; text (B, L, D).

        ``rotary`` replaces the model's own tables, when its tokens are sorted.
        """
        prediction: Tensor = self.transformer(
            hidden_states=noisy.to(self.device, self.dtype),
            encoder_hidden_states=text,
            timestep=timesteps.to(self.device),
            image_rotary_emb=rotary or self.rotary(noisy.shape[1]),
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )[0]
        return prediction.float()


def _compile(modules: Iterable[nn.Module], **how: Any) -> None:
    limit = torch._dynamo.config.recompile_limit
    torch._dynamo.config.recompile_limit = max(limit, 32)
    for module in modules:
        module.compile(**how)


@contextmanager
def quiet_loading() -> Iterator[None]:
    """No progress bars of diffusers and transformers: loading has no owner to report to."""
    shown = [x for x in (diffusers_log, transformers_log) if x.is_progress_bar_enabled()]
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()


def _folder_of(model: str | Path) -> Path:
    path = Path(model)
    if (path / "model_index.json").is_file():
        return path
    if path.exists() or path.is_absolute() or str(model).startswith("."):
        raise ValueError(f"{model} is no CogVideoX folder: it has no model_index.json")
    try:
        return Path(DiffusionPipeline.download(str(model), use_safetensors=True))
    except OSError as error:
        raise ValueError(
            f"{model} is no CogVideoX folder, and no hub model that is here or in reach: {error}"
        ) from error


def folder_revision(folder: Path) -> str:
    """A short hash over names and bytes of every file under a folder."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode() + b"\0")
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
