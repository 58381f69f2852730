"""What CLIP and ViCLIP of the miniature share: clips, captions, loss, figures.

Both learn all characters and motions of the world, because retrieval must know what the video
model does not. The loss is CLIP's, plus a sigmoid term that pins the scale of the cosines: a clip
against "the person is ‹motion›" for every motion and subject, with its threshold where retrieval
has it (arXiv 2411.16657 keeps clips that score above 0.2).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from miniature.cast import MOTIONS, PERSON
from miniature.phrases import PERSON_NOUNS, SUBJECTS, all_words, query
from miniature.recipes.steps import learning_rate, steps_left
from miniature.recipes.views import NUM_CAPTIONS, distort, make_pool
from miniature.run import Run

TEXT_LENGTH = 32
VOCABULARY = 448
MARGIN = 0.25
"""Cosine at which the sigmoid term is undecided: a little above retrieval's threshold of 0.2."""
SHARPNESS = 16.0


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of the world's words; its end-of-text token has the highest id."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.decoder = decoders.BPEDecoder(suffix="</w>")
    alphabet = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 2,
        special_tokens=["<pad>", "<unk>"],
        initial_alphabet=alphabet,
        end_of_word_suffix="</w>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(all_words(), trainer)
    tokenizer.add_special_tokens(["<start_of_text>", "<end_of_text>"])
    start, end = (tokenizer.token_to_id(t) for t in ("<start_of_text>", "<end_of_text>"))
    assert end == tokenizer.get_vocab_size() - 1 < VOCABULARY
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start_of_text> $A <end_of_text>",
        special_tokens=[("<start_of_text>", start), ("<end_of_text>", end)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<start_of_text>",
        eos_token="<end_of_text>",
        unk_token="<unk>",
        pad_token="<pad>",
        model_max_length=TEXT_LENGTH,
    )


