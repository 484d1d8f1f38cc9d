"""Filters of patches from sums."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.federated import Loop, Message, State, federate
from airmoe.networked import parse_config
from airmoe.networked.patch_sums import WHITENING, PatchSums, PatchSumsClient, fit_patches
from airmoe.nn import PatchExtractor
from airmoe.nn.backbones.patches import normalised

SIDE, FILTERS, DIRECTIONS, THRESHOLD = 4, 5, 3, 0.5


def pictures(count: int) -> torch.Tensor:
    smooth = torch.from_numpy(np.random.default_rng(0).random((count, 1, 6, 6))).float()
    return functional.interpolate(smooth, size=(16, 16), mode="bilinear")


def fitted(rounds: int, splits: tuple[int, ...] = (7, 13)) -> tuple[State, list[dict[str, object]]]:
    clients = [
        PatchSumsClient(part, SIDE, 3, seed=1, client=client)
        for client, part in enumerate(pictures(sum(splits)).split(list(splits)))
    ]
    stage = PatchSums("features", len(clients), FILTERS, 1, 8, DIRECTIONS, THRESHOLD)
    state, rows = federate(stage, {}, Loop(clients), rounds)
    return state, list(map(dict, rows))


def responses(state: State) -> torch.Tensor:
    """What the filters answer to every patch of all images, each filter twice: above zero and below."""
    client = PatchSumsClient(pictures(20), SIDE, 3, seed=1, client=0)
    response = (client._normalised().double() - state["mean"]) @ state["whitening"] @ state["dictionary"].T
    return torch.cat([(response - THRESHOLD).clamp_min(0), (-response - THRESHOLD).clamp_min(0)], dim=1)


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


def test_directions_are_the_principal_ones_of_all_responses_however_images_are_split() -> None:
    state, _ = fitted(10, (20,))
    response = responses(state)
    _, vectors = torch.linalg.eigh(torch.cov(response.T, correction=0))
    largest = vectors.T.flip(0)[:DIRECTIONS]
    assert torch.allclose((state["basis"] * largest).sum(dim=1).abs(), torch.ones(3).double(), atol=1e-6)
    assert torch.allclose(state["response_mean"], response.mean(dim=0), atol=1e-6)
    for row in state["basis"]:
        assert row[row.abs().argmax()] > 0


def test_directions_of_split_images_are_those_of_all_in_one_place() -> None:
    told = fitted(9, (20,))[0]
    whole = PatchSumsClient(pictures(20), SIDE, 3, seed=1, client=0)
    halves = [PatchSumsClient(part, SIDE, 3, seed=1, client=0) for part in pictures(20).split(10)]
    normal = whole._normalised()
    for half, patches in zip(halves, normal.split(len(normal) // 2), strict=True):
        half._normal_TS = patches  # the same patches, drawn elsewhere
    message = Message(told, {"round": 9.0, "threshold": THRESHOLD})
    sums = whole.client_step("sum", {}, message)[1].tensors
    parts = [half.client_step("sum", {}, message)[1].tensors for half in halves]
    for name, total in sums.items():
        assert torch.allclose(parts[0][name] + parts[1][name], total, rtol=1e-12)


def test_only_sums_leave_a_client() -> None:
    client = PatchSumsClient(pictures(5), SIDE, 3, seed=1, client=0)
    _, first = client.client_step("sum", {}, Message({}, {"round": 0}))
    pixels = SIDE * SIDE
    assert {name: tuple(tensor.shape) for name, tensor in first.tensors.items()} == {
        "sum": (pixels,),
        "gram": (pixels, pixels),
    }


@pytest.mark.parametrize(("channels", "directions"), [(1, DIRECTIONS), (3, DIRECTIONS), (1, 0)])
def test_features_are_those_of_patches_taken_one_by_one(channels: int, directions: int) -> None:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(3, channels, 9, 11, generator=random)
    pixels = channels * SIDE**2
    mean = torch.randn(pixels, generator=random).double()
    half = torch.randn(pixels, pixels, generator=random).double()
    whitening, dictionary = (
        half + half.T,
        functional.normalize(torch.randn(FILTERS, pixels, generator=random)).double(),
    )
    size = 9, 11
    extractor = PatchExtractor(
        channels, FILTERS, size, side=SIDE, grid=2, threshold=THRESHOLD, directions=directions
    )
    response_mean, basis = torch.rand(2 * FILTERS).double(), torch.randn(DIRECTIONS, 2 * FILTERS).double()
    fitted_to = {"mean": mean, "whitening": whitening, "dictionary": dictionary}
    pairs_of = {"response_mean": response_mean, "basis": basis} if directions else {}
    fit_patches(extractor, {**fitted_to, **pairs_of})
    rows, columns = 9 - SIDE + 1, 11 - SIDE + 1
    patches = functional.unfold(images, SIDE).transpose(1, 2).reshape(-1, pixels)
    response = ((normalised(patches).double() - mean) @ whitening @ dictionary.T).reshape(
        3, rows, columns, FILTERS
    )
    both = torch.cat([(response - 0.5).clamp_min(0), (-response - 0.5).clamp_min(0)], dim=3)
    expected = functional.adaptive_avg_pool2d(both.permute(0, 3, 1, 2), 2).flatten(1).sqrt()
    if directions:
        along = (both.flatten(1, 2) - response_mean) @ basis.T
        products = [
            (along[:, :, first] * along[:, :, second]).mean(dim=1)
            for first in range(directions)
            for second in range(first, directions)
        ]
        pairs = torch.stack(products, dim=1)
        expected = torch.cat([expected, pairs / (pairs.abs() + 1e-2).sqrt()], dim=1)
    assert extractor.features == expected.shape[1]
    assert torch.allclose(extractor(images).double(), expected, atol=1e-4)


def test_what_patches_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="width is 0; expected"):
        PatchExtractor(1, 0)
    with pytest.raises(InvalidInputError, match="directions is 21; expected 0 to 20"):
        PatchExtractor(1, 10, directions=21)
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


@pytest.mark.parametrize(("rounds", "missing"), [(0, "basis, dictionary"), (9, "basis")])
def test_filters_and_directions_that_nobody_fitted_are_refused(rounds: int, missing: str) -> None:
    state = fitted(rounds)[0] if rounds else {}
    extractor = PatchExtractor(1, FILTERS, (16, 16), side=SIDE, directions=DIRECTIONS)
    with pytest.raises(TrainingDivergedError, match=f"nobody replied in the round that {missing} is from"):
        fit_patches(extractor, state)
