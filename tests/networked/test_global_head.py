"""The linear head in closed form: the same as if all images lay in one place."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from airmoe.data import ImageSet
from airmoe.networked import split_among_clients
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.features import features_of, network_extractor
from airmoe.networked.global_head import fit_global_head
from airmoe.networked.moments import SMALLEST_STD
from airmoe.networked.stage_bytes import moments_bytes
from airmoe.seeding import torch_seeded

PENALTY = 10.0


@pytest.mark.parametrize("partition", ["ring", "iid"])
def test_it_is_the_ridge_regression_on_all_images_at_once(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig], partition: str
) -> None:
    config = tiny_config(data={"clients": 4, "partition": partition})
    data = split_among_clients(config, few_digits)
    with torch_seeded(0, "test"):
        extractor = network_extractor(config.model, (1, 32, 32)).eval()
    answers_T, rows = fit_global_head(extractor, data, PENALTY)

    pixels = torch.from_numpy(few_digits.train_images).float() / 255
    train_TF = features_of(extractor, [pixels])[0].double().numpy()
    test_TF = features_of(extractor, [data.test_images_TCHW])[0].double().numpy()
    mean_F, std_F = train_TF.mean(axis=0), train_TF.std(axis=0).clip(SMALLEST_STD)
    h_TF, target_TC = (train_TF - mean_F) / std_F, np.eye(10)[few_digits.train_labels]
    # As least squares: a row of sqrt(penalty) for each weight but the constant's.
    stacked = np.vstack([np.hstack([h_TF, np.ones((200, 1))]), np.sqrt(PENALTY) * np.eye(400, 401)])
    weight_GC = np.linalg.lstsq(stacked, np.vstack([target_TC, np.zeros((400, 10))]), rcond=None)[0]
    expected_TC = np.hstack([(test_TF - mean_F) / std_F, np.ones((60, 1))]) @ weight_GC
    assert answers_T.tolist() == expected_TC.argmax(axis=1).tolist()
    of_head = 2 * 400 * 4 + 401 * (401 + 10) * 8  # moments down, sums up
    assert [row["bytes"] for row in rows] == [4 * moments_bytes(400), 4 * of_head]
