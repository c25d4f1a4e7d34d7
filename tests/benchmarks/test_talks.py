# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false

import numpy as np
import pyarrow.compute as pc
import pytest
from capture_generator.talks import TALKS, log_uniform, paced, steadily, talk, within

from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.wire import Scene


def scene(seed: int = 0) -> Scene:
    return Scene(Network(0), np.random.default_rng(seed), 0.3, 0.31)


@pytest.mark.parametrize("name", sorted(TALKS))
def test_an_exchange_is_as_large_as_it_says(name: str):
    how, ends = TALKS[name], (np.linspace(0, 9, 400), np.zeros(400, np.int64), np.ones(400, np.int64))
    flows = talk(scene(), how, *ends, spread=0.0, states={"SF": 1.0})
    assert set(flows["protocol"].to_pylist()) == {how.protocol}
    assert set(flows["dst_port"].to_pylist()) == {how.port}
    assert set(flows["service"].to_pylist()) == {how.service or None}
    assert set(flows["src_payload_bytes"].to_pylist()) == {round(how.sent)}


def test_times_stay_inside_the_scene_and_keep_their_order():
    start_s, stop_s = scene().span_s
    for offsets_s in (np.arange(50.0), np.arange(5_000.0)):
        times_s = within(scene(), offsets_s)
        assert start_s <= times_s.min()
        assert times_s.max() < stop_s
        assert (np.diff(times_s) > 0).all()
    for seed in range(9):
        assert len(paced(scene(seed), 40, 0.5)) == 40


def test_steady_times_differ_by_one_period_but_for_the_jitter():
    gaps_s = np.diff(steadily(scene(), 100, 0.0))
    np.testing.assert_allclose(gaps_s, gaps_s[0], rtol=1e-6)
    jittered_s = np.diff(steadily(scene(), 100, 0.3))
    assert 0.05 < jittered_s.std() / jittered_s.mean() < 0.3


def test_numbers_of_an_order_of_magnitude_are_as_many_below_as_above_the_middle():
    generator = np.random.default_rng(0)
    drawn = np.array([log_uniform(generator, 0.01, 100) for _ in range(2_000)])
    assert drawn.min() >= 0.01
    assert drawn.max() <= 100
    assert 0.45 < (drawn < 1).mean() < 0.55


def test_unanswered_datagrams_receive_nothing():
    ends = (np.linspace(0, 9, 50), np.zeros(50, np.int64), np.ones(50, np.int64))
    assert pc.max(talk(scene(), TALKS["dns"], *ends, answered=0)["dst_packets"]).as_py() == 0
