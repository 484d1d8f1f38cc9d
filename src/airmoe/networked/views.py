"""Random views of images, of which self-supervised training learns what an image keeps in all of them.

A view is a random part of an image, at times mirrored, resized to the whole, in changed colours: the changes
of SimCLR (Chen et al. 2020) without blur. A batch takes one resampling and one product with a matrix of
colours for each image. So some things are simpler than in torchvision: the colours change in a fixed order,
hue turns in the plane of the YIQ colour space, and values are cut off at 0 and 1 once, at the end.

Shape suffixes: B images of a batch, C channels, H height, W width.
"""

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
        return _brightness_and_contrast(parts_BCHW, random)
    return _colours(parts_BCHW, random)


def _parts(images_BCHW: Tensor, smallest_part: float, flip: bool, random: np.random.Generator) -> Tensor:
    """Return random parts of images, resized to the size of the images, some of them mirrored."""
    batch, _, height, width = images_BCHW.shape
    area_B = random.uniform(smallest_part, 1, batch) * height * width
    aspect_B = np.exp(random.uniform(*np.log(ASPECTS), batch))
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


def _brightness_and_contrast(images_B1HW: Tensor, random: np.random.Generator) -> Tensor:
    changed_B, brightness_B, contrast_B = _jitter(len(images_B1HW), random)
    brightness_B, contrast_B = (np.where(changed_B, each, 1) for each in (brightness_B, contrast_B))
    factor_B, kept_B = (
        torch.from_numpy(each).to(images_B1HW)[:, None, None, None]
        for each in (brightness_B * contrast_B, brightness_B * (1 - contrast_B))
    )
    mean_B111 = images_B1HW.mean(dim=(2, 3), keepdim=True)
    return (factor_B * images_B1HW + kept_B * mean_B111).clamp_(0, 1)


def _jitter(batch: int, random: np.random.Generator) -> tuple[NDArray[np.bool_], ...]:
    """Return which views change, and by which factors of brightness and of contrast."""
    changed_B = random.random(batch) < JITTER_SHARE
    return changed_B, _factor(BRIGHTNESS, batch, random), _factor(CONTRAST, batch, random)


def _factor(most: float, batch: int, random: np.random.Generator) -> NDArray[np.float64]:
    return random.uniform(1 - most, 1 + most, batch)


def _colours(images_BCHW: Tensor, random: np.random.Generator) -> Tensor:
    """Change brightness, contrast, saturation and hue, in this order; take all colour from some images.

    All of these are linear in the colour of a pixel and in the mean luma of the image.
    """
    batch, channels, height, width = images_BCHW.shape
    changed_B, brightness_B, contrast_B = _jitter(batch, random)
    grey_C3 = np.tile(_LUMA, (3, 1))
    saturation_B11 = _factor(SATURATION, batch, random)[:, None, None]
    chroma_BCC = _hue(random.uniform(-HUE, HUE, batch)) @ (
        saturation_B11 * np.eye(3) + (1 - saturation_B11) * grey_C3
    )
    pixel_BCC = (brightness_B * contrast_B)[:, None, None] * chroma_BCC
    # What contrast keeps is grey, which neither saturation nor hue changes.
    mean_B = brightness_B * (1 - contrast_B)
    pixel_BCC = np.where(changed_B[:, None, None], pixel_BCC, np.eye(3))
    mean_B = np.where(changed_B, mean_B, 0)
    greyed_B = random.random(batch) < GREY_SHARE
    pixel_BCC = np.where(greyed_B[:, None, None], grey_C3 @ pixel_BCC, pixel_BCC)
    matrix_BCC, weight_B = (torch.from_numpy(each).to(images_BCHW) for each in (pixel_BCC, mean_B))
    pixels_BCP = images_BCHW.reshape(batch, channels, height * width)
    luma_B = torch.einsum("c,bcp->b", torch.from_numpy(_LUMA).to(images_BCHW), pixels_BCP) / (height * width)
    changed_BCP = torch.baddbmm((weight_B * luma_B)[:, None, None], matrix_BCC, pixels_BCP)
    return changed_BCP.clamp_(0, 1).reshape_as(images_BCHW)


def _hue(turns_B: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (B, 3, 3), matrices that turn the hue of RGB colours and keep their luma."""
    cos_B, sin_B = np.cos(2 * np.pi * turns_B), np.sin(2 * np.pi * turns_B)
    turn_B33 = np.zeros((len(turns_B), 3, 3))
    turn_B33[:, 0, 0] = 1
    turn_B33[:, 1, 1] = turn_B33[:, 2, 2] = cos_B
    turn_B33[:, 1, 2], turn_B33[:, 2, 1] = -sin_B, sin_B
    return np.linalg.inv(_YIQ) @ turn_B33 @ _YIQ
