"""What a stage costs is counted before it runs."""

import numpy as np
import torch

from xlxmert_core.data.store import FeatureStore
from xlxmert_core.scale.counters import operations, pictures_a_second


def test_operations_of_a_matrix_product_need_no_numbers():
    with torch.device("meta"):
        layer, rows = torch.nn.Linear(300, 50, bias=False), torch.zeros(7, 300)
    assert operations(lambda: layer(rows)) == 2 * 7 * 300 * 50


def test_a_store_is_read_at_some_rate(tmp_path):
    store = FeatureStore(tmp_path / "store", (2, 3))
    store.append(range(5), np.zeros((5, 2, 3), np.float32))
    assert pictures_a_second(store, rounds=2, batch=4) > 0
