"""``airmoe generate``. Heavy packages are imported by the command that needs them."""

from __future__ import annotations

import codecs
import json
import math
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from airmoe.cli.console import console, tell
from airmoe.cli.identity_options import (
    IdentityFolder,
    Insecure,
    identity_for,
    refuse_nowhere,
    secured_by,
)
from airmoe.cli.paths import client_folder, expanded
from airmoe.cli.serving import Connect
from airmoe.errors import InvalidInputError, require
from airmoe.scheduling.parsing import POLICY_FORMS

if TYPE_CHECKING:
    from airmoe.language.generation import Written
    from airmoe.language.record import TextRecord
    from airmoe.language.writer import Writer
    from airmoe.mesh.identity import Identity
    from airmoe.scheduling import Policy

COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")
"""Of experts, by number; the seventh has that of the first."""


def generate(
    folder: Annotated[
        Path,
        typer.Argument(
            callback=client_folder,
            help="Run folder of airmoe train --method dmoe; or clients/<id> of it, a copy or a pack, to ask "
            "the nodes of a mesh.",
        ),
    ],
    prompt: Annotated[str, typer.Argument(help="What the text begins with.")],
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    length: Annotated[int, typer.Option(help="Bytes to write.")] = 120,
    policy: Annotated[
        str | None,
        typer.Option(
            help=f"{POLICY_FORMS}. In a mesh a joint one needs airmoe serve --schedule. [top-k with the k of "
            "training]"
        ),
    ] = None,
    without: Annotated[
        list[int],
        typer.Option(
            help="Number of a node whose owner's experts are left out; other nodes that hold them are asked. "
            "May be repeated."
        ),
    ] = [],  # noqa: B006 (Typer copies it)
    snr_db: Annotated[
        float | None,
        typer.Option(
            help="Of a run folder: experts sit on nodes, behind simulated links with Rayleigh fading of this "
            "mean SNR, drawn anew for every byte and layer. [transfers cost nothing]"
        ),
    ] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the most probable byte; above, bytes are drawn.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(help="Of links and of bytes that are drawn.")] = 0,
    deadline_s: Annotated[
        float, typer.Option(help="Of a mesh: seconds that a layer may wait for its experts, 0 to 3600.")
    ] = 2.0,
    hedge_s: Annotated[
        float,
        typer.Option(
            help="Of a mesh: seconds that a node may take, at least, before another expert is asked as well. "
            "Longer waits for nodes that are slow; shorter goes on without them."
        ),
    ] = 0.02,
    each: Annotated[
        bool,
        typer.Option(
            "--each",
            help="A line for each byte in place of the text: its joules, its time, and the experts of every "
            "layer; ! marks a layer that lacks one that was wanted.",
        ),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            callback=expanded,
            help="Write a JSON object for each byte to this file: for every layer who answered, joules, "
            "bits, seconds on the air, and subcarriers. The file must not exist.",
        ),
    ] = None,
    identity: IdentityFolder = None,
    insecure: Insecure = False,
) -> None:
    """Write on from a prompt, byte by byte, with a language model whose experts sit on several nodes.

    With clients/<id> and --connect the nodes of a mesh compute, as started by airmoe serve. With a run folder
    everything runs in this process; with --snr-db it tells what the text would have cost on the air, both
    ways. In a terminal, a byte has the colour of the expert that weighs most in it, over all layers. The text
    goes to standard output, and what it took to standard error.
    """
    require("train", "torch", "safetensors", "numba")
    from airmoe.checks import number_within
    from airmoe.language.record import records_of
    from airmoe.mesh.client import LONGEST_DEADLINE_S
    from airmoe.nn.threads import one_thread
    from airmoe.scheduling.parsing import as_policy

    begin = _checked_prompt(prompt)
    number_within("deadline_s", deadline_s, 0, LONGEST_DEADLINE_S)
    chosen = None if policy is None else as_policy(policy)
    in_mesh = _is_of_mesh(folder, connect, snr_db, chosen)
    if record is not None and record.exists():
        raise InvalidInputError("record", str(record), "a file that does not exist yet")
    with ExitStack() as open_:
        if in_mesh:
            known = identity_for(folder, identity, insecure)
            refuse_nowhere(connect, known)
            writer = _in_mesh(folder, connect, chosen, deadline_s, hedge_s, known, open_)
        else:
            writer = _in_process(folder, chosen, snr_db, seed)
        options: dict[str, Any] = {"temperature": temperature, "seed": seed, "without": without}
        steps = writer.write([begin], length, **options)
        lines = None if record is None else open_.enter_context(record.open("w", encoding="utf-8"))
        open_.enter_context(one_thread())
        page, summary = _Page(prompt, each), _Summary()
        begin_s = time.perf_counter()
        for step in steps:
            now_s = time.perf_counter()
            page.show(step, now_s - begin_s)
            summary.add(step, now_s - begin_s)
            if lines is not None:
                layers = records_of(step.layers, writer.reach.node)
                told = {"byte": int(step.byte_B[0]), "seconds": now_s - begin_s, "layers": layers}
                print(json.dumps(told), file=lines, flush=True)
            begin_s = time.perf_counter()
        page.end()
        for line in [
            summary.told(length, priced=in_mesh or snr_db is not None),
            *_who_is_missing(writer, without, summary.record),
            *([secured_by(known)] if in_mesh else []),
        ]:
            print(line, file=sys.stderr)


