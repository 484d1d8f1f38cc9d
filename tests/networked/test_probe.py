"""The linear probe."""

import numpy as np
import pytest
import torch

from airmoe.networked.probe import probe_macro_f1, probed
from airmoe.runs.evaluation import macro_f1

LABELS_T = np.arange(300) % 3


def blobs(distance: float, seed: int = 0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy(random.normal(size=(300, 5)) + distance * np.eye(5)[LABELS_T]).float()


def test_a_probe_answers_as_ridge_regression_of_another_library_does() -> None:
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    fitted_TF, features_TF = blobs(2.0), blobs(2.0, seed=1)
    scaler = StandardScaler().fit(fitted_TF.numpy())
    model = Ridge(alpha=10.0).fit(scaler.transform(fitted_TF.numpy()), np.eye(3)[LABELS_T])
    expected_T = model.predict(scaler.transform(features_TF.numpy())).argmax(axis=1)
    assert np.array_equal(probed(fitted_TF, torch.from_numpy(LABELS_T), features_TF, 3), expected_T)


def test_features_that_tell_classes_apart_score_higher_than_noise() -> None:
    assert probe_macro_f1(blobs(6.0), LABELS_T, 3) > 0.98
    assert 0.25 < probe_macro_f1(blobs(0.0), LABELS_T, 3) < 0.42


def test_no_image_is_classified_by_a_probe_that_was_fitted_to_it() -> None:
    # 200 features of pure noise fit 150 images by heart; a probe that had seen them would be right.
    noise_TF = torch.from_numpy(np.random.default_rng(0).normal(size=(300, 200))).float()
    learnt_by_heart_T = probed(noise_TF, torch.from_numpy(LABELS_T), noise_TF, 3)
    assert macro_f1(LABELS_T, learnt_by_heart_T, 3) > 0.8
    assert probe_macro_f1(noise_TF, LABELS_T, 3) == pytest.approx(1 / 3, abs=0.12)
