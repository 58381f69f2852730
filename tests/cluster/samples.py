"""Plans and orders small enough to read."""

from cluster.artifacts import Place
from cluster.order import Order
from cluster.studio import Corpus, Member, Models, Numbers, Studio
from pipelines.plan import Box, KeyFrame, Layout, Region, Scene, StoryPlan


def scene_of(entity: str, motion: str, place: str) -> Scene:
    """One entity that does one thing in the middle of a place."""
    caption = f"a {entity} is {motion} in the {place}"
    box = Box(left=0.2, top=0.0, right=0.8, bottom=1.0)
    frame = KeyFrame(regions=(Region.of(entity, motion, caption, box),))
    layout = Layout(background=f"the {place}", key_frames=(frame,) * 6)
    narration = f"The {entity} is {motion}."
    return Scene(place=place, narration=narration, motions=(motion,), layout=layout)


def sample_plan() -> StoryPlan:
    """Two characters, two motions to learn and one that is known."""
    scenes = (
        scene_of("pirate", "bowing", "forest"),
        scene_of("witch", "walking", "city"),
        scene_of("pirate", "kicking", "beach"),
    )
    return StoryPlan(topic="a day", characters=("pirate", "witch"), scenes=scenes)


def nowhere(name: str) -> Place:
    """Something whose content is its name."""
    return Place(path=f"/nowhere/{name}", content=name)


def sample_studio(**changes: object) -> Studio:
    """A studio whose models are nowhere."""
    fields: dict[str, object] = {
        "models": Models(**{name: nowhere(name) for name in Models.model_fields}),
        "engine": "transformers",
        "corpus": Corpus(make=("true",), manifest_name="manifest.jsonl"),
        "known_motions": ("walking",),
        "numbers": Numbers(**{name: {} for name in Numbers.model_fields}),
        "token": "[v1]",
        "prior_seed": 0,
        "fps": 8.0,
        "crf": 18,
    }
    return Studio.model_validate(fields | changes)


def sample_order(**changes: object) -> Order:
    """The sample plan, in the sample studio."""
    fields: dict[str, object] = {
        "topic": "a day",
        "cast": (
            Member(name="pirate", phrase="pirate", images=(nowhere("pirate.png"),)),
            Member(name="witch", phrase="witch"),
        ),
        "num_scenes": 3,
        "plan": sample_plan(),
        "studio": sample_studio(),
    }
    return Order.model_validate(fields | changes)
