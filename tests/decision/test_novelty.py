import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.neighbors import NearestNeighbors

from wirebert.decision.novelty import (
    MAX_DISTANCE,
    RELATIVE_MAX_DISTANCE,
    ColumnSpace,
    Neighbours,
    NoveltyScorer,
    _distinct_rows,  # pyright: ignore[reportPrivateUsage]
    farthest_first,
)


def points(num_flows: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    class_ids = rng.integers(0, 3, num_flows)
    centres = np.array([[0.0, 0, 0, 0], [5, 0, 0, 0], [0, 9, 0, 0]])
    return centres[class_ids] + rng.normal(size=(num_flows, 4)) @ np.diag([1.0, 2, 0.5, 1]), class_ids


def test_neighbours_are_scikit_learns() -> None:
    flows, _ = points()
    others = np.random.default_rng(1).normal(size=(300, 4)) * 4
    expected = NearestNeighbors(n_neighbors=1).fit(flows).kneighbors(others)[0][:, 0]
    found = Neighbours.fit(flows, len(flows), 0).distances(others)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_dimensions_in_which_all_that_were_kept_agree_count_in_the_distance() -> None:
    flows, _ = points()
    flows = np.insert(flows, 2, 7.0, axis=1)
    others = np.random.default_rng(1).normal(size=(1100, 5)) * 4  # more than are looked at at once
    expected = NearestNeighbors(n_neighbors=1).fit(flows).kneighbors(others)[0][:, 0]
    found = Neighbours.fit(flows, len(flows), 0).distances(others)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_equal_flows_are_kept_once_and_no_more_than_asked_for() -> None:
    flows = np.repeat(np.arange(20.0)[:, None], 50, axis=0)
    assert len(Neighbours.fit(flows, 100, 0).kept) == 20
    assert len(Neighbours.fit(flows, 7, 0).kept) == 7
    assert len(Neighbours.fit(np.array([[0.0], [-0.0]]), 100, 0).kept) == 1


def test_a_flow_near_dense_traffic_is_more_novel_than_one_as_far_from_sparse_traffic() -> None:
    rng = np.random.default_rng(0)
    dense, sparse = rng.normal(size=(900, 2)) * 0.1, rng.normal(size=(300, 2)) * 5 + [100, 0]
    known = np.concatenate([dense, sparse])
    near = Neighbours.fit(known, len(known), 0, is_relative=True)
    plain = Neighbours.fit(known, len(known), 0)
    others = np.stack([dense[0] + np.array([0, 3]), sparse[0] + np.array([0, 30])])
    distance, relative = plain.distances(others), near.distances(others)
    # Worked out slowly: sqrt of (usual + the distance to the tenth other flow) / (2 usual).
    search = NearestNeighbors(n_neighbors=11).fit(near.kept)
    apart = search.kneighbors(near.kept)[0][:, -1]
    nearest = search.kneighbors(others)[1][:, 0]
    usual = np.median(apart)
    expected = distance / np.sqrt((usual + apart[nearest]) / (2 * usual))
    np.testing.assert_allclose(relative, expected, rtol=0.1)  # what is usual comes from a sample
    assert relative[0] / distance[0] > 1.5 * relative[1] / distance[1]
    assert Neighbours.fit(known[:1], 5, 0, is_relative=True).distances(known[:1]) == 0


def test_the_gaps_come_back_from_the_artifact_and_bound_the_dimensions() -> None:
    table = pa.table({"bytes": pa.array([1.0, 2, 3, 4, 5] * 10)})
    scorer = NoveltyScorer.fit(table, 3, 0, is_relative=True)
    again = NoveltyScorer.of(scorer.codes, scorer.arrays)
    far = pa.table({"bytes": pa.array([1e9])})
    np.testing.assert_array_equal(again.scores(far), scorer.scores(far))
    assert np.abs(again.space.points(far)).max() == RELATIVE_MAX_DISTANCE
    assert np.abs(NoveltyScorer.fit(table, 3, 0).space.points(far)).max() == MAX_DISTANCE
    saved = {name: array for name, array in scorer.arrays.items() if name != "gaps"}
    assert NoveltyScorer.of(scorer.codes, saved).space.max_distance == RELATIVE_MAX_DISTANCE


def greedy(points: np.ndarray, num_chosen: int, first: int) -> list[int]:
    """Farthest-first choice, one point at a time."""
    chosen, apart = [first], np.full(len(points), np.inf)
    while len(chosen) < num_chosen:
        apart = np.minimum(apart, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(apart.argmax()))
    return chosen


@pytest.mark.parametrize("num_chosen", [1, 2, 300, 1200])
def test_each_flow_that_is_kept_is_the_farthest_from_all_before_it(num_chosen: int) -> None:
    points = np.random.default_rng(0).normal(size=(1500, 3)).astype(np.float32)
    found = farthest_first(points, num_chosen, 5)
    assert found.tolist() == greedy(points.astype(np.float64), num_chosen, int(found[0]))


def test_a_flow_far_from_all_others_is_kept_however_few_are() -> None:
    points = np.concatenate([np.random.default_rng(0).normal(size=(5000, 2)), [[40.0, 0], [0, -40]]])
    assert {5000, 5001} <= set(farthest_first(points.astype(np.float32), 4, 1).tolist())


def test_those_that_stand_for_all_are_chosen_like_that() -> None:
    points = np.concatenate([np.random.default_rng(0).normal(size=(5000, 2)), [[40.0, 0], [0, -40]]])
    kept = Neighbours.fit(points, 4, 1).kept
    assert len(kept) == 4
    assert {40.0, -40.0} <= set(np.asarray(kept, np.float64).ravel().tolist())


def test_points_that_differ_in_nothing_that_can_be_told_are_each_chosen_once() -> None:
    points = np.full((20, 2), 100.0, np.float32)
    points[:, 0] += np.arange(20, dtype=np.float32) * 1e-4
    assert sorted(farthest_first(points, 30, 0).tolist()) == list(range(20))


def measured(num_rows: int = 200, seed: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    numbers = rng.lognormal(5, 2, num_rows)
    return pa.table(
        {
            "bytes": pa.array(np.where(rng.random(num_rows) < 0.1, np.nan, numbers), from_pandas=True),
            "service": [["http", "dns", None][at] for at in rng.integers(0, 3, num_rows)],
        }
    )


def test_dimensions_are_standardised_and_cut() -> None:
    table = measured()
    space = ColumnSpace.fit(table)
    found = space.points(table)
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=0.02)
    assert found.shape == (200, 2 + 5)  # number, missing; http, dns, rare, never met, missing
    far = pa.table({"bytes": [1e300], "service": ["ssh"]})
    assert np.abs(space.points(far)).max() == 10


def test_what_is_unlike_training_is_stranger_than_what_is_not() -> None:
    strange = NoveltyScorer.fit(measured(), 150, 0)
    usual = strange.scores(measured(seed=1))
    odd = strange.scores(pa.table({"bytes": [1e12, 200.0, 200.0], "service": ["http", "ssh", "dns"]}))
    assert odd[0] > np.quantile(usual, 0.99)  # a number that training never had
    assert odd[1] > np.quantile(usual, 0.99)  # a category that training never had
    assert odd[2] < np.quantile(usual, 0.99)


def test_training_flows_that_were_kept_are_no_strangers() -> None:
    assert NoveltyScorer.fit(measured(), 200, 0).scores(measured()).max() < 0.01


def test_shares_are_those_of_the_squared_distance_from_the_nearest_flow() -> None:
    order = ["service", "bytes"]
    strange = NoveltyScorer.fit(measured().drop_null().select(order), 100, 0)
    gone = pa.table({"service": pa.array([None, "ssh"], pa.string()), "bytes": [200.0, 200.0]})
    others = pa.concat_tables([measured(seed=2).select(order), gone])
    points, kept = strange.space.points(others), strange.neighbours.kept
    apart = points[:, None].astype(float) - kept
    nearest = (apart**2).sum(axis=2).argmin(axis=1)
    squares = apart[np.arange(len(points)), nearest] ** 2
    columns = np.stack([squares[:, :5].sum(axis=1), squares[:, 5:].sum(axis=1)], axis=1)  # service, bytes
    found = strange.contributions(others)
    np.testing.assert_allclose(found * strange.scores(others)[:, None] ** 2, columns, atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert (
        strange.contributions(measured().drop_null().select(order)).sum(axis=1).min() == 0
    )  # of one that was kept


def test_strangeness_survives_being_saved() -> None:
    strange = NoveltyScorer.fit(measured(), 100, 0)
    again = NoveltyScorer.of(strange.codes, strange.arrays)
    others = measured(seed=2)
    assert (again.scores(others) == strange.scores(others)).all()


def test_no_columns_and_no_flows_are_no_failure() -> None:
    strange = NoveltyScorer.fit(measured(), 100, 0)
    assert strange.scores(measured().slice(0, 0)).tolist() == []
    assert strange.contributions(measured().slice(0, 0)).shape == (0, 2)
    nothing = NoveltyScorer.fit(pa.table({"empty": pa.nulls(3, pa.string())}), 100, 0)
    assert nothing.contributions(pa.table({"empty": pa.nulls(2, pa.string())})).shape == (2, 0)
    assert nothing.scores(pa.table({"empty": pa.nulls(2, pa.string())})).tolist() == [0, 0]


def test_a_missing_category_is_like_no_other_and_one_never_met_is_as_far_as_can_be() -> None:
    space = ColumnSpace.fit(measured())
    found = space.points(pa.table({"bytes": [200.0] * 4, "service": ["http", "dns", None, "ssh"]}))
    assert len(np.unique(found, axis=0)) == 4
    *_, missing, met_never = found
    assert (missing < 10).all()
    assert (met_never == 10).sum() == 1


NUMBERS = (-np.inf, -3.5, -1e-30, 0.0, 1e-30, 0.5, 2.0, 1e30, np.inf)


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(st.tuples(*[st.sampled_from(NUMBERS)] * width), min_size=1)
    )
)
def test_different_rows_are_those_of_numpy_in_its_order(rows: list[tuple[float, ...]]):
    points = np.array(rows, np.float32)
    assert np.array_equal(_distinct_rows(points), np.unique(points, axis=0))


