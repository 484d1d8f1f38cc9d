"""``airmoe generate``. Heavy packages are imported by the command that needs them."""

import codecs
import math
from pathlib import Path
from typing import Annotated

import typer

from airmoe.cli.console import tell
from airmoe.cli.paths import expanded
from airmoe.errors import InvalidInputError, require
from airmoe.scheduling.parsing import POLICY_FORMS


def generate(
    run: Annotated[Path, typer.Argument(callback=expanded, help="Run folder of airmoe train --method dmoe.")],
    prompt: Annotated[str, typer.Argument(help="What the text begins with.")],
    length: Annotated[int, typer.Option(help="Bytes to write.")] = 120,
    policy: Annotated[
        str | None, typer.Option(help=f"{POLICY_FORMS}. [top-k with the k of training]")
    ] = None,
    snr_db: Annotated[
        float | None,
        typer.Option(
            help="Experts sit on nodes, one on each, behind simulated links with Rayleigh fading of this "
            "mean SNR, drawn anew for every byte and layer. [all experts in this process]"
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the most probable byte; above, bytes are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of links and of bytes that are drawn.")] = 0,
) -> None:
    """Write on from a prompt, byte by byte, with a language model whose experts sit on several nodes.

    It runs in this process. With --snr-db it tells what the text would have cost on the air, both ways.
    """
    require("train", "torch", "safetensors", "numba")
    from airmoe.language.generation import generate as written_by
    from airmoe.language.protocol import faded_carriers
    from airmoe.language.run import load_dmoe
    from airmoe.links import Ofdma, RayleighFading
    from airmoe.nn.threads import one_thread
    from airmoe.scheduling.parsing import as_policy

    if snr_db is not None and not math.isfinite(snr_db):
        raise InvalidInputError("snr-db", snr_db, "a finite number of dB")
    try:
        begin = prompt.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("prompt", prompt, "text in UTF-8") from None
    if not prompt:
        raise InvalidInputError("prompt", prompt, "at least one character")
    chosen = None if policy is None else as_policy(policy)
    if chosen is not None and chosen.joint and snr_db is None:
        raise InvalidInputError("policy", policy, "one that is not joint, or --snr-db: links to schedule on")
    loaded = load_dmoe(run)
    settings = loaded.config.model
    carrier = None
    if snr_db is not None:
        radio = Ofdma(subcarriers=max(settings.experts**2, 16), charge_return=True)
        fading = RayleighFading(settings.experts, radio, snr_db, seed)
        carrier = faded_carriers(fading.at, settings.layers)
    # A byte may be a part of a character only.
    text, energy_j, pairs, tokens = codecs.getincrementaldecoder("utf-8")("replace"), 0.0, 0, 0
    steps = written_by(
        loaded.model,
        [begin],
        length,
        temperature=temperature,
        seed=seed,
        policy=chosen,
        carrier=carrier,
    )
    with one_thread():
        typer.echo(prompt, nl=False)
        for step in steps:
            typer.echo(text.decode(step.byte_B.tobytes()), nl=False)
            for layer in step.layers:
                assert layer.dispatched is not None
                energy_j += float(layer.dispatched.energy_j_T.sum())
                pairs += int(layer.dispatched.requested_TE.sum())
                tokens += len(layer.scores_TE)
    typer.echo(text.decode(b"", final=True))
    told = f"{pairs / tokens:.2f} experts per byte and layer"
    if snr_db is not None:
        told += f"; {energy_j * 1e6:.1f} uJ on the air in all, prompt included, control traffic apart"
    tell(f"{length} bytes, {told}")
