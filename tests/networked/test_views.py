"""Random views of images.

Shape suffixes: B images of a batch, C channels, H height, W width.
"""

import colorsys

import numpy as np
import pytest
import torch
from torch import Tensor

from airmoe.networked import views
from airmoe.networked.views import view

LUMA_C = torch.tensor([0.299, 0.587, 0.114])


def unchanged_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "JITTER_SHARE", 0.0)
    monkeypatch.setattr(views, "GREY_SHARE", 0.0)


def changed_by(monkeypatch: pytest.MonkeyPatch, **most: float) -> None:
    """Let all views be whole images, and change what is named, by up to so much."""
    monkeypatch.setattr(views, "ASPECTS", (1.0, 1.0))
    monkeypatch.setattr(views, "JITTER_SHARE", 1.0)
    for name in ("BRIGHTNESS", "CONTRAST", "SATURATION", "HUE", "GREY_SHARE"):
        monkeypatch.setattr(views, name, most.get(name.lower(), 0.0))


def images(batch: int, channels: int = 3, low: float = 0.0, high: float = 1.0) -> Tensor:
    draw = torch.rand(batch, channels, 8, 8, generator=torch.Generator().manual_seed(0))
    return low + (high - low) * draw


@pytest.mark.parametrize("channels", [1, 3])
def test_a_view_has_the_form_of_its_image_and_values_from_0_to_1(channels: int) -> None:
    seen = view(images(200, channels), 0.2, True, np.random.default_rng(0))
    assert seen.shape == (200, channels, 8, 8)
    assert seen.dtype == torch.float32
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1
    assert not torch.equal(seen, view(images(200, channels), 0.2, True, np.random.default_rng(1)))
    assert torch.equal(seen, view(images(200, channels), 0.2, True, np.random.default_rng(0)))


def test_the_whole_of_an_image_in_its_own_colours_is_the_image(monkeypatch: pytest.MonkeyPatch) -> None:
    changed_by(monkeypatch)
    whole = view(images(5), 1.0, False, np.random.default_rng(0))
    torch.testing.assert_close(whole, images(5), atol=1e-6, rtol=0)


