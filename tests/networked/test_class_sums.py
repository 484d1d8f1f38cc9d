"""Sums of features by class, and the discriminant that they make: the same however images are divided."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from airmoe.data import partition
from airmoe.errors import InvalidInputError
from airmoe.federated import Loop, State, federate
from airmoe.networked.class_sums import (
    ClassSums,
    ClassSumsClient,
    Discriminant,
    class_sums,
    packed,
    packed_gram,
    unpacked,
)

CLASSES, FEATURES, IMAGES, SHRINKAGE = 10, 7, 400, 0.1


def images_of(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    labels_T = np.arange(IMAGES) % CLASSES
    centre_CF = 3 * random.normal(size=(CLASSES, FEATURES))
    noise_TF = random.normal(size=(IMAGES, FEATURES)) @ random.normal(size=(FEATURES, FEATURES))
    features_TF = 5 + centre_CF[labels_T] + noise_TF
    return torch.from_numpy(features_TF.astype(np.float32)), torch.from_numpy(labels_T)


def sums_of(features_TF: torch.Tensor, labels_T: torch.Tensor, parts: list[np.ndarray]) -> State:
    clients = [
        ClassSumsClient(lambda told, part=part: features_TF[part], labels_T[part], CLASSES) for part in parts
    ]
    return federate(ClassSums("class sums", len(parts), classes=CLASSES), {}, Loop(clients), 1)[0]


def close(first: Discriminant, second: Discriminant) -> bool:
    pairs = zip(first.of_raw_features(), second.of_raw_features(), strict=True)
    return all(bool(torch.isclose(a, b, rtol=1e-9, atol=1e-9).all()) for a, b in pairs)


@pytest.mark.parametrize("scheme", ["ring", "iid", "dirichlet:0.1"])
def test_the_discriminant_is_that_of_all_images_in_one_place_whatever_the_split(scheme: str) -> None:
    features_TF, labels_T = images_of(0)
    central = Discriminant.fit(sums_of(features_TF, labels_T, [np.arange(IMAGES)]), SHRINKAGE)
    parts = partition(labels_T.numpy(), 10, scheme, seed=1)
    assert close(Discriminant.fit(sums_of(features_TF, labels_T, parts), SHRINKAGE), central)


def test_a_client_that_leaves_can_be_subtracted() -> None:
    features_TF, labels_T = images_of(1)
    *stay, leaves = partition(labels_T.numpy(), 10, "dirichlet:0.5", seed=2)
    everyone = sums_of(features_TF, labels_T, [*stay, leaves])
    gone = class_sums(features_TF[leaves], labels_T[leaves], CLASSES)
    left = {name: everyone[name] - gone[name] for name in ("sums", "gram")}
    left["counts"] = everyone["counts"][:-1]
    without = sums_of(features_TF, labels_T, stay)
    assert close(Discriminant.fit(left, SHRINKAGE), Discriminant.fit(without, SHRINKAGE))


def test_it_is_the_shrunk_linear_discriminant_of_scikit_learn() -> None:
    features_TF, labels_T = images_of(2)
    weight_CF, bias_C = Discriminant.fit(
        sums_of(features_TF, labels_T, [np.arange(IMAGES)]), SHRINKAGE
    ).of_raw_features()
    ours = torch.softmax(features_TF.double() @ weight_CF.T + bias_C, dim=1).numpy()
    # Ours shrinks the covariance of standardised features.
    standard = (features_TF.double() - features_TF.double().mean(0)) / features_TF.double().std(
        0, correction=0
    )
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
    theirs.set_params(shrinkage=None, covariance_estimator=_Shrunk())
    theirs.fit(standard.numpy(), labels_T.numpy())
    np.testing.assert_allclose(ours, theirs.predict_proba(standard.numpy()), atol=1e-6)


class _Shrunk:
    """(1 - s) S + s trace(S) / F I, S pooled over the classes: scikit-learn asks for each class apart, and
    shrinking is linear."""

    def fit(self, x: np.ndarray) -> None:
        covariance = np.cov(x.T, bias=True)
        self.covariance_ = (1 - SHRINKAGE) * covariance
        self.covariance_ += SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))

    def get_params(self, deep: bool = True) -> dict[str, object]:
        return {}


def test_the_server_knows_who_holds_how_many_images_of_which_class() -> None:
    features_TF, labels_T = images_of(3)
    parts = [np.flatnonzero(labels_T.numpy() < 2), np.flatnonzero(labels_T.numpy() >= 2)]
    counts_NC = sums_of(features_TF, labels_T, parts)["counts"]
    assert counts_NC.tolist() == [[40.0] * 2 + [0.0] * 8, [0.0] * 2 + [40.0] * 8]


def test_a_class_without_images_is_never_chosen() -> None:
    features_TF, labels_T = images_of(4)
    seen = np.flatnonzero(labels_T.numpy() != 3)
    weight_CF, bias_C = Discriminant.fit(sums_of(features_TF, labels_T, [seen]), SHRINKAGE).of_raw_features()
    assert not bool(((features_TF.double() @ weight_CF.T + bias_C).argmax(dim=1) == 3).any())


@given(st.integers(1, 12))
def test_a_symmetric_matrix_is_packed_and_unpacked_unchanged(features: int) -> None:
    matrix = torch.arange(features**2, dtype=torch.float64).reshape(features, features)
    symmetric = matrix + matrix.T
    assert packed(symmetric).shape == (features * (features + 1) // 2,)
    assert torch.equal(unpacked(packed(symmetric), features), symmetric)


def test_a_packed_matrix_of_another_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"shape of a packed matrix is \(5,\); expected \(6,\)"):
        unpacked(torch.zeros(5), 3)


def test_mirrored_images_are_added_as_images_of_their_own() -> None:
    features_TF, labels_T = images_of(5)
    both_TF, both_T = torch.cat([features_TF, -features_TF]), torch.cat([labels_T, labels_T])
    client = ClassSumsClient(lambda told: features_TF, labels_T, CLASSES, mirrored=lambda: -features_TF)
    mirrored = federate(ClassSums("class sums", 1, classes=CLASSES), {}, Loop([client]), 1)[0]
    together = sums_of(both_TF, both_T, [np.arange(2 * IMAGES)])
    for name in ("sums", "gram", "counts"):
        torch.testing.assert_close(mirrored[name], together[name], rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("features", [1, 511, 513])
def test_a_gram_matrix_is_computed_in_blocks_of_rows(features: int) -> None:
    features_TF = torch.randn(6, features, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(packed_gram(features_TF), packed(features_TF.T @ features_TF))


def test_a_class_that_nobody_holds_is_never_chosen() -> None:
    random = torch.Generator().manual_seed(0)
    features_TF = torch.randn(
        300, 250, generator=random
    )  # so many features, so few images: scores far below 0
    labels_T = torch.arange(300) % (CLASSES - 1)
    parts = [np.arange(300)]
    weight_CF, bias_C = Discriminant.fit(sums_of(features_TF, labels_T, parts), 0.01).of_raw_features()
    scores_TC = (1000 * torch.randn(500, 250, generator=random)).double() @ weight_CF.T + bias_C
    assert not (scores_TC.argmax(dim=1) == CLASSES - 1).any()
    assert torch.softmax(scores_TC.float(), dim=1).isfinite().all()


def test_images_that_are_all_the_same_are_refused() -> None:
    labels_T = torch.arange(CLASSES)
    alone = sums_of(torch.randn(CLASSES, FEATURES), labels_T, [np.arange(CLASSES)])  # one image of each class
    with pytest.raises(InvalidInputError, match=r"variance of features within classes is .* that differ"):
        Discriminant.fit(alone, SHRINKAGE)


def test_a_shrinkage_that_leaves_no_inverse_is_refused() -> None:
    features_TF, labels_T = torch.randn(20, 40), torch.arange(20) % CLASSES
    with pytest.raises(InvalidInputError, match=r"experts\.shrinkage is 1e-17; expected larger"):
        Discriminant.fit(sums_of(features_TF, labels_T, [np.arange(20)]), 1e-17)
