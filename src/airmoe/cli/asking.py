"""``airmoe predict``: what running nodes say of images. It needs no PyTorch."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from airmoe.checks import number_within
from airmoe.cli.console import tell
from airmoe.cli.identity_options import (
    IdentityFolder,
    Insecure,
    identity_for,
    refuse_nowhere,
    secured_by,
)
from airmoe.cli.logs import LogOption, log_as
from airmoe.cli.paths import all_expanded, client_folder
from airmoe.cli.plugin_option import Plugins, load_plugins, tell_unused_plugins
from airmoe.cli.serving import Connect
from airmoe.errors import AirmoeError, DataError, NoExpertReachedError, NoNodeReachableError
from airmoe.scheduling.parsing import POLICY_FORMS

if TYPE_CHECKING:
    from airmoe.mesh import Answer, MeshClient

DISCOVERY_S = 3.0
"""How long `predict` waits for the remaining nodes once it has found one."""

SOME_FAILED = 1
"""Exit status where only some of the images got an answer."""


def predict(
    images: Annotated[
        list[Path],
        typer.Argument(
            callback=all_expanded, help="Image files, and folders, whose images are taken at any depth."
        ),
    ],
    client: Annotated[
        Path,
        typer.Option(callback=client_folder, help="clients/<id>, clients/server or a pack of one: who asks."),
    ],
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    policy: Annotated[
        str,
        typer.Option(
            help=f"{POLICY_FORMS}. With jesa or homogeneous, the --schedule of a node, that node decides "
            "for all clients at once."
        ),
    ] = "topk:1",
    wire_type: Annotated[
        Literal["float32", "float16", "bfloat16"], typer.Option(help="How values travel.")
    ] = "float32",
    links: Annotated[
        Literal["run", "measured"],
        typer.Option(
            help="What gate and policy see: the run's simulated links, or those to the nodes as measured."
        ),
    ] = "run",
    deadline: Annotated[float, typer.Option(help="Seconds for each answer.")] = 2.0,
    verify: Annotated[
        int,
        typer.Option(
            help="How many nodes have to give the same output, 1 or 2. With 2 a second node that holds the "
            "expert is asked, too; two that contradict each other are named, and neither counts. Refused "
            "where the run has every expert at one node alone."
        ),
    ] = 1,
    seed: Annotated[int, typer.Option(help="Seed of random policies.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object per image, one a line, and nothing else.")
    ] = False,
    identity: IdentityFolder = None,
    insecure: Insecure = False,
    log: LogOption = "short",
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Ask a running mesh what images show, who answered, for how many joules. Needs no PyTorch.

    Exit status: 0 if every image got an answer, 1 if only some did, 2 if none did or the input is wrong.
    """
    from airmoe.data import read_image
    from airmoe.mesh import MeasuredLinks, MeshClient
    from airmoe.mesh.answer_record import record_of
    from airmoe.mesh.client import LONGEST_DEADLINE_S
    from airmoe.scheduling import make_policy

    log_as(log)
    number_within("deadline", deadline, 0, LONGEST_DEADLINE_S)  # before nodes are looked for
    load_plugins(plugin)
    decides = make_policy(policy, seed)
    tell_unused_plugins(plugin)
    files, alone = list(_image_files(images)), len(images) == 1 and not images[0].is_dir()
    answered, failed = 0, list[AirmoeError]()
    known = identity_for(client, identity, insecure)
    refuse_nowhere(connect, known)
    with MeshClient(
        client,
        connect,
        policy=decides,
        links=MeasuredLinks() if links == "measured" else None,
        wire_type=wire_type,
        verify=verify,
        identity=known,
    ) as asker:
        assert asker.manifest.asks is not None  # a client asks
        spec, found = asker.manifest.asks.input, False
        for file in files:
            try:
                pixels = read_image(file, spec.channels, spec.height, spec.width)
                if not found:
                    _find_nodes(asker)
                    if links == "measured":
                        asker.measure_links()
                    found = True
                answer = asker.predict(pixels[None], deadline_s=deadline)
            except (DataError, NoExpertReachedError) as error:
                failed.append(error)
                _tell_failure(file, error, as_json=as_json, alone=alone)
                continue
            answered += 1
            record = {"image": str(file), **record_of(asker, answer)}
            if as_json:
                print(json.dumps(record, allow_nan=False), flush=True)
            elif alone:
                _explain(record, asker, answer)
            else:
                _tell(record)
    if answered and not as_json:
        tell(secured_by(known), style="dim")
    if not answered:
        raise failed[0] if alone else DataError(f"none of {len(files)} images got an answer: {failed[0]}")
    if failed:
        print(f"airmoe: {len(failed)} of {len(files)} images got no answer", file=sys.stderr)
        raise typer.Exit(SOME_FAILED)


