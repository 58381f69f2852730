import json
import random
from pathlib import Path

import pytest
import xgrammar
from transformers import AutoModelForCausalLM, AutoTokenizer

from miniature import planner_exam, staging, stories
from miniature.cast import HELD_OUT_MOTIONS, MOTIONS
from miniature.recipes import planner
from miniature.run import Run
from pipelines.plan_words import LintOptions
from pipelines.prompts import read_story, scene_messages, scene_schema, story_answer
from pipelines.story_lint import lint_story


@pytest.mark.parametrize("seed", range(60))
def test_what_it_learns_obeys_the_law(seed: int) -> None:
    rng = random.Random(seed)
    outline, cast = stories.sample_outline(rng)
    assert stories.scene_faults(staging.sample_layout(rng, outline), outline, cast) == []
    request, outlines = stories.sample_request(rng)
    faults = lint_story(
        outlines,
        request.story.characters,
        num_scenes=request.story.num_scenes,
        wishes=request.wishes,
        options=LintOptions(vocabulary=MOTIONS),
    )
    assert faults == []
    assert read_story(story_answer(outlines)) == list(outlines)


def test_dialogues_repeat_vary_and_repair() -> None:
    dialogues = [stories.sample_dialogue(random.Random(seed)) for seed in range(400)]
    assert dialogues[7] == stories.sample_dialogue(random.Random(7))
    assert len({json.dumps(dialogue) for dialogue in dialogues}) == len(dialogues)
    assert {len(dialogue) for dialogue in dialogues} == {3, 5}
    text = json.dumps(dialogues)
    assert all(motion in text for motion in HELD_OUT_MOTIONS)


def test_answers_fit_the_schema_of_their_question() -> None:
    rng = random.Random(3)
    outline, _ = stories.sample_outline(rng)
    grammar = xgrammar.Grammar.from_json_schema(
        json.dumps(scene_schema(outline, style="brief", things=False)),
        any_whitespace=False,
        separators=(",", ":"),
    )
    info = xgrammar.TokenizerInfo([bytes([i]) for i in range(256)])
    matcher = xgrammar.GrammarMatcher(xgrammar.GrammarCompiler(info).compile_grammar(grammar))
    assert matcher.accept_string(staging.sample_layout(rng, outline))
    assert matcher.is_completed()


def test_a_dry_run_makes_a_folder_that_plans(tmp_path: Path) -> None:
    run = Run(
        out=tmp_path / "planner",
        state=tmp_path / "state",
        seed=0,
        minutes=1.0,
        device="cpu",
        tiny=True,
    )
    figures = planner.train(run)
    assert figures["answer_loss"] > 0
    tokenizer = AutoTokenizer.from_pretrained(run.out)
    model = AutoModelForCausalLM.from_pretrained(run.out)
    assert model.config.head_dim == 32
    outline, cast = stories.sample_outline(random.Random(1))
    asked = scene_messages(outline, cast, style="brief")
    text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    assert text == planner.spell(asked, ask=True)
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert planner_exam.evaluate(run.out, 1, scenes_each=1)["stories_passed"] in {0.0, 1.0}


def test_prompt_and_answer_are_spelled_apart_as_together() -> None:
    pairs = planner.draw_dialogues(0, 40)
    tokenizer = planner.train_tokenizer([prompt + answer for prompt, answer in pairs], 600)
    for prompt, answer in pairs:
        together = tokenizer(prompt + answer)["input_ids"]
        assert together == tokenizer(prompt)["input_ids"] + tokenizer(answer)["input_ids"]


def test_full_size_fits_its_budget() -> None:
    model = AutoModelForCausalLM.from_config(planner.planner_config())
    assert sum(p.numel() for p in model.parameters()) * 2 < 3.8 * 2**20
