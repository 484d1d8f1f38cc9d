"""What a pretrained model says about the images that it was trained on.

Shape suffixes: C channels.
"""

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, Field, PositiveFloat, PositiveInt
from torch import Tensor


class ImageSettings(BaseModel):
    """What a preprocessor_config.json says about a model's images; the rest of it is ignored."""

    size: dict[str, PositiveInt | None] | PositiveInt
    crop_size: dict[str, PositiveInt | None] | PositiveInt | None = None
    do_center_crop: bool | None = False
    do_normalize: bool | None = True
    do_rescale: bool | None = True
    do_resize: Literal[True] | None = True
    image_mean: list[float] | None = None
    image_std: list[PositiveFloat] | None = None
    rescale_factor: Annotated[float, Field(gt=1 / 256, lt=1 / 254)] | None = None
    do_flip_channel_order: Literal[False] | None = False

    def height_and_width(self) -> tuple[int, int]:
        """Return the size of images in pixels, after the centre crop if there is one."""
        size = (self.do_center_crop and self.crop_size) or self.size
        if isinstance(size, int):
            return size, size
        shortest = size.get("shortest_edge")
        height, width = size.get("height", shortest), size.get("width", shortest)
        if height is None or width is None:
            raise ValueError(f"size {size} names no height and width")
        return height, width

    def mean_and_std(self, channels: int) -> tuple[Tensor, Tensor]:
        """Return both (C, 1, 1), for pixels in [0, 1]; a model that is not rescaled for sees 0 to 255."""
        mean, std = self.image_mean, self.image_std
        if self.do_normalize is False:
            mean, std = [0.0] * channels, [1.0] * channels
        if mean is None or std is None or not len(mean) == len(std) == channels:
            raise ValueError(f"image_mean and image_std are not {channels} numbers each")
        mean_C11, std_C11 = (torch.tensor(values).reshape(-1, 1, 1) for values in (mean, std))
        return (mean_C11 / 255, std_C11 / 255) if self.do_rescale is False else (mean_C11, std_C11)
