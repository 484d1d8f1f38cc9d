"""The command line: parse, call, print. Heavy packages are imported by the command that needs them."""

import logging
import os
import shlex
import signal
import sys
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer
from rich.console import Console

from airmoe.cli.settings import CHANNEL_AWARE, federated_settings, gated_settings, method_of
from airmoe.cli.study import study
from airmoe.errors import AirmoeError, InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from airmoe.channel_aware.config import TwoStageConfig
    from airmoe.data import ImageSet

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # what stands in brackets is text
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Train and run a mixture of experts whose experts live on different devices joined by a network.",
)
app.add_typer(study, name="study")
console = Console(markup=False)  # file and class names are no markup

DISCOVERY_S = 1.0
"""How long `predict` waits for the remaining nodes once it has found one."""

UNAUTHENTICATED = "unauthenticated: anyone on this machine may ask; loopback only until mutual TLS is there"

DataDir = Annotated[
    Path | None,
    typer.Option(help="Folder of the official binary files of CIFAR. [$AIRMOE_DATA, then the cache]"),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="digits, cifar10, cifar100, or folder:PATH with a directory per class. "
        "[digits, or the settings']"
    ),
]
Settings = Annotated[Path | None, typer.Option(help="TOML settings. [those of the demonstration]")]
Clients = Annotated[int | None, typer.Option(help="Number of clients.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Connect = Annotated[
    list[str], typer.Option(help="HOST:PORT of a node; it knows the others. May be repeated.")
]


@app.command()
def demo(
    data: Data = None,
    data_dir: DataDir = None,
    config: Settings = None,
    clients: Clients = None,
    seed: Seed = None,
    ask: Annotated[int, typer.Option(help="Held-out images that each client asks.")] = 450,
    central_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of the centrally trained baseline. [rounds of stage 1; 20 for cifar10]"),
    ] = None,
    analog: Annotated[
        bool,
        typer.Option(
            "--analog", help="Also compare channel-aware with naive routing over links that add noise."
        ),
    ] = False,
    out: Annotated[Path | None, typer.Option(help="Run folder to make. [runs/demo-DATA-TIME]")] = None,
) -> None:
    """Train, serve, ask, kill two nodes, report: the whole system in one command.

    Ten clients train a networked mixture of experts without sharing an image, ten processes serve the
    experts, every client asks held-out images, and two nodes are killed while it does. Ends with a table and
    report.html.
    """
    _require_training()
    from airmoe.report import analog_table, equal_f1_text, methods_table
    from airmoe.report.progress import ProgressBars
    from airmoe.studies.demo.run import run_demo

    settings = federated_settings(data, config, clients, seed)
    if central_epochs is None:
        central_epochs = 20 if settings.data.name == "cifar10" else settings.features.rounds
    name = settings.data.name.partition(":")[0]
    out = out or Path("runs") / f"demo-{name}-{datetime.now():%Y%m%d-%H%M%S}"
    begin = time.monotonic()
    with ProgressBars(console) as progress:
        results = run_demo(
            settings,
            lambda: _load(settings.data.name, data_dir),
            out,
            central_epochs=central_epochs,
            ask_images=ask,
            analog=analog,
            progress=progress,
        )
    console.print(methods_table(results))
    if results.analog is not None:
        console.print(analog_table(results.analog))
    console.print(f"In simulation, all queries in one slot: {equal_f1_text(results)}")
    kills = results.kills
    console.print(
        f"Nodes {kills.victims[0]} and {kills.victims[1]} died during {kills.queries:,} queries: "
        f"{kills.failed_queries} failed, {kills.rerouted_queries} routed again, "
        f"{kills.degraded_queries} degraded; "
        f"macro-F1 of classes with a holder {kills.f1_before:.3f} -> {kills.f1_after:.3f}."
    )
    console.print(f"{time.monotonic() - begin:.0f} s, {results.memory_mb / 1000:.2f} GB over all processes.")
    console.print(f"Open {out / 'report.html'}", soft_wrap=True)


