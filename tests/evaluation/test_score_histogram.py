import numpy as np

from wirebert.evaluation.score_histogram import NUM_BINS, score_histogram


def test_every_flow_is_in_the_bin_of_its_score_and_class() -> None:
    scores = np.random.default_rng(0).random(1000)
    scores[:2] = 0.0, 1.0
    ids = np.arange(1000) % 2
    found = score_histogram(scores, ids, ("normal", "dos", "absent"), "normal")
    assert found.benign == "normal"
    assert list(found.counts) == ["normal", "dos"]
    for number, name in enumerate(found.counts):
        expected, _ = np.histogram(scores[ids == number], NUM_BINS, (0, 1))
        assert list(found.counts[name]) == expected.tolist()
