import gc

import numpy as np
import pytest
from lightning import Trainer

from bench.bench_sweep_points import memory_of_points, slope
from shared.base_data import FoldedDataModule
from shared.base_module import BaseModule


def test_the_slope_is_that_of_the_last_points_and_knows_its_error():
    memory = np.concatenate([np.full(25, 100.0), 200 + 2.0 * np.arange(25)])
    assert slope(memory) == pytest.approx((2.0, 0.0), abs=1e-9)
    noisy = 300 + np.array([0.0, 1.0, 0.0, 1.0])
    rate, error = slope(noisy, num_last=4)
    assert rate == pytest.approx(0.2)  # sum of (x - 1.5) y is 1, and of (x - 1.5)**2 is 5
    assert error == pytest.approx(np.sqrt(0.8 / 2 / 5))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_nothing_of_a_point_stays_in_the_process(tmp_path):
    memory = memory_of_points(tmp_path, 12)
    gc.collect()
    kinds = (Trainer, BaseModule, FoldedDataModule)
    assert [type(thing) for thing in gc.get_objects() if isinstance(thing, kinds)] == []
    rate, error = slope(memory, num_last=6)
    print(f"growth a point: {rate:.2f} MB +- {error:.2f}")
    assert rate - 3 * error < 1.0  # a network and its optimiser are 6 MB, a data set more
