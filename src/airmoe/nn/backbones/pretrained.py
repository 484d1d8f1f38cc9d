"""Vision models of Hugging Face as feature extractors, frozen unless they are to be tuned.

Shape suffixes: T items, C channels, H height, W width, L tokens, D width.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from airmoe.errors import InvalidInputError, require
from airmoe.nn.backbones.extractor import USUAL_SIZE, Extractor
from airmoe.nn.backbones.model_images import ImageSettings
from airmoe.nn.backbones.model_place import IMAGES, find_model
from airmoe.nn.experts import ClassifierExpert
from airmoe.nn.pooling import Pooling, pool
from airmoe.records import refusal

_POOLING_OF_AXES: dict[int, Pooling] = {2: "vector", 3: "tokens", 4: "map"}
"""What the states of a model are, by the number of their axes."""


class PretrainedExtractor(Extractor):
    """A pretrained vision model: images (T, C, H, W) of any size to its last hidden state.

    That is tokens (T, L, D) with the class token first, or a map (T, C, H, W) of a convolutional model. If
    there is no class token, the mean of the tokens is put first (ours), so that a gate sees all of them.

    Images are resized to what the model was trained on, bilinearly and as a whole (no centre crop), and
    normalised with its mean and standard deviation. Weights are read from safetensors only; no code that lies
    beside them is run. The model takes no gradients until `thaw`, and stays in evaluation, whatever `train`
    is told.

    Args:
        source: a folder made by ``save_pretrained``, with the model's ``preprocessor_config.json``, or a
            name on the Hugging Face hub, fetched once into its cache.
        channels: of the images; a grey one is repeated for a model of colour images.

    Raises:
        MissingExtraError: transformers is not installed.
        InvalidInputError: there is no such model, it lacks weights or a description of its images, or it
            does not answer images, the same each time.
    """

    frozen = True
    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, source: str, channels: int = 3) -> None:
        super().__init__()
        require("llm", "transformers", by=f"hf:{source}")
        import transformers

        place, local = find_model(source)
        try:
            described, _ = transformers.ImageProcessingMixin.get_image_processor_dict(
                place, local_files_only=local
            )
            with _saying_less():
                self.model, loading = transformers.AutoModel.from_pretrained(
                    place,
                    use_safetensors=True,
                    trust_remote_code=False,
                    local_files_only=local,
                    dtype=torch.float32,
                    output_loading_info=True,
                )
            self.model_channels: int = getattr(self.model.config, "num_channels", 3)
            images = ImageSettings.model_validate(described)
            self.size = images.height_and_width()
            mean_C11, std_C11 = images.mean_and_std(self.model_channels)
        except Exception as error:  # of transformers, safetensors, pydantic, the hub or the network
            raise _refused(source, error) from error
        self._not_loaded = frozenset(f"model.{name}" for name in loading["missing_keys"])
        missing = sorted(name for name in loading["missing_keys"] if "pooler" not in name)
        if missing:
            raise InvalidInputError("source", source, f"weights for all of the model; {missing[0]} has none")
        self.register_buffer("mean_C11", mean_C11)
        self.register_buffer("std_C11", std_C11)
        self.has_class_token = any(
            name.endswith(("cls_token", "class_token", "class_embedding"))
            for name, _ in self.model.named_parameters()
        )
        self.requires_grad_(False)
        self.train()
        payload_T = self._tried(source, channels)
        self.payload_shape = tuple(payload_T.shape[1:])
        self.pooling = _POOLING_OF_AXES[payload_T.ndim]
        self.features = pool(payload_T, self.pooling).shape[1]

    def forward(self, images_TCHW: Tensor) -> Tensor:
        """Return the last hidden state of images (T, C, H, W) with pixels in [0, 1]."""
        if images_TCHW.shape[1] == 1:
            images_TCHW = images_TCHW.expand(-1, self.model_channels, -1, -1)
        if images_TCHW.shape[2:] != self.size:
            images_TCHW = functional.interpolate(
                images_TCHW, self.size, mode="bilinear", align_corners=False, antialias=True
            )
        hidden_T: Tensor = self.model(
            pixel_values=(images_TCHW - self.mean_C11) / self.std_C11
        ).last_hidden_state
        if hidden_T.ndim == 3 and not self.has_class_token:
            hidden_T = torch.cat([hidden_T.mean(dim=1, keepdim=True), hidden_T], dim=1)
        return hidden_T

    def train(self, mode: bool = True) -> Self:
        """Stay in evaluation."""
        return super().train(False)

    def thaw(self) -> None:
        """Let training tune the weights. Dropout stays off, and normalisations keep their statistics."""
        self.frozen = False
        self.model.requires_grad_(True)

    def digest(self) -> str:
        """Return SHA-256 of what was loaded: all weights, the model's settings and the size of its images."""
        settings = self.model.config.to_diff_dict()
        of_the_place = ("_name_or_path", "transformers_version")
        known = {name: value for name, value in settings.items() if name not in of_the_place}
        digest = hashlib.sha256(json.dumps([known, self.size], sort_keys=True, default=str).encode())
        loaded = [item for item in self.state_dict().items() if item[0] not in self._not_loaded]
        for name, tensor in sorted(loaded):
            digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            digest.update(tensor.cpu().reshape(-1).view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def tail(self, classes: int) -> ClassifierExpert:
        """Refuse: the whole model is the extractor; its experts are `airmoe.nn.MlpExpert`.

        Raises:
            InvalidInputError: always.
        """
        raise InvalidInputError("expert_hidden", None, "a width: a pretrained model has no tail of its own")

    def _tried(self, source: str, channels: int) -> Tensor:
        """Return the payloads of one image given twice; refuse a model that answers the two differently."""
        shape = 1, channels, *USUAL_SIZE
        image_1CHW = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        try:
            with torch.no_grad():
                payload_T: Tensor = self(image_1CHW.repeat(2, 1, 1, 1))
        except Exception as error:  # whatever a model says to inputs that are not its own
            raise _refused(source, error) from error
        if payload_T.ndim not in (3, 4) or not torch.allclose(payload_T[0], payload_T[1], atol=1e-4):
            raise InvalidInputError(
                "source", source, "a model that gives tokens or a map, the same each time for the same image"
            )
        return payload_T


@contextmanager
def _saying_less() -> Iterator[None]:
    """Keep transformers from advising to train: what a model lacks we say ourselves."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def _refused(source: str, error: Exception) -> InvalidInputError:
    reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    if isinstance(error, ValidationError):
        reason = f"{IMAGES}: {refusal(error)}"
    return InvalidInputError(
        "source", source, f"a vision model of Hugging Face with safetensors weights ({reason})"
    )
