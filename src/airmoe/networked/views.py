"""Random views of images, of which self-supervised training learns what an image keeps in all of them.

A view is a random part of an image, at times mirrored, resized to the whole, in changed colours: the changes
of SimCLR (Chen et al. 2020) without blur. A batch takes one resampling and one product with a matrix of
colours for each image. So some things are simpler than in torchvision: the colours change in a fixed order,
hue turns in the plane of the YIQ colour space, and values are cut off at 0 and 1 once, at the end.

Shape suffixes: B images of a batch, C channels, H height, W width, P pixels.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

ASPECTS = (3 / 4, 4 / 3)
"""Width to height of a part, drawn uniformly on a logarithmic scale."""

BRIGHTNESS, CONTRAST, SATURATION, HUE = 0.4, 0.4, 0.4, 0.1
"""How far colours change: factors from 1 - x to 1 + x, and hue by up to so many turns either way."""

JITTER_SHARE, GREY_SHARE = 0.8, 0.2
"""The share of the views whose colours change, and of those that lose their colour."""

_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
_LUMA = _YIQ[0]
_GREY = np.tile(_LUMA, (3, 1))


def view(images_BCHW: Tensor, smallest_part: float, flip: bool, random: np.random.Generator) -> Tensor:
    """Return a random view of each image, (B, C, H, W) in [0, 1].

    Args:
        images_BCHW: float32 in [0, 1], of 1 channel or 3. Of greyscale images only brightness and contrast
            change.
        smallest_part: the smallest share of an image's area that a view shows, above 0 and at most 1. Shares
            are drawn uniformly up to 1; a side that would be longer than the image is as long as the image.
        flip: mirror left and right with probability 1/2.
        random: where draws come from.

    Examples:
        >>> import numpy as np
        >>> import torch
        >>> from airmoe.networked.views import view
        >>> images_BCHW = torch.rand(2, 3, 32, 32)
        >>> view(images_BCHW, 0.2, True, np.random.default_rng(0)).shape
        torch.Size([2, 3, 32, 32])
    """
    parts_BCHW = _parts(images_BCHW, smallest_part, flip, random)
    if images_BCHW.shape[1] == 1:
        return _contrast(parts_BCHW, random)
    return _colours(parts_BCHW, random)


def _parts(images_BCHW: Tensor, smallest_part: float, flip: bool, random: np.random.Generator) -> Tensor:
    """Return random parts of images, resized to the size of the images, some of them mirrored."""
    batch, _, height, width = images_BCHW.shape
    area_B = random.uniform(smallest_part, 1, batch) * height * width
    aspect_B = np.exp(random.uniform(math.log(ASPECTS[0]), math.log(ASPECTS[1]), batch))
    across_B = np.minimum(np.sqrt(area_B * aspect_B) / width, 1)
    down_B = np.minimum(np.sqrt(area_B / aspect_B) / height, 1)
    right_B, below_B = random.uniform(-1, 1, (2, batch)) * (1 - np.stack([across_B, down_B]))
    mirrored_B = random.random(batch) < 0.5
    affine_B23 = np.zeros((batch, 2, 3))
    affine_B23[:, 0, 0] = np.where(mirrored_B & flip, -across_B, across_B)
    affine_B23[:, 1, 1] = down_B
    affine_B23[:, 0, 2], affine_B23[:, 1, 2] = right_B, below_B
    places = functional.affine_grid(
        torch.from_numpy(affine_B23).to(images_BCHW), list(images_BCHW.shape), align_corners=False
    )
    return functional.grid_sample(images_BCHW, places, padding_mode="border", align_corners=False)


def _contrast(images_BCHW: Tensor, random: np.random.Generator) -> Tensor:
    """Change brightness and contrast of greyscale images."""
    _, factor_B, mean_factor_B = _jitter(len(images_BCHW), random)
    factor_B111, mean_factor_B111 = (
        torch.from_numpy(each)[:, None, None, None].to(images_BCHW) for each in (factor_B, mean_factor_B)
    )
    mean_B111 = images_BCHW.mean(dim=(2, 3), keepdim=True)
    return (factor_B111 * images_BCHW + mean_factor_B111 * mean_B111).clamp_(0, 1)


def _colours(images_BCHW: Tensor, random: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order; take all colour from some images.

    All of these are linear in the colour of a pixel and in the mean luma of its image. What contrast adds is
    grey, which neither saturation nor hue changes.
    """
    batch, channels, height, width = images_BCHW.shape
    changed_B, factor_B, mean_factor_B = _jitter(batch, random)
    saturation_B11 = _factor(SATURATION, batch, random)[:, None, None]
    saturated_BCC = saturation_B11 * np.eye(3) + (1 - saturation_B11) * _GREY
    hue_BCC = _hue(random.uniform(-HUE, HUE, batch))
    chroma_BCC = np.where(changed_B[:, None, None], hue_BCC @ saturated_BCC, np.eye(3))
    greyed_B11 = (random.random(batch) < GREY_SHARE)[:, None, None]
    colour_BCC = factor_B[:, None, None] * np.where(greyed_B11, _GREY @ chroma_BCC, chroma_BCC)

    pixels_BCP = images_BCHW.reshape(batch, channels, height * width)
    luma_B = pixels_BCP.mean(dim=2) @ torch.from_numpy(_LUMA).to(images_BCHW)
    added_B = torch.from_numpy(mean_factor_B).to(images_BCHW) * luma_B
    matrix_BCC = torch.from_numpy(colour_BCC).to(images_BCHW)
    coloured_BCP = torch.baddbmm(added_B[:, None, None], matrix_BCC, pixels_BCP)
    return coloured_BCP.clamp_(0, 1).reshape_as(images_BCHW)


def _jitter(
    batch: int, random: np.random.Generator
) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
    """Return which views change, and what brightness and contrast do: factors of a pixel and of the mean."""
    changed_B = random.random(batch) < JITTER_SHARE
    brightness_B, contrast_B = _factor(BRIGHTNESS, batch, random), _factor(CONTRAST, batch, random)
    factor_B = np.where(changed_B, brightness_B * contrast_B, 1.0)
    return changed_B, factor_B, np.where(changed_B, brightness_B * (1 - contrast_B), 0.0)


def _factor(most: float, batch: int, random: np.random.Generator) -> NDArray[np.float64]:
    return random.uniform(1 - most, 1 + most, batch)


def _hue(turns_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B, 3, 3), matrices that turn the hue of RGB colours and keep their luma."""
    cos_B, sin_B = np.cos(2 * np.pi * turns_B), np.sin(2 * np.pi * turns_B)
    turn_B33 = np.zeros((len(turns_B), 3, 3))
    turn_B33[:, 0, 0] = 1
    turn_B33[:, 1, 1] = turn_B33[:, 2, 2] = cos_B
    turn_B33[:, 1, 2], turn_B33[:, 2, 1] = -sin_B, sin_B
    turned_B33: NDArray[np.float64] = np.linalg.inv(_YIQ) @ turn_B33 @ _YIQ
    return turned_B33
