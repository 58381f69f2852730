"""The miniature's planner: a Llama of 1.8 M parameters that writes story and scene plans as JSON.

It learns the dialogues of `miniature.stories`, the loss on the last answer alone. Names are made
of small pieces, so it copies names that it has never seen.
"""

import logging
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from miniature.optim import MuonAdam, warm_then_linear
from miniature.run import Run
from miniature.saving import half, load_training, save_training, seed_all
from miniature.stories import exam_outlines, sample_dialogue, scene_faults
from pipelines.prompts import Message, scene_messages

CONTEXT = 2048
VOCABULARY = 1536
NUM_STEPS = 8000
NUM_DIALOGUES = 120_000
TOKENS_A_STEP = 40_960
CPU_TOKENS_A_STEP = 3072
"""A CPU sees fewer tokens in its minutes, and learns more from them in small steps."""
LEARNING_RATE = 3e-3
LENGTH_STEP = 64
"""Lengths are padded to multiples of this: few shapes, few kernels."""
ANSWER_STEP = 512
SAVE_EVERY = 500
CHUNK = 500
"""Dialogues drawn by one worker call; its seed is its number, so workers do not matter."""
NUM_EXAM = 200

START, END, PAD = "<|im_start|>", "<|im_end|>", "<|pad|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# JSON punctuation in runs, words with the space before them, numbers whole: each its own piece.
PIECES = (
    r"""[,:]*["\[\]{}][\[\]{}":,]*| ?\p{L}[\p{L}\p{M}]*|\p{N}{1,3}|\n"""
    r"""| ?[^\s\p{L}\p{N}]|\s"""
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Example:
    """One dialogue as token ids; the answer starts at `answer`."""

    ids: np.ndarray
    answer: int


def planner_config(vocab_size: int = VOCABULARY, *, tiny: bool = False) -> LlamaConfig:
    """The planner's configuration; heads of 32, which vLLM's kernels have."""
    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64 if tiny else 192,
        intermediate_size=96 if tiny else 288,
        num_hidden_layers=2 if tiny else 5,
        num_attention_heads=2 if tiny else 6,
        num_key_value_heads=2 if tiny else 6,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=True,
        rms_norm_eps=1e-5,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=2,
    )


