"""Image sets, and their division among clients. Only the digits need more than NumPy and Pillow."""

from airmoe.data.image_file import read_image
from airmoe.data.image_set import ImageSet, as_pixels
from airmoe.data.load import is_official, load_images
from airmoe.data.partitions import partition

__all__ = ["ImageSet", "as_pixels", "is_official", "load_images", "partition", "read_image"]
