import pytest

from chaos.targets import WORDS, draw_target, node_names, resolve, size
from testbed.base.rand import Streams

FIVE = node_names(5)


def random(seed=7):
    return Streams(seed).stream("targets")


@pytest.mark.parametrize(
    ("count", "sizes"),
    [
        (1, {"one": 1, "minority": 0, "majority": 1, "all": 1, "leader": 1, "followers": 0}),
        (2, {"one": 1, "minority": 0, "majority": 2, "all": 2, "leader": 1, "followers": 1}),
        (3, {"one": 1, "minority": 1, "majority": 2, "all": 3, "leader": 1, "followers": 2}),
        (4, {"one": 1, "minority": 1, "majority": 3, "all": 4, "leader": 1, "followers": 3}),
        (5, {"one": 1, "minority": 2, "majority": 3, "all": 5, "leader": 1, "followers": 4}),
    ],
)
def test_words_mean_that_many_nodes(count, sizes):
    assert {word: size(word, count) for word in WORDS} == sizes


@pytest.mark.parametrize("count", range(1, 32))
def test_a_minority_leaves_a_majority_and_a_majority_leaves_none(count):
    assert 2 * (count - size("minority", count)) > count
    assert 2 * size("majority", count) > count
    assert 2 * (count - size("majority", count)) <= count


def test_drawn_targets_are_distinct_nodes_in_the_clusters_order():
    for word in ("one", "minority", "majority", "all"):
        for seed in range(20):
            drawn = draw_target(word, FIVE, random(seed))
            assert len(drawn) == size(word, 5)
            assert list(drawn) == [node for node in FIVE if node in drawn]


def test_every_node_is_hit_by_some_seed():
    assert {draw_target("one", FIVE, random(seed))[0] for seed in range(60)} == set(FIVE)


def test_names_are_taken_as_they_are_and_draw_nothing():
    stream = random()
    assert draw_target(("n4", "n2"), FIVE, stream) == ("n2", "n4")
    assert stream.random() == random().random()


def test_leader_and_followers_stay_words_until_someone_leads():
    assert draw_target("leader", FIVE, random()) == "leader"
    assert draw_target("followers", FIVE, random()) == "followers"
    assert resolve("leader", FIVE, "n3") == ("n3",)
    assert resolve("followers", FIVE, "n3") == ("n1", "n2", "n4", "n5")
    assert resolve("leader", FIVE, None) is None
    assert resolve("followers", FIVE, None) is None
    assert resolve(("n1",), FIVE, None) == ("n1",)