def _checked_prompt(prompt: str) -> bytes:
    try:
        begin = prompt.encode()
    except UnicodeEncodeError:
        raise InvalidInputError("prompt", prompt, "text in UTF-8") from None
    if not begin:
        raise InvalidInputError("prompt", prompt, "at least one character")
    return begin


def _is_of_mesh(folder: Path, connect: list[str], snr_db: float | None, policy: Policy | None) -> bool:
    """Return whether a folder is a node's, which asks a mesh; refuse options that do not fit it."""
    if not folder.exists():
        raise InvalidInputError("folder", str(folder), "a folder that exists")
    if snr_db is not None and not math.isfinite(snr_db):
        raise InvalidInputError("snr-db", snr_db, "a finite number of dB")
    if (folder / "manifest.json").exists():
        if snr_db is not None:
            raise InvalidInputError("snr-db", snr_db, "none for a mesh: its folders say what links cost")
        return True
    if policy is not None and policy.joint and snr_db is None:
        expected = "one that is not joint, or --snr-db: links to schedule on"
        raise InvalidInputError("policy", policy.name, expected)
    if connect:
        expected = "none for a run folder: clients/<id> in it asks a mesh"
        raise InvalidInputError("connect", ", ".join(connect), expected)
    return False


def _in_mesh(
    folder: Path,
    connect: list[str],
    policy: Policy | None,
    deadline_s: float,
    hedge_s: float,
    identity: Identity | None,
    open_: ExitStack,
) -> Writer:
    from airmoe.cli.asking import DISCOVERY_S
    from airmoe.language.mesh import MeshSource
    from airmoe.language.writer import Writer

    source = open_.enter_context(MeshSource(folder, connect, hedge_s=hedge_s, identity=identity))
    writer = Writer.over(source, policy, deadline_s)
    source.wait_for_nodes()
    source.wait_for_all(DISCOVERY_S, schedulers=policy is not None and policy.joint)
    return writer


def _in_process(folder: Path, policy: Policy | None, snr_db: float | None, seed: int) -> Writer:
    from airmoe.language.run import load_dmoe
    from airmoe.language.simulation import Simulated
    from airmoe.language.writer import Writer
    from airmoe.links import Ofdma, RayleighFading

    model = load_dmoe(folder).model
    if snr_db is None:
        return Writer(model, Simulated(model), policy, math.inf)
    experts = model.settings.experts
    radio = Ofdma(subcarriers=max(experts**2, 16), charge_return=True)
    return Writer(model, Simulated(model, RayleighFading(experts, radio, snr_db, seed).at), policy, math.inf)