def test_half_of_the_views_are_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    changed_by(monkeypatch)
    seen = view(images(1).expand(1000, -1, -1, -1), 1.0, True, np.random.default_rng(0))
    mirrored_B = (seen - images(1).flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    plain_B = (seen - images(1)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert bool((mirrored_B ^ plain_B).all())
    assert 420 < int(mirrored_B.sum()) < 580


def test_parts_show_the_shares_of_the_area_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    # The image's values are the places themselves, so a view tells which part it shows.
    unchanged_colours(monkeypatch)
    side, batch = 64, 600
    places = torch.arange(side) / side
    ramp_CHW = torch.stack(
        [places.expand(side, side), places[:, None].expand(side, side), torch.zeros(side, side)]
    )
    seen = view(ramp_CHW.expand(batch, -1, -1, -1), 0.2, False, np.random.default_rng(0))
    steps = side - 1
    across_B = (seen[:, 0, 0, -1] - seen[:, 0, 0, 0]).numpy() * side / steps
    down_B = (seen[:, 1, -1, 0] - seen[:, 1, 0, 0]).numpy() * side / steps
    share_B, aspect_B = across_B * down_B, across_B / down_B
    assert 0.19 < share_B.min() < 0.23
    assert share_B.max() <= 1.01
    assert 0.5 < share_B.mean() < 0.62  # uniform from 0.2 to 1, less what is cut off at the edges
    whole_sides_B = (across_B < 0.97) & (down_B < 0.97)
    assert np.all(aspect_B[whole_sides_B] > 0.74)
    assert np.all(aspect_B[whole_sides_B] < 1.36)
    left_B = seen[:, 0, 0, 0].numpy()
    assert left_B.min() < 0.02
    assert np.all(left_B + across_B < 1.02)  # nothing beyond the edge is seen


@pytest.mark.parametrize("channels", [1, 3])
def test_brightness_is_a_factor(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    changed_by(monkeypatch, brightness=0.4)
    dark = images(500, channels, high=0.7)
    ratio = view(dark, 1.0, False, np.random.default_rng(0)) / dark
    factor_B = ratio.mean(dim=(1, 2, 3))
    torch.testing.assert_close(ratio, factor_B[:, None, None, None].expand_as(ratio), rtol=1e-3, atol=1e-4)
    assert 0.6 < float(factor_B.min()) < 0.61
    assert 1.39 < float(factor_B.max()) < 1.4


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_is_a_factor_about_the_mean_luma(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    changed_by(monkeypatch, contrast=0.4)
    plain = images(500, channels, low=0.3, high=0.7)
    luma = plain if channels == 1 else torch.einsum("c,bchw->bhw", LUMA_C, plain)[:, None]
    mean_B = luma.mean(dim=(1, 2, 3))[:, None, None, None]
    seen = view(plain, 1.0, False, np.random.default_rng(0)) - mean_B
    factor_B = (seen * (plain - mean_B)).sum(dim=(1, 2, 3)) / (plain - mean_B).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(seen, factor_B[:, None, None, None] * (plain - mean_B), rtol=1e-3, atol=1e-5)
    assert 0.6 < float(factor_B.min()) < 0.61
    assert 1.39 < float(factor_B.max()) < 1.4


@pytest.mark.parametrize("channels", [1, 3])
def test_contrast_keeps_the_mean_that_brightness_made(monkeypatch: pytest.MonkeyPatch, channels: int) -> None:
    changed_by(monkeypatch, brightness=0.4, contrast=0.4)
    plain = images(500, channels, low=0.3, high=0.5)
    seen = view(plain, 1.0, False, np.random.default_rng(0))
    weights = LUMA_C if channels == 3 else torch.ones(1)
    ratio_B = (seen.mean(dim=(2, 3)) @ weights) / (plain.mean(dim=(2, 3)) @ weights)
    assert 0.599 < float(ratio_B.min()) < 0.61
    assert 1.39 < float(ratio_B.max()) < 1.401


def test_saturation_mixes_a_colour_with_its_luma(monkeypatch: pytest.MonkeyPatch) -> None:
    changed_by(monkeypatch, saturation=0.4)
    plain = images(500, low=0.3, high=0.7)
    luma = torch.einsum("c,bchw->bhw", LUMA_C, plain)[:, None]
    seen = view(plain, 1.0, False, np.random.default_rng(0)) - luma
    factor_B = (seen * (plain - luma)).sum(dim=(1, 2, 3)) / (plain - luma).square().sum(dim=(1, 2, 3))
    torch.testing.assert_close(seen, factor_B[:, None, None, None] * (plain - luma), rtol=1e-3, atol=1e-5)
    assert 0.6 < float(factor_B.min()) < 0.61


def test_hue_turns_colours_on_a_wheel_and_keeps_their_luma(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed_by(monkeypatch, hue=0.1)
    red = torch.tensor([0.6, 0.4, 0.4])[:, None, None].expand(500, 3, 8, 8)
    seen = view(red, 1.0, False, np.random.default_rng(0))[:, :, 0, 0]
    torch.testing.assert_close(seen @ LUMA_C, (red[:, :, 0, 0] @ LUMA_C), rtol=1e-3, atol=1e-4)
    hue_B = np.array([colorsys.rgb_to_hsv(*colour)[0] for colour in seen.tolist()])
    turns_B = (hue_B + 0.5) % 1 - 0.5
    # The wheel of YIQ is not that of HSV: a tenth of a turn in one is near a tenth in the other.
    assert -0.15 < turns_B.min() < -0.07
    assert 0.07 < turns_B.max() < 0.15
    assert abs(turns_B.mean()) < 0.02


def test_four_in_five_views_change_colour_and_one_in_five_loses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "ASPECTS", (1.0, 1.0))
    seen = view(images(3000, low=0.3, high=0.6), 1.0, False, np.random.default_rng(0))
    unchanged_B = (seen - images(3000, low=0.3, high=0.6)).abs().amax(dim=(1, 2, 3)) < 1e-5
    grey_B = (seen.amax(dim=1) - seen.amin(dim=1)).amax(dim=(1, 2)) < 1e-5
    assert 0.13 < float(unchanged_B.double().mean()) < 0.19  # 0.2 that do not change, 0.8 of them not grey
    assert 0.17 < float(grey_B.double().mean()) < 0.23