def _image_files(paths: list[Path]) -> Iterator[Path]:
    """Yield the files that are named, and the images in the folders that are."""
    from airmoe.data.listing import images_below

    for path in paths:
        if path.is_dir():
            yield from images_below(path)
        else:
            yield path


def _find_nodes(asker: "MeshClient") -> None:
    layer = asker.layer
    try:
        asker.wait_for_nodes()
    except NoNodeReachableError as error:
        if asker.is_server:
            raise
        print(f"airmoe: {error}; the client answers itself", file=sys.stderr)
        return
    served = len({node for nodes in layer.spec.placement for node in nodes})
    layer.liveliness.wait_until(lambda alive: len(layer.nodes_alive()) == served, DISCOVERY_S)
    if asker.policy.joint and not asker.is_server:  # a server decides itself
        asker.schedulers.liveliness.wait_until(bool, DISCOVERY_S)


def _who(record: dict[str, Any]) -> str:
    experts = []
    for told in record["answered_by"]:
        link = f", link {told['link_snr_db']:.1f} dB" if "link_snr_db" in told else ""
        place = "here" if told["here"] else "remote"
        seen = {True: ", verified", False: ", not verified", None: ""}[told.get("verified")]
        experts.append(f"{told['expert']} ({place}, score {told['score']:.2f}{link}{seen})")
    none = f"; {record['decided_by']} chose no expert" if record["chose_none"] else ""
    return f"answered by expert {', '.join(experts)}{none}"


def _tell(record: dict[str, Any]) -> None:
    """Print one image in one line."""
    degraded = ""
    if record["degraded"]:
        missed = ", ".join(map(str, record["missed"]))
        degraded = f", degraded: {record['reached']:.0%} of the score reached, not expert {missed}"
    tell(
        f"{record['image']}: {record['label']} {record['probability']:.1%}, {_who(record)}{degraded}, "
        f"{record['energy_j'] * 1e6:.1f} µJ",
    )


def _explain(record: dict[str, Any], asker: "MeshClient", answer: "Answer") -> None:
    """Print the only image in full."""
    analog = answer.transmission == "analog"
    for label, share in list(record["probabilities"].items())[:3]:
        tell(f"{share:6.1%}  {label}")
    tell(_who(record))
    if record["degraded"]:
        missed = ", ".join(map(str, record["missed"]))
        reached = f"{record['reached']:.0%} was reached"
        tell(f"degraded: of the wanted experts' score {reached}: not expert {missed}")
    if record["decided_by"] != asker.policy.name:
        tell(f"decided by {record['decided_by']} at this client: no scheduler did")
    elif asker.policy.joint:
        prices = " at the prices of ideal links" if analog else ""
        where = "here" if record["scheduler"] is None else f"at node {record['scheduler']}, for all clients"
        tell(f"decided by {record['decided_by']} {where}{prices}")
    tell(f"{record['can_be_asked']} of {asker.layer.spec.experts} experts can be asked")
    if record["out_of_reach"]:
        far, why = record["out_of_reach"], record["why_out_of_reach"]
        tell(f"{far} experts live and are out of reach: {why}")
    links = f"simulated {'analog ' * analog}links"
    if asker.mesh.goes_by_measured_links:
        links = "links as measured, at the power of the run's radio"
    tell(
        f"{record['energy_j'] * 1e6:.1f} µJ over {links}, "
        f"{record['bytes']} bytes, {record['elapsed_s'] * 1e3:.1f} ms"
    )


def _tell_failure(image: Path, error: AirmoeError, *, as_json: bool, alone: bool) -> None:
    if as_json:
        print(json.dumps({"image": str(image), "error": str(error)}), flush=True)
    elif not alone:  # the last line says it
        print(f"airmoe: {error}", file=sys.stderr)