@app.command()
def train(
    data: Data = None,
    data_dir: DataDir = None,
    config: Settings = None,
    method: Annotated[
        Literal["networked", "channel-aware"] | None,
        typer.Option(
            help="networked: clients with data and an expert each, in three federated stages. channel-aware: "
            "a server whose gate sees the SNR of every link to its experts, in two stages. "
            "[that of the settings, or networked]"
        ),
    ] = None,
    clients: Annotated[int | None, typer.Option(help="Number of clients, or of experts of a server.")] = None,
    seed: Seed = None,
    device: Annotated[
        str | None, typer.Option(help="Of channel-aware training: auto, cpu or cuda. [auto]")
    ] = None,
    out: Annotated[Path, typer.Option(help="Run folder to make.")] = Path("runs/train"),
    resume: Annotated[bool, typer.Option(help="Go on with an interrupted run of the same settings.")] = False,
) -> None:
    """Train a mixture of experts and export it for serving.

    A checkpoint is kept in OUT.partial after every round or epoch; --resume ends at the same weights.
    """
    _require_training()
    from airmoe.networked import train_run
    from airmoe.report.progress import ProgressBars

    if (method or method_of(config)) == CHANNEL_AWARE:
        _train_gated(gated_settings(data, config, clients, seed), data_dir, device or "auto", out, resume)
        return
    if device is not None:
        raise InvalidInputError("device", device, f"none: only --method {CHANNEL_AWARE} has a choice")
    settings = federated_settings(data, config, clients, seed)
    images = _load(settings.data.name, data_dir)
    with ProgressBars(console) as progress:
        try:
            trained = train_run(settings, images, out, resume=resume, progress=progress)
        except KeyboardInterrupt:
            console.print(f"Interrupted. Go on with: {_to_go_on()}", soft_wrap=True)
            raise
    console.print(f"macro-F1 of top-1 routing on held-out images: {trained.rows[-1]['macro_f1']:.3f}")
    console.print(
        f"Run folder: {out}. Serve client 0 with: airmoe serve {out / 'clients' / '00'}", soft_wrap=True
    )


def _to_go_on() -> str:
    """Return this command, with --resume: a run goes on with the options it was begun with."""
    given = [word for word in sys.argv[1:] if word != "--resume"]
    return shlex.join(["airmoe", *given, "--resume"])


def _train_gated(
    settings: "TwoStageConfig", data_dir: Path | None, device: str, out: Path, resume: bool
) -> None:
    _require(("tensorboard",), "'airmoe[train]'")
    from airmoe.channel_aware import train_gated_run
    from airmoe.report.progress import ProgressBars

    images = _load(settings.data.name, data_dir)
    with ProgressBars(console) as say:
        try:
            trained = train_gated_run(settings, images, out, device=device, resume=resume, say=say)
        except KeyboardInterrupt:
            console.print(f"Interrupted. Go on with: {_to_go_on()}", soft_wrap=True)
            raise
    held_out = trained.rows[-1]
    console.print(
        f"accuracy on held-out images: {held_out['accuracy_perfect']:.3f} over a perfect channel, "
        f"{held_out['accuracy']:.3f} over {settings.channel.transmission} links, SNR {settings.channel.snr}"
    )
    for line in (
        f"Run folder: {out}. Serve expert 0 with: airmoe serve {out / 'clients' / '00'}",
        f"Ask as the server with: airmoe predict IMAGE --client {out / 'clients' / 'server'} --connect ...",
        f"Look at the training with: tensorboard --logdir {out / 'tensorboard'}",
    ):
        console.print(line, soft_wrap=True)