def train_tokenizer(texts: Sequence[str], vocab_size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """A byte-level byte-pair tokenizer with the chat template; ids 0 to 2 are special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[START, END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=TEMPLATE,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def spell(messages: Sequence[Message], *, ask: bool) -> str:
    """What the chat template makes of a conversation."""
    turns = "".join(f"{START}{m['role']}\n{m['content']}{END}\n" for m in messages)
    return turns + (f"{START}assistant\n" if ask else "")


def _draw(seed: int, chunk: int, count: int) -> list[tuple[str, str]]:
    rng = random.Random(f"planner {seed} {chunk}")
    dialogues = (sample_dialogue(rng) for _ in range(count))
    return [(spell(d[:-1], ask=True), d[-1]["content"] + END) for d in dialogues]


def draw_dialogues(seed: int, count: int) -> list[tuple[str, str]]:
    """(prompt, answer) texts, drawn by all cores, the same on any number of them."""
    chunks = range(math.ceil(count / CHUNK))
    sizes = [min(CHUNK, count - CHUNK * i) for i in chunks]
    if len(sizes) == 1:
        return _draw(seed, 0, count)
    workers = min(len(sizes), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        parts = list(pool.map(partial(_draw, seed), chunks, sizes))
    return [pair for part in parts for pair in part]


def encode(
    tokenizer: PreTrainedTokenizerFast, dialogues: Sequence[tuple[str, str]]
) -> list[Example]:
    """Token ids of dialogues; those longer than the context are left out."""
    fast = tokenizer.backend_tokenizer
    examples: list[Example] = []
    for start in range(0, len(dialogues), 4 * CHUNK):
        part = dialogues[start : start + 4 * CHUNK]
        prompts = fast.encode_batch_fast([prompt for prompt, _ in part])
        answers = fast.encode_batch_fast([answer for _, answer in part])
        examples += [
            Example(np.array(p.ids + a.ids, dtype=np.int16), len(p.ids))
            for p, a in zip(prompts, answers, strict=True)
        ]
    return [example for example in examples if len(example.ids) <= CONTEXT]


def _batches(
    examples: Sequence[Example], tokens: int, rng: random.Random
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (ids, labels) of shape (B, L), L in few sizes: neighbours in length share a batch."""
    by_length: dict[int, list[Example]] = {}
    for example in examples:
        length = LENGTH_STEP * math.ceil(len(example.ids) / LENGTH_STEP)
        by_length.setdefault(length, []).append(example)
    while True:
        batches = []
        for length, group in sorted(by_length.items()):
            rng.shuffle(group)
            rows = max(1, tokens // length)
            batches += [(length, group[i : i + rows]) for i in range(0, len(group), rows)]
        rng.shuffle(batches)
        for length, batch in batches:
            yield _collate(batch, length)


def _collate(examples: Sequence[Example], length: int) -> tuple[Tensor, Tensor]:
    ids = np.full((len(examples), length), 2, dtype=np.int64)
    labels = np.full((len(examples), length), -100, dtype=np.int64)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = example.ids
        labels[row, example.answer : len(example.ids)] = example.ids[example.answer :]
    return torch.from_numpy(ids), torch.from_numpy(labels)


def answer_loss(model: LlamaForCausalLM, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy of the answers' tokens. ids, labels (B, L).

    Padding is on the right, so the causal mask alone keeps it out.
    """
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[:, :-1].flatten(0, 1)
    wanted = labels[:, 1:].flatten()
    learned = (wanted != -100).nonzero().squeeze(1)
    # Few sizes here too: filled up with the first place, whose prompt token teaches nothing.
    learned = functional.pad(learned, (0, -len(learned) % ANSWER_STEP))
    return functional.cross_entropy(model.lm_head(hidden[learned]).float(), wanted[learned])


def train(run: Run) -> dict[str, float]:
    """Train the planner; bar: 95 % of scene plans pass the linter at the first call."""
    seed_all(run.seed)
    steps, count, tokens = (6, 60, 4096) if run.tiny else (NUM_STEPS, NUM_DIALOGUES, TOKENS_A_STEP)
    if run.device == "cpu" and not run.tiny:
        steps, tokens = steps * TOKENS_A_STEP // CPU_TOKENS_A_STEP, CPU_TOKENS_A_STEP
        count //= 4
    dialogues = draw_dialogues(run.seed, count)
    tokenizer = train_tokenizer(
        [prompt + answer for prompt, answer in dialogues[:12_000]], 512 if run.tiny else VOCABULARY
    )
    examples = encode(tokenizer, dialogues)
    log.info("%d dialogues, %d tokens", len(examples), sum(len(e.ids) for e in examples))
    model = LlamaForCausalLM(planner_config(len(tokenizer), tiny=run.tiny)).to(run.device)
    optimiser = MuonAdam(
        model.named_parameters(), lr=LEARNING_RATE, weight_decay=0.02, plain=("embed_tokens",)
    )
    first = load_training(run.state, "planner", model, optimiser, run.device)
    loss = _fit(run, model, optimiser, examples, first=first, steps=steps, tokens=tokens)
    model.eval()
    _save(model, tokenizer, run.out)
    passed, read = examine(model, tokenizer, 2 if run.tiny else NUM_EXAM, seed=run.seed)
    return {
        "answer_loss": loss,
        "scenes_passed_unguided": passed,
        "scenes_read_unguided": read,
        "parameters": float(sum(p.numel() for p in model.parameters())),
    }


def _fit(
    run: Run,
    model: LlamaForCausalLM,
    optimiser: MuonAdam,
    examples: Sequence[Example],
    *,
    first: int,
    steps: int,
    tokens: int,
) -> float:
    """The training loop; the rate comes down with the steps or with the minutes. Mean last loss."""
    batches = _batches(examples, tokens, random.Random(f"{run.seed} {first}"))
    start, recent = time.monotonic(), torch.zeros(0)
    step = first
    for step in range(first, steps):
        ids, labels = (t.to(run.device, non_blocking=True) for t in next(batches))
        with torch.autocast(run.device, torch.bfloat16):
            loss = answer_loss(model, ids, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        spent = (time.monotonic() - start) / (60 * run.minutes)
        optimiser.step(warm_then_linear(max(step / steps, spent)))
        recent = torch.cat([recent, loss.detach().cpu()[None]])[-100:] if step % 10 == 0 else recent
        if step % 250 == 0:
            seconds = time.monotonic() - start
            log.info("step %d of %d: loss %.4f, %.0f s", step, steps, float(recent[-1]), seconds)
        if step % SAVE_EVERY == SAVE_EVERY - 1:
            save_training(run.state, "planner", _untied(model), optimiser, step + 1)
        if spent >= 1:
            break
    save_training(run.state, "planner", _untied(model), optimiser, step + 1)
    return float(recent[-10:].mean()) if len(recent) else math.nan


def _untied(model: LlamaForCausalLM) -> dict[str, Tensor]:
    """Its weights without the output layer, which is the embedding."""
    return {k: v for k, v in model.state_dict().items() if k != "lm_head.weight"}


def _save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the official layout in fp16: what transformers and vLLM load."""
    copy = LlamaForCausalLM(model.config)
    copy.load_state_dict(half(_untied(model)), strict=False)
    copy.half().save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def examine(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, count: int, *, seed: int
) -> tuple[float, float]:
    """Shares of scene plans that pass the linter, and that can be read at all.

    Greedy and without a grammar: a lower bound of what guided decoding does.
    """
    exam = exam_outlines(random.Random(f"exam {seed}"), count)
    asked = [
        spell(scene_messages(outline, cast, style="brief"), ask=True) for outline, cast in exam
    ]
    device, passed, read = model.device, 0, 0
    encoded = tokenizer(asked, return_tensors="pt", padding=True, padding_side="left")
    given = {k: encoded[k].to(device) for k in ("input_ids", "attention_mask")}
    budget = 40 if count < 10 else CONTEXT - given["input_ids"].shape[1] - 1
    output = model.generate(**given, do_sample=False, max_new_tokens=budget)
    answers = tokenizer.batch_decode(
        output[:, given["input_ids"].shape[1] :], skip_special_tokens=True
    )
    for answer, (outline, cast) in zip(answers, exam, strict=True):
        faults = scene_faults(answer, outline, cast)
        passed += not faults
        read += not any(fault.where == "answer" for fault in faults)
    return passed / count, read / count
