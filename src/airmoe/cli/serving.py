"""``airmoe serve`` and ``airmoe predict``. Neither needs PyTorch."""

import os
import signal
import threading
from pathlib import Path
from typing import Annotated, Literal

import typer

from airmoe.cli.console import console
from airmoe.errors import InvalidInputError
from airmoe.scheduling.parsing import JOINT_POLICY_FORMS, POLICY_FORMS

DISCOVERY_S = 1.0
"""How long `predict` waits for the remaining nodes once it has found one."""

UNAUTHENTICATED = "unauthenticated: anyone on this machine may ask; loopback only until mutual TLS is there"

Connect = Annotated[
    list[str], typer.Option(help="HOST:PORT of a node; it knows the others. May be repeated.")
]


def serve(
    client_folder: Annotated[Path, typer.Argument(help="clients/<id> of a run folder, or a copy of it.")],
    listen: Annotated[str, typer.Option(help="Loopback HOST:PORT to listen on.")] = "127.0.0.1:7447",
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    schedule: Annotated[
        str | None,
        typer.Option(
            help=f"Also decide for every client that asks by this joint policy: {JOINT_POLICY_FORMS}. "
            "Clients ask with the same --policy. One node is enough; of several, the lowest that is alive is "
            "asked."
        ),
    ] = None,
    slot_ms: Annotated[
        float,
        typer.Option(
            help="Milliseconds that a scheduler collects requests before it decides on all of them at once, "
            "0 to 500: longer slots share subcarriers among more clients, and every query waits for one, for "
            "half of its deadline at most."
        ),
    ] = 5.0,
    exit_with_parent: Annotated[
        bool, typer.Option(help="End when standard input closes, for processes started by another.")
    ] = False,
) -> None:
    """Serve the experts of a client's folder to the mesh until interrupted. Needs no PyTorch."""
    from airmoe.manifest import experts_in_words
    from airmoe.mesh import Node
    from airmoe.scheduling import make_policy

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    if exit_with_parent:
        threading.Thread(target=_set_at_end_of_input, args=(stop,), daemon=True).start()
    try:
        policy = None if schedule is None else make_policy(schedule)
    except InvalidInputError as error:
        if error.name != "policy":
            raise
        raise InvalidInputError("schedule", schedule, JOINT_POLICY_FORMS) from None
    with Node(client_folder, listen, connect, schedule=policy, slot_ms=slot_ms) as node:
        manifest = node.manifest
        holds = ", ".join(manifest.classes[label] for label in manifest.holds)
        experts = experts_in_words(manifest.serves) + f" ({holds})" * bool(holds)
        print(f"serving {experts} of mesh {manifest.mesh} on {listen}", flush=True)
        if policy is not None:
            print(f"scheduling by {policy.name} in slots of {slot_ms:g} ms", flush=True)
        print(UNAUTHENTICATED, flush=True)
        # Another thread may take the signal, and the handler runs when this one wakes.
        while not stop.wait(timeout=0.5):
            pass


def predict(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    client: Annotated[Path, typer.Option(help="clients/<id> or clients/server, who asks.")],
    connect: Connect,
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
    deadline: Annotated[float, typer.Option(help="Seconds for the answer.")] = 2.0,
    seed: Annotated[int, typer.Option(help="Seed of random policies.")] = 0,
) -> None:
    """Ask a running mesh what an image shows, who answered, for how many joules. Needs no PyTorch."""
    import numpy as np

    from airmoe.data import read_image
    from airmoe.mesh import MeshClient
    from airmoe.scheduling import make_policy

    with MeshClient(client, connect, policy=make_policy(policy, seed), wire_type=wire_type) as asker:
        manifest, layer = asker.manifest, asker.layer
        assert manifest.asks is not None  # a client asks
        spec = manifest.asks.input
        pixels = read_image(image, spec.channels, spec.height, spec.width)
        asker.wait_for_nodes()
        served = len({node for nodes in layer.spec.placement for node in nodes})
        layer.liveliness.wait_until(lambda alive: len(layer.nodes_alive(alive)) == served, DISCOVERY_S)
        if asker.policy.joint and not asker.is_server:  # a server decides itself
            asker.schedulers.liveliness.wait_until(bool, DISCOVERY_S)
        can_ask = {replica.expert for replica in layer.liveliness.alive} | layer.own.keys()
        answer = asker.predict(pixels[None], deadline_s=deadline)
    for label in np.argsort(-answer.probability_TC[0])[:3]:
        console().print(f"{answer.probability_TC[0, label]:6.1%}  {manifest.classes[label]}")
    dispatched = answer.dispatched
    sees_snr = manifest.asks.gates[0].sees_snr
    experts = []
    for expert in np.flatnonzero(dispatched.arrived_TE[0]):
        here = dispatched.node_TE[0, expert] == manifest.node
        link = f", link {answer.snr_db_TE[0, expert]:.1f} dB" if sees_snr and not here else ""
        score = answer.scores_TE[0, expert]
        experts.append(f"{expert} ({'here' if here else 'remote'}, score {score:.2f}{link})")
    console().print(f"answered by expert {', '.join(experts)}")
    if answer.degraded_T[0]:
        console().print(f"degraded: of the wanted experts' score {answer.reached_T[0]:.0%} was reached")
    analog = answer.transmission == "analog"
    if dispatched.decided_by != asker.policy.name:
        console().print(f"decided by {dispatched.decided_by} at this client: no scheduler did")
    elif analog and asker.policy.joint:
        console().print(f"decided by {dispatched.decided_by} at the prices of ideal links")
    console().print(f"{len(can_ask)} of {layer.spec.experts} experts can be asked")
    console().print(
        f"{dispatched.energy_j_T[0] * 1e6:.1f} µJ over simulated {'analog ' * analog}links, "
        f"{answer.sent_bytes + answer.received_bytes} bytes, {answer.elapsed_s * 1e3:.1f} ms"
    )
    console().print(UNAUTHENTICATED, style="dim")


def _set_at_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()