def test_values_come_back_from_points_about_as_they_were() -> None:
    measured = pa.table(
        {
            "bytes": pa.array([0.0, 12.0, 4_000.0, None] * 5),
            "state": pa.array(["SF", "REJ", None, "SF"] * 5),
        }
    )
    space = ColumnSpace.fit(measured)
    found = space.values(space.points(measured))
    assert found["state"].to_pylist() == measured["state"].to_pylist()
    assert found["bytes"].is_null().to_pylist() == measured["bytes"].is_null().to_pylist()
    known = [value for value in found["bytes"].to_pylist() if value is not None]
    np.testing.assert_allclose(known, [0.0, 12.0, 4_000.0] * 5, rtol=0.02, atol=0.02)


def test_the_nearest_kept_flow_is_one_that_is_kept() -> None:
    flows, _ = points()
    neighbours = Neighbours.fit(flows, 50, 0)
    others = np.random.default_rng(1).normal(size=(300, 4)) * 4
    nearest = neighbours.nearest(others)
    np.testing.assert_allclose(
        np.linalg.norm(others - nearest, axis=1), neighbours.distances(others), rtol=1e-4
    )
    is_kept = np.isclose(nearest[:, None], neighbours.kept[None], atol=1e-4).all(axis=2)
    assert (is_kept.sum(axis=1) > 0).all()