@app.command()
def serve(
    client_folder: Annotated[Path, typer.Argument(help="clients/<id> of a run folder, or a copy of it.")],
    listen: Annotated[str, typer.Option(help="Loopback HOST:PORT to listen on.")] = "127.0.0.1:7447",
    connect: Connect = [],  # noqa: B006 (Typer copies it)
    schedule: Annotated[
        str | None,
        typer.Option(
            help="Also decide for every client that asks by this joint policy: jesa:IMPORTANCE:MAX_EXPERTS "
            "or homogeneous:Z:MAX_EXPERTS. Clients ask with the same --policy. One node is enough; of "
            "several, the lowest that is alive is asked."
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
        expected = "jesa:IMPORTANCE:MAX_EXPERTS[:Z] or homogeneous:Z:MAX_EXPERTS"
        raise InvalidInputError("schedule", schedule, expected) from None
    with Node(client_folder, listen, connect, schedule=policy, slot_ms=slot_ms) as node:
        manifest = node.manifest
        holds = ", ".join(manifest.classes[label] for label in manifest.holds)
        experts = experts_in_words(manifest.serves) + f" ({holds})" * bool(holds)
        print(f"serving {experts} of mesh {manifest.mesh} on {listen}", flush=True)
        if policy is not None:
            print(f"scheduling by {policy.name} in slots of {slot_ms:g} ms", flush=True)
        print(UNAUTHENTICATED, flush=True)
        stop.wait()


@app.command()
def predict(
    image: Annotated[Path, typer.Argument(help="An image file.")],
    client: Annotated[Path, typer.Option(help="clients/<id> or clients/server, who asks.")],
    connect: Connect,
    policy: Annotated[
        str,
        typer.Option(
            help="topk:K, des:IMPORTANCE:MAX_EXPERTS, random:K, all or local; or the --schedule of a node, "
            "jesa:IMPORTANCE:MAX_EXPERTS, which then decides for all clients at once."
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
        console.print(f"{answer.probability_TC[0, label]:6.1%}  {manifest.classes[label]}")
    dispatched = answer.dispatched
    sees_snr = manifest.asks.gates[0].sees_snr
    experts = []
    for expert in np.flatnonzero(dispatched.arrived_TE[0]):
        here = dispatched.node_TE[0, expert] == manifest.node
        link = f", link {answer.snr_db_TE[0, expert]:.1f} dB" if sees_snr and not here else ""
        score = answer.scores_TE[0, expert]
        experts.append(f"{expert} ({'here' if here else 'remote'}, score {score:.2f}{link})")
    console.print(f"answered by expert {', '.join(experts)}")
    if answer.degraded_T[0]:
        console.print(f"degraded: of the wanted experts' score {answer.reached_T[0]:.0%} was reached")
    analog = answer.transmission == "analog"
    if dispatched.decided_by != asker.policy.name:
        console.print(f"decided by {dispatched.decided_by} at this client: no scheduler did")
    elif analog and asker.policy.joint:
        console.print(f"decided by {dispatched.decided_by} at the prices of ideal links")
    console.print(f"{len(can_ask)} of {layer.spec.experts} experts can be asked")
    console.print(
        f"{dispatched.energy_j_T[0] * 1e6:.1f} µJ over simulated {'analog ' * analog}links, "
        f"{answer.sent_bytes + answer.received_bytes} bytes, {answer.elapsed_s * 1e3:.1f} ms"
    )
    console.print(UNAUTHENTICATED, style="dim")


def main() -> None:
    """Run the command line; whatever the user got wrong is one line and exit status 2."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("airmoe").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        status = app(standalone_mode=False)
    except AirmoeError as error:
        _fail(str(error))
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}; expected to be able to use it")
    except typer.TyperException as error:
        if not error.format_message():  # no command: the help was printed instead
            sys.exit(2)
        _fail(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    print(f"airmoe: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _load(name: str, data_dir: Path | None) -> "ImageSet":
    from airmoe.data import load_images
    from airmoe.report.progress import ProgressBars

    if data_dir is not None and name not in ("cifar10", "cifar100"):
        raise InvalidInputError("data-dir", str(data_dir), f"no folder: {name} reads none")
    with ProgressBars(console) as say:
        return load_images(name, data_dir=data_dir, progress=lambda done, total: say("download", done, total))


def _require_training() -> None:
    needed = ("torch", "onnx", "onnxscript", "safetensors", "sklearn", "matplotlib")
    _require(needed, "'airmoe[train]'")


def _require(needed: tuple[str, ...], install: str) -> None:
    from importlib.util import find_spec

    missing = [name for name in needed if not find_spec(name)]
    if missing:
        raise MissingExtraError(
            f"this command needs {', '.join(missing)}; install with: pip install {install}"
        )


def _set_at_end_of_input(stop: threading.Event) -> None:
    while os.read(0, 4096):
        pass
    stop.set()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
