"""Random changes of images: a network that sees an image in many forms does not learn it by heart.

Shape suffixes: B items of a batch, C channels, H height, W width.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional


def augmented(images_BCHW: Tensor, flip: bool, shift: int, random: np.random.Generator) -> Tensor:
    """Return float32 pixels in [0, 1] of uint8 images, each mirrored or moved by a draw of its own.

    Args:
        images_BCHW: uint8.
        flip: mirror left and right with probability 1/2.
        shift: move by -shift to shift pixels in each direction; black comes in.
        random: where draws come from.
    """
    pixels_BCHW = images_BCHW.float() / 255
    device, (batch, _, height, width) = pixels_BCHW.device, pixels_BCHW.shape
    if flip:
        mirrored_B = torch.from_numpy(random.random(batch) < 0.5).to(device)
        pixels_BCHW = torch.where(mirrored_B[:, None, None, None], pixels_BCHW.flip(3), pixels_BCHW)
    if shift:
        down_B, right_B = torch.from_numpy(random.integers(0, 2 * shift + 1, (2, batch))).to(device)
        row_BH = down_B[:, None] + torch.arange(height, device=device)
        column_BW = right_B[:, None] + torch.arange(width, device=device)
        padded = functional.pad(pixels_BCHW, (shift, shift, shift, shift)).movedim(1, -1)
        item_B = torch.arange(batch, device=device)[:, None, None]
        pixels_BCHW = padded[item_B, row_BH[:, :, None], column_BW[:, None, :]].movedim(-1, 1).contiguous()
    return pixels_BCHW
