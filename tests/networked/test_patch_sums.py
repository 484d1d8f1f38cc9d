"""Filters of patches from sums."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from airmoe.errors import InvalidInputError
from airmoe.federated import Loop, State, federate
from airmoe.networked import parse_config
from airmoe.networked.patch_sums import WHITENING, PatchSums, PatchSumsClient, fit_patches
from airmoe.nn import PatchExtractor
from airmoe.nn.backbones.patches import normalised

SIDE, FILTERS = 4, 5


def pictures(count: int) -> torch.Tensor:
    smooth = torch.from_numpy(np.random.default_rng(0).random((count, 1, 6, 6))).float()
    return functional.interpolate(smooth, size=(16, 16), mode="bilinear")


def fitted(rounds: int, splits: tuple[int, ...] = (7, 13)) -> tuple[State, list[dict[str, object]]]:
    clients = [
        PatchSumsClient(part, SIDE, 3, seed=1, client=client)
        for client, part in enumerate(pictures(sum(splits)).split(list(splits)))
    ]
    state, rows = federate(PatchSums("features", len(clients), FILTERS, 1), {}, Loop(clients), rounds)
    return state, list(map(dict, rows))


def test_whitened_patches_have_covariance_one_but_for_what_is_added_to_their_variances() -> None:
    state, _ = fitted(1, (20,))
    client = PatchSumsClient(pictures(20), SIDE, 3, seed=1, client=0)
    white = (client._normalised().double() - state["mean"]) @ state["whitening"]
    covariance = torch.cov(white.T, correction=0)
    values, vectors = torch.linalg.eigh(torch.cov(client._normalised().double().T, correction=0))
    expected = (vectors * (values / (values + WHITENING))) @ vectors.T
    assert torch.allclose(covariance, expected, atol=1e-6)


def test_each_round_of_k_means_fits_patches_better_and_atoms_have_length_one() -> None:
    state, rows = fitted(8)
    misfit = [float(str(row["loss"])) for row in rows if "loss" in row]
    assert len(misfit) == 7
    assert misfit[-1] < misfit[0]
    assert torch.allclose(state["dictionary"].norm(dim=1), torch.ones(FILTERS, dtype=torch.float64))


def test_one_round_moves_atoms_to_the_sum_of_the_patches_that_they_fit_best() -> None:
    before, _ = fitted(1, (20,))
    after, _ = fitted(2, (20,))
    client = PatchSumsClient(pictures(20), SIDE, 3, seed=1, client=0)
    white = functional.normalize(
        (client._normalised().double() - before["mean"]) @ before["whitening"]
    ).numpy()
    old, moved = before["dictionary"].numpy(), np.zeros_like(before["dictionary"].numpy())
    for patch in white:
        fits = old @ patch
        best = np.argmax(np.abs(fits))
        moved[best] += fits[best] * patch
    moved += 1e-3 * old
    expected = moved / np.linalg.norm(moved, axis=1, keepdims=True)
    np.testing.assert_allclose(after["dictionary"].numpy(), expected, atol=1e-9)


def test_only_sums_leave_a_client() -> None:
    client = PatchSumsClient(pictures(5), SIDE, 3, seed=1, client=0)
    from airmoe.federated import Message

    _, first = client.client_step("sum", {}, Message({}, {"round": 0}))
    pixels = SIDE * SIDE
    assert {name: tuple(tensor.shape) for name, tensor in first.tensors.items()} == {
        "sum": (pixels,),
        "gram": (pixels, pixels),
    }


@pytest.mark.parametrize("channels", [1, 3])
def test_features_are_those_of_patches_taken_one_by_one(channels: int) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(3, channels, 9, 11, generator=random)
    pixels = channels * SIDE**2
    mean = torch.randn(pixels, generator=random).double()
    half = torch.randn(pixels, pixels, generator=random).double()
    whitening, dictionary = (
        half + half.T,
        functional.normalize(torch.randn(FILTERS, pixels, generator=random)).double(),
    )
    extractor = PatchExtractor(channels, FILTERS, (9, 11), side=SIDE, grid=2, threshold=0.5)
    fit_patches(extractor, {"mean": mean, "whitening": whitening, "dictionary": dictionary})
    rows, columns = 9 - SIDE + 1, 11 - SIDE + 1
    patches = functional.unfold(images, SIDE).transpose(1, 2).reshape(-1, pixels)
    response = ((normalised(patches).double() - mean) @ whitening @ dictionary.T).reshape(
        3, rows, columns, FILTERS
    )
    both = torch.cat([(response - 0.5).clamp_min(0), (-response - 0.5).clamp_min(0)], dim=3)
    expected = functional.adaptive_avg_pool2d(both.permute(0, 3, 1, 2), 2).flatten(1).sqrt()
    assert extractor.features == expected.shape[1]
    assert torch.allclose(extractor(images).double(), expected, atol=1e-4)


def test_what_patches_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="width is 0; expected"):
        PatchExtractor(1, 0)
    with pytest.raises(InvalidInputError, match="threshold is -1; expected a number of at least 0"):
        PatchExtractor(1, threshold=-1)
    with pytest.raises(InvalidInputError, match="size of images"):
        PatchExtractor(1, size=(7, 32))
    with pytest.raises(InvalidInputError, match=r"model\.backbone is 'lenet5'; expected patches with"):
        parse_config('[features]\nmethod = "patches"', "test")
    with pytest.raises(
        InvalidInputError, match=r"model\.backbone is 'patches'; expected another than patches"
    ):
        parse_config('[model]\nbackbone = "patches"', "test")
