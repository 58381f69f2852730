"""What films still need is counted once, however many of them need it."""

import asyncio

from cluster.artifacts import LocalStore
from cluster.estimate import counted, estimate, whole_films
from cluster.outlook import look_ahead
from cluster.profiles import load_profile
from tests.cluster.samples import sample_order, sample_plan
from tests.cluster.test_film import stand_in


def counts(store, orders):
    outlooks = [asyncio.run(look_ahead(store, order)) for order in orders]
    return dict(estimate(orders, outlooks, load_profile("miniature")).counts)


def test_one_is_not_many():
    names = ("scene", "story", "clip search")
    assert [counted(1, name) for name in names] == ["1 scene", "1 story", "1 clip search"]
    assert [counted(2, name) for name in names] == ["2 scenes", "2 stories", "2 clip searches"]


def test_what_films_share_counts_once(tmp_path):
    orders = [sample_order(seed=seed) for seed in (0, 1)]
    assert counts(LocalStore(tmp_path), orders) == {
        **{"corpus": 1, "index": 1, "clips": 2, "motion-prior": 2, "subject-prior": 1},
        **{"scene": 6, "film": 2},
    }


def test_one_film_needs_what_it_needs_alone(tmp_path):
    assert counts(LocalStore(tmp_path), [sample_order()]) == {
        **{"corpus": 1, "index": 1, "clips": 2, "motion-prior": 2, "subject-prior": 1},
        **{"scene": 3, "film": 1},
    }


def test_what_is_there_is_not_to_be_done(tmp_path):
    store, orders = LocalStore(tmp_path), [sample_order(seed=seed) for seed in (0, 1)]
    stand_in(store, orders[0].studio.build_library()[0])
    (subject,) = orders[0].subject_priors(sample_plan()).values()
    stand_in(store, subject)
    left = counts(store, orders)
    assert "corpus" not in left
    assert "subject-prior" not in left
    assert (left["index"], left["scene"]) == (1, 6)


def test_films_that_are_not_planned_are_guessed():
    unplanned = sample_order(plan=None, wishes=("bowing",))
    whole = whole_films([unplanned, unplanned], [None, None])
    assert (whole["plan"], whole["scene"], whole["film"]) == (2, 6, 2)
    assert (whole["corpus"], whole["index"]) == (1, 1)
