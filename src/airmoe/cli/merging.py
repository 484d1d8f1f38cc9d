"""``airmoe merge``. Heavy packages are imported by the command that needs them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airmoe.cli.console import console, tell
from airmoe.cli.paths import all_expanded, expanded
from airmoe.errors import InvalidInputError, require
from airmoe.newfolder import new_folder, refuse_taken

if TYPE_CHECKING:
    from torch import Tensor


def merge(
    models: Annotated[
        list[Path],
        typer.Argument(
            callback=all_expanded,
            help="Folders of dense models of Llama's architecture and one size, as transformers writes them: "
            "config.json, safetensors, and the first one's tokenizer.",
        ),
    ],
    text: Annotated[
        list[Path],
        typer.Option(
            callback=all_expanded,
            help="A text in UTF-8 that a model is good at; one for each model, in their order.",
        ),
    ],
    out: Annotated[Path, typer.Option(callback=expanded, help="Folder to make.")],
    k: Annotated[int, typer.Option(help="Experts of a token.")] = 2,
    windows: Annotated[int, typer.Option(help="Windows of each text, drawn at random.")] = 64,
    window: Annotated[int, typer.Option(help="Tokens of a window.")] = 128,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
) -> None:
    """Join dense models into a mixture of experts, whose routers tell whose text it is.

    Feed-forward parts become experts; everything else is the average of all models. The result is a Mixtral
    model, which `airmoe.language.NodesOfModel` puts on nodes. Nothing is downloaded, and no pickle is read.
    """
    os.environ["HF_HUB_OFFLINE"] = "1"
    require("llm", "transformers")
    require("train", "torch", "safetensors")
    refuse_taken(out)
    from transformers.utils.logging import disable_progress_bar

    from airmoe.language.merge import merge_models
    from airmoe.report.progress import ProgressBars

    disable_progress_bar()  # type: ignore[no-untyped-call]
    if len(text) != len(models):
        raise InvalidInputError("number of texts", len(text), f"{len(models)}, one for each model")
    dense, tokenizer = [_model(folder) for folder in models], _tokenizer(models[0])
    tokens = [_tokens(tokenizer, path, windows, window, seed, number) for number, path in enumerate(text)]
    with ProgressBars(console()) as progress:
        mixture = merge_models(dense, tokens, k=k, progress=progress)
    with new_folder(out) as made:
        mixture.save_pretrained(made)
        tokenizer.save_pretrained(made)
    layers = mixture.config.num_hidden_layers
    tell(f"{len(models)} experts in each of {layers} layers, {k} for each token: {out}")
    tell("Read it with transformers, and put it on nodes with airmoe.language.NodesOfModel.")


def _model(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    if not (folder / "config.json").is_file():
        raise InvalidInputError("models", str(folder), "a folder with config.json in it")
    if not list(folder.glob("*.safetensors")):
        raise InvalidInputError("models", str(folder), "one with weights as safetensors: no other is read")
    try:
        told: Any = AutoModelForCausalLM.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        why = " ".join(str(error).split())
        raise InvalidInputError("models", str(folder), f"one that transformers reads ({why})") from None
    model, found = told
    for what in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        for name in sorted(map(str, found[what])):
            expected = f"one whose weights fit its config.json: {what.partition('_')[0]} {name}"
            raise InvalidInputError("models", str(folder), expected)
    return model.train(False)


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer

    expected = "one with a tokenizer, which transformers reads"
    if not list(folder.glob("tokenizer*")):
        raise InvalidInputError("models", str(folder), expected)
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        told = " ".join(str(error).split())
        raise InvalidInputError("models", str(folder), f"{expected} ({told})") from None


def _tokens(tokenizer: Any, path: Path, windows: int, window: int, seed: int, number: int) -> Tensor:
    """Return (windows, window) tokens of a text, drawn at random."""
    import numpy as np
    import torch

    from airmoe.checks import integer_at_least
    from airmoe.randomness import stream

    integer_at_least("windows", windows, 1)
    integer_at_least("window", window, 1)
    try:
        data = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInputError("text", str(path), f"a text in UTF-8 ({error.reason})") from None
    tokens = np.array(tokenizer(data)["input_ids"])
    if len(tokens) < window:
        raise InvalidInputError("window", window, f"at most {len(tokens)}, the tokens of {path}")
    begin = stream(integer_at_least("seed", seed, 0), "merge", number).integers(
        0, len(tokens) - window + 1, windows
    )
    return torch.from_numpy(np.stack([tokens[at : at + window] for at in begin])).long()