class _Page:
    """The text as it grows, in the colours of experts, or a line for each byte."""

    def __init__(self, prompt: str, each: bool) -> None:
        self._each = each
        # A byte may be a part of a character only.
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._experts = set[int]()
        if each:
            tell("byte          joules        time   experts of each layer; the first byte has the prompt's")
        else:
            console().print(prompt, end="", soft_wrap=True, highlight=False)

    def show(self, step: Written, seconds: float) -> None:
        from airmoe.language.record import dispatched_of, energy_j, leading_expert

        row, byte = int(step.row_B[0]), step.byte_B.tobytes()
        expert = leading_expert(step.layers, row)
        self._experts.add(expert)
        if not self._each:
            style = COLOURS[expert % len(COLOURS)]
            console().print(self._decode(byte), style=style, end="", soft_wrap=True, highlight=False)
            return
        asked = [
            "+".join(map(str, done.arrived_TE[row].nonzero()[0].tolist())) + "!" * bool(done.degraded_T[row])
            for done in dispatched_of(step.layers)
        ]
        joules = f"{energy_j(step.layers) * 1e6:9.2f} µJ"
        tell(f"{byte.decode('latin-1')!a:8}{joules}{seconds * 1e3:9.1f} ms   experts {' '.join(asked)}")

    def end(self) -> None:
        if not self._each:
            console().print(self._decode(b"", final=True), soft_wrap=True, highlight=False)
            if console().is_terminal:
                names = [(f" expert {one} ", COLOURS[one % len(COLOURS)]) for one in sorted(self._experts)]
                from rich.text import Text

                console().print(Text.assemble("colours:", *names))


class _Summary:
    """What the text took."""

    def __init__(self) -> None:
        from airmoe.language.record import TextRecord

        self.record, self._pairs, self._tokens, self._seconds = TextRecord(), 0, 0, list[float]()

    def add(self, step: Written, seconds: float) -> None:
        from airmoe.language.record import dispatched_of

        self.record.add(step.layers)
        for done in dispatched_of(step.layers):
            self._pairs += int(done.requested_TE.sum())
            self._tokens += len(done.requested_TE)
        self._seconds.append(seconds)

    def told(self, length: int, *, priced: bool) -> str:
        told = f"{length} bytes, {self._pairs / self._tokens:.2f} experts per byte and layer"
        if len(self._seconds) > 1:
            median_s = sorted(self._seconds[1:])[len(self._seconds) // 2 - 1]
            told += f", {median_s * 1e3:.1f} ms a byte (the median, without the first)"
        if priced:
            told += f"; {self.record.energy_j * 1e6:.1f} µJ on simulated links in all, prompt included, "
            told += "control traffic apart"
        return f"{told}; decided by {', '.join(sorted(self.record.decided_by))}"


def _who_is_missing(writer: Writer, without: list[int], record: TextRecord) -> list[str]:
    """Return what the answer says of nodes that had no part in it."""
    from airmoe.language.mesh import MeshSource

    lines, placement = [], writer.reach.placements[0]

    def holders(expert: int) -> str:
        return f"expert {expert} (of node {', '.join(map(str, placement.nodes_of(expert)))})"

    if without:
        left_out = set(without)
        held = [one for one in range(placement.experts) if set(placement.nodes_of(one)) <= left_out]
        nobody = (
            f": nobody else holds {', '.join(map(holders, held))}" if held else ": others hold its experts"
        )
        lines.append(f"without node {', '.join(map(str, sorted(left_out)))}, as asked{nobody}")
    if record.missed_nodes:
        missed = ", ".join(map(str, sorted(record.missed_nodes)))
        lines.append(f"node {missed} did not answer in time, and others were asked")
    if isinstance(writer.reach, MeshSource) and (gone := writer.reach.nodes_gone()):
        lines.append(f"node {', '.join(map(str, gone))} does not serve now")
    if record.degraded:
        lacked = ", ".join(map(holders, sorted(record.missed_experts)))
        lines.append(f"degraded: {record.degraded} bytes lack an expert that the gate wanted: {lacked}")
    return lines
