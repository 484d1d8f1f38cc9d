"""Where a pretrained model lies: in a folder, in the cache of the Hugging Face hub, or on the hub."""

import re
from pathlib import Path
from typing import NamedTuple

from airmoe.errors import InvalidInputError
from airmoe.files import as_path, sought_in

CONFIG, IMAGES = "config.json", "preprocessor_config.json"
_PROCESSOR = "processor_config.json"
"""Newer models describe their images in this file."""

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_HUB_TIMEOUT_S = 5.0


class ModelPlace(NamedTuple):
    """What transformers is told: a folder or a name, and whether nothing may be fetched."""

    name: str
    local_files_only: bool


def find_model(source: str) -> ModelPlace:
    """Return where a model is loaded from; the hub is asked one short question before anything is fetched.

    Raises:
        InvalidInputError: neither a folder with all files of a model, nor a name that the hub or its cache
            knows.
    """
    path = as_path(source)
    if path.is_dir():
        _refuse_missing_files(source, path)
        return ModelPlace(str(path), local_files_only=True)
    if not _HUB_NAME.fullmatch(source) or path.parent.is_dir():
        expected = "an existing folder, or a name on the Hugging Face hub, ORG/NAME"
        raise InvalidInputError("source", source, expected + sought_in(path))
    return ModelPlace(source, local_files_only=not _on_hub(source))


def _refuse_missing_files(source: str, folder: Path) -> None:
    found = {file.name for file in folder.iterdir()}
    missing = [CONFIG] if CONFIG not in found else []
    missing += ["*.safetensors"] if not any(name.endswith(".safetensors") for name in found) else []
    missing += [IMAGES] if not found & {IMAGES, _PROCESSOR} else []
    if missing:
        raise InvalidInputError(
            "source",
            source,
            f"a vision model of Hugging Face with safetensors weights, a folder with {CONFIG}, "
            f"model.safetensors and {IMAGES}; it has no {missing[0]}",
        )


def _on_hub(name: str) -> bool:
    """Return whether the hub has a model; False where it cannot be asked and the cache has the model."""
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        huggingface_hub.HfApi().model_info(name, timeout=_HUB_TIMEOUT_S)
    except RepositoryNotFoundError:
        expected = "a name on the Hugging Face hub: it has no such model, or none that you may see"
        raise InvalidInputError("source", name, expected) from None
    except Exception as error:  # of the network, whatever library carries it
        if isinstance(huggingface_hub.try_to_load_from_cache(name, CONFIG), str):
            return False
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        expected = f"a model in the cache, or a hub that can be asked ({reason})"
        raise InvalidInputError("source", name, expected) from None
    return True