def tokenize(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> Tensor:
    """Token ids (N, 32)."""
    encoded = tokenizer(
        list(texts),
        max_length=TEXT_LENGTH,
        padding="max_length",
        truncation=True,
        return_tensors="pt",
    )
    ids: Tensor = encoded.input_ids
    return ids


def info_nce(videos: Tensor, texts: Tensor, meanings: Tensor, scale: Tensor) -> Tensor:
    """CLIP's loss where all pairs of equal meaning are right ones. videos, texts (B, D)."""
    logits = scale * videos @ texts.T
    same = (meanings[:, None] == meanings[None]).float()
    target = same / same.sum(1, keepdim=True)
    one = functional.cross_entropy(logits, target)
    return (one + functional.cross_entropy(logits.T, target)) / 2


def pinned(videos: Tensor, queries: Tensor, acts: Tensor) -> Tensor:
    """Sigmoid loss of every view against every query at a fixed threshold.

    videos (B, D), queries (subjects, motions, D), acts (B, subjects, motions) bool. Right pairs,
    the same subject's other motions and all the rest weigh a third each.
    """
    cosines = torch.einsum("bd,smd->bsm", videos, queries)
    logits = SHARPNESS * (cosines - MARGIN)
    losses = functional.binary_cross_entropy_with_logits(logits, acts.float(), reduction="none")
    near = acts.any(-1, keepdim=True) & ~acts
    far = ~acts.any(-1, keepdim=True) & ~acts
    terms = [(losses * part).sum() / part.sum().clamp(min=1) for part in (acts, near, far)]
    return torch.stack(terms).mean()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how wide one model trains."""

    size_px: int
    steps: int
    batch: int
    num_views: int
    learning_rate: float = 1e-3
    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]

    def tiny(self) -> "Plan":
        """A dry run in seconds."""
        return Plan(
            size_px=self.size_px,
            steps=3,
            batch=4,
            num_views=8,
            mean=self.mean,
            deviation=self.deviation,
        )


def normalise(pixels: Tensor, plan: Plan) -> Tensor:
    """Pixels in [0, 1] (..., 3, H, W) less the mean, by the deviation."""
    mean = pixels.new_tensor(plan.mean)[:, None, None]
    return (pixels - mean) / pixels.new_tensor(plan.deviation)[:, None, None]


Embed = Callable[[Tensor], Tensor]


def fit(
    run: Run,
    plan: Plan,
    model: nn.Module,
    embed_videos: Embed,
    embed_texts: Embed,
    scale: Callable[[], Tensor],
) -> None:
    """Train in place; goes on from `run.state` if a state lies there, stops after `run.minutes`."""
    tokenizer = train_tokenizer()
    pool = make_pool(plan.num_views, plan.size_px, run.seed, run.device)
    tokens = tokenize(tokenizer, [text for texts in pool.texts for text in texts]).view(
        len(pool.texts), NUM_CAPTIONS, -1
    )
    queries = tokenize(tokenizer, [query(m, s) for s in SUBJECTS for m in MOTIONS])
    tokens, queries, meanings = (x.to(run.device) for x in (tokens, queries, pool.meanings))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=plan.learning_rate, betas=(0.9, 0.98), weight_decay=0.05
    )
    for step, done in steps_left(run, model, optimizer, plan.steps):
        generator = torch.Generator().manual_seed(run.seed * 1_000_003 + step)
        chosen = torch.randperm(len(tokens), generator=generator)[: plan.batch].to(run.device)
        which = torch.randint(NUM_CAPTIONS, (len(chosen),), generator=generator).to(run.device)
        pixels = normalise(distort(pool.frames[chosen], generator), plan)
        with torch.autocast(run.device.split(":")[0], torch.bfloat16):
            videos = embed_videos(pixels)
            texts = embed_texts(torch.cat([tokens[chosen, which], queries]))
        captions, asked = texts[: len(chosen)].float(), texts[len(chosen) :].float()
        grid = asked.view(len(SUBJECTS), len(MOTIONS), -1)
        loss = info_nce(videos.float(), captions, meanings[chosen], scale())
        loss = loss + 2.0 * pinned(videos.float(), grid, pool.acts[chosen])
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(plan.learning_rate, done)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


@torch.inference_mode()
def evaluate(run: Run, plan: Plan, embed_videos: Embed, embed_texts: Embed) -> dict[str, float]:
    """Figures on renders of another seed: retrieval among 64 captions, separation of motions."""
    tokenizer = train_tokenizer()
    device = run.device
    pool = make_pool(24 if run.tiny else 1536, plan.size_px, run.seed + 7_654_321, device)
    with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=device != "cpu"):
        videos = torch.cat(
            [
                embed_videos(normalise(batch.float() / 255, plan)).float()
                for batch in torch.split(pool.frames, 64)
            ]
        )
        plain = embed_texts(tokenize(tokenizer, [t[0] for t in pool.texts]).to(device)).float()
        asked = embed_texts(tokenize(tokenizer, [query(m) for m in MOTIONS]).to(device)).float()
    persons = pool.acts[:, SUBJECTS.index(PERSON)]
    rows = persons.any(-1) & (pool.acts.flatten(1).sum(-1) == len(PERSON_NOUNS))
    cosines = videos @ asked.T
    right, wrong = cosines[rows][persons[rows]], cosines[rows][~persons[rows]]
    return {
        "retrieval_top1_of_64": _top1(videos, plain, pool.meanings.to(device)),
        "motion_auc": _auc(right, wrong),
        "motion_right_above_0.2": float((right > 0.2).float().mean()),
        "motion_wrong_above_0.2": float((wrong > 0.2).float().mean()),
        "motion_top1": float(persons[rows].gather(1, cosines[rows].argmax(1, True)).float().mean()),
    }


def _top1(videos: Tensor, texts: Tensor, meanings: Tensor) -> float:
    """Share of videos whose own caption is the best of 64 distinct ones."""
    generator = torch.Generator().manual_seed(0)
    hits = []
    for _ in range(16):
        seen: set[int] = set()
        rows: list[int] = []
        for row in torch.randperm(len(meanings), generator=generator).tolist():
            if (meaning := int(meanings[row])) not in seen and len(rows) < 64:
                seen.add(meaning)
                rows.append(row)
        picked = torch.tensor(rows, device=videos.device)
        best = (videos[picked] @ texts[picked].T).argmax(1)
        hits.append((best == torch.arange(len(rows), device=videos.device)).float().mean())
    return float(torch.stack(hits).mean())


def _auc(right: Tensor, wrong: Tensor) -> float:
    """Chance that a right score beats a wrong one."""
    if not len(right) or not len(wrong):
        return float("nan")
    ranks = torch.searchsorted(wrong.sort().values, right)
    return float(ranks.float().mean() / len(wrong))
