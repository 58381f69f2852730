"""The planner's worker: who is in a story that names nobody."""

import json

from cluster.planning import Planner
from cluster.reader import PLAN
from cluster.studio import Numbers
from pipelines.plan import StoryPlan
from pipelines.progress import silent
from tests.cluster.samples import sample_studio
from tests.pipelines.test_planner import OUTLINES, Script, layout


def test_of_a_topic_without_characters_the_model_says_who_is_in_it(tmp_path):
    cast = [{"name": "Ann", "phrase": "witch"}, {"name": "Bob", "phrase": "bear"}]
    engine = Script(json.dumps({"cast": cast}), OUTLINES, layout())
    numbers = Numbers(**{name: {} for name in Numbers.model_fields})
    numbers.planner["style"] = "brief"
    studio = sample_studio(numbers=numbers)
    planner = Planner("cpu", engine)
    planner.make(studio.write_plan("Ann meets Bob", (), 1, ()), tmp_path, None, silent)
    plan = StoryPlan.model_validate_json((tmp_path / PLAN).read_bytes())
    assert plan.characters == ("Ann", "Bob")
    assert "Ann (witch), Bob (bear)" in engine.asked[1][-1]["content"]
