"""``airmoe demo`` and ``airmoe train``. Heavy packages are imported by the command that needs them."""

import shlex
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from airmoe.cli.console import console, tell
from airmoe.cli.paths import expanded
from airmoe.cli.plugin_option import Plugins, load_plugins, tell_unused_plugins
from airmoe.cli.settings import (
    CHANNEL_AWARE,
    DMOE,
    begun_settings,
    channel_aware_settings,
    dmoe_settings,
    method_of,
    networked_settings,
)
from airmoe.cli.text_demo import demonstrate_text
from airmoe.errors import InvalidInputError, RunFolderError, require
from airmoe.newfolder import CHECKPOINTS, partial_of, refuse_taken

if TYPE_CHECKING:
    from airmoe.channel_aware.config import ChannelAwareConfig
    from airmoe.data import ImageSet
    from airmoe.language.config import DmoeConfig
    from airmoe.networked.config import NetworkedConfig

TRAINING = "torch", "onnx", "onnxscript", "safetensors", "sklearn", "matplotlib", "numba", "tensorboard"
"""What every training imports."""

DataDir = Annotated[
    Path | None,
    typer.Option(
        callback=expanded,
        help="Folder of the official files of CIFAR or Fashion-MNIST. [$AIRMOE_DATA, then the cache]",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="digits, cifar10, cifar100, fashion-mnist, several of these joined by +, or folder:PATH with a "
        "directory per class. "
        "validation:NAME holds out training images instead, to choose settings by. [digits, or the settings']"
    ),
]
Size = Annotated[
    int | None,
    typer.Option(help="Height and width of a folder's images, pixels; they keep their shape. [32]"),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="Feature extractor: lenet5, resnet18, vit, or hf:NAME_OR_PATH, a pretrained model of Hugging "
        "Face that stays as it is. (patches needs features.method, too: a settings file.) [lenet5, or the "
        "settings']"
    ),
]
Settings = Annotated[
    Path | None, typer.Option(callback=expanded, help="TOML settings. [those of the demonstration]")
]
Clients = Annotated[int | None, typer.Option(help="Number of clients.")]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]


def demo(
    data: Data = None,
    data_dir: DataDir = None,
    config: Settings = None,
    size: Size = None,
    backbone: Backbone = None,
    clients: Clients = None,
    seed: Seed = None,
    ask: Annotated[int, typer.Option(help="Held-out images that each client asks.")] = 450,
    central_epochs: Annotated[
        int | None,
        typer.Option(help="Epochs of the centrally trained baseline. [rounds of stage 1; 20 for CIFAR]"),
    ] = None,
    analog: Annotated[
        bool,
        typer.Option(
            "--analog", help="Also compare channel-aware with naive routing over links that add noise."
        ),
    ] = False,
    text: Annotated[
        bool,
        typer.Option(
            "--text",
            help="A language model instead of images: owners train its experts, processes serve them, and a "
            "node dies while it writes. Takes --data, --seed and --out alone.",
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(callback=expanded, help="Run folder to make. [runs/demo-DATA-TIME]")
    ] = None,
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Train, serve, ask, kill two nodes, report: the whole system in one command.

    Ten clients train a networked mixture of experts without sharing an image, ten processes serve the
    experts, every client asks held-out images, and two nodes are killed while it does. Ends with a table and
    report.html. The run folder holds a held-out image of each class, in samples/ and in the report. With
    --text, owners train experts of a language model instead, and a node dies while it writes: a table, texts
    and results.json.
    """
    require("train", *TRAINING)
    if out is not None:
        refuse_taken(out)
    load_plugins(plugin)
    if text:
        options = {"data-dir": data_dir, "config": config, "size": size, "backbone": backbone}
        options |= {"clients": clients, "central-epochs": central_epochs, "analog": analog or None}
        for name, value in options.items():
            if value is not None:
                raise InvalidInputError(name, str(value), "nothing beside --text, which has no images")
        tell_unused_plugins(plugin)
        demonstrate_text(data, seed, out)
        return
    from airmoe.data import is_official
    from airmoe.report import analog_table, equal_f1_text, methods_table
    from airmoe.report.progress import ProgressBars
    from airmoe.studies.demo.run import run_demo

    settings = networked_settings(data, config, clients, seed, size=size, backbone=backbone)
    _refuse_impossible(settings)
    tell_unused_plugins(plugin)
    if central_epochs is None:
        central_epochs = 20 if is_official(settings.data.name) else settings.features.rounds
    name = settings.data.name.partition(":")[0]
    out = out or Path("runs") / f"demo-{name}-{datetime.now():%Y%m%d-%H%M%S}"
    begin = time.monotonic()
    with ProgressBars(console()) as progress:
        results = run_demo(
            settings,
            lambda: _load(settings.data.name, data_dir, settings.data.size),
            out,
            central_epochs=central_epochs,
            ask_images=ask,
            analog=analog,
            progress=progress,
        )
    console().print(methods_table(results))
    if results.analog is not None:
        console().print(analog_table(results.analog))
    tell(f"In simulation, all queries in one slot: {equal_f1_text(results)}")
    kills = results.kills
    tell(
        f"Of {kills.queries:,} queries while nodes {kills.victims[0]} and {kills.victims[1]} died and after, "
        f"{kills.failed_queries} failed, {kills.rerouted_queries} routed again, "
        f"{kills.degraded_queries} degraded; "
        f"macro-F1 of classes with a holder {kills.f1_before:.3f} -> {kills.f1_after:.3f}."
    )
    tell(f"{time.monotonic() - begin:.0f} s, {results.memory_mb / 1000:.2f} GB over all processes.")
    tell(f"Open {out / 'report.html'}")


def train(
    data: Data = None,
    data_dir: DataDir = None,
    config: Settings = None,
    method: Annotated[
        Literal["networked", "channel-aware", "dmoe"] | None,
        typer.Option(
            help="networked: clients with data and an expert each, in three federated stages. channel-aware: "
            "a server whose gate sees the SNR of every link to its experts, in two stages. dmoe: a language "
            "model with experts in every layer; --data is python or folder:PATH, a folder of texts per "
            "domain. [that of the settings, or networked]"
        ),
    ] = None,
    size: Size = None,
    backbone: Backbone = None,
    clients: Annotated[int | None, typer.Option(help="Number of clients, or of experts of a server.")] = None,
    seed: Seed = None,
    device: Annotated[
        str | None, typer.Option(help="Of channel-aware training: auto, cpu or cuda. [auto]")
    ] = None,
    out: Annotated[Path, typer.Option(callback=expanded, help="Run folder to make.")] = Path("runs/train"),
    resume: Annotated[
        bool, typer.Option(help="Go on with the interrupted run of --out, with its settings.")
    ] = False,
    plugin: Plugins = [],  # noqa: B006 (Typer copies it)
) -> None:
    """Train a mixture of experts and export it for serving.

    A checkpoint is kept in OUT.partial after every round or epoch; --resume ends at the same weights.
    """
    require("train", *TRAINING)
    refuse_taken(out, resume=resume)
    load_plugins(plugin)
    if resume:
        _refuse_other_plugins(out)
    from airmoe.files import replaced_file
    from airmoe.networked import device_costs, devices_table, outlook, train_run
    from airmoe.report.progress import ProgressBars

    if resume and (data, config, method, clients, seed) == (None,) * 5:
        config = begun_settings(out)
    if method_of(config, method) == CHANNEL_AWARE:
        server = channel_aware_settings(data, config, clients, seed, size=size, backbone=backbone)
        _refuse_impossible(server, out if resume else None)
        tell_unused_plugins([] if resume else plugin)
        _train_channel_aware(server, data_dir, device or "auto", out, resume)
        return
    if method_of(config, method) == DMOE:
        for option, value in (
            ("data-dir", data_dir),
            ("size", size),
            ("backbone", backbone),
            ("device", device),
        ):
            if value is not None:
                raise InvalidInputError(option, str(value), f"none: --method {DMOE} has no such choice")
        language = dmoe_settings(data, config, clients, seed)
        tell_unused_plugins([] if resume else plugin)
        _train_language(language, out, resume)
        return
    if device is not None:
        raise InvalidInputError("device", device, f"none: only --method {CHANNEL_AWARE} has a choice")
    settings = networked_settings(data, config, clients, seed, size=size, backbone=backbone)
    _refuse_impossible(settings, out if resume else None)
    tell_unused_plugins([] if resume else plugin)  # what was begun with them goes on with them
    images = _load(settings.data.name, data_dir, settings.data.size)
    for line in outlook(settings, images):
        tell(line)
    with ProgressBars(console()) as progress:
        try:
            trained = train_run(settings, images, out, resume=resume, progress=progress)
        except KeyboardInterrupt:
            _tell_how_to_go_on(out)
            raise
    table = devices_table(device_costs(out))
    with replaced_file(out / "tables" / f"{table.name}.csv") as temporary:
        temporary.write_text(table.csv(), encoding="utf-8")
    console().print(table.rich(light=True))
    tell(f"macro-F1 of top-1 routing on held-out images: {trained.rows[-1]['macro_f1']:.3f}")
    for line in (
        f"Run folder: {out}. Serve it with: {shlex.join(['airmoe', 'serve', str(out), '--all'])}",
        _look_with(out),
    ):
        tell(line)


def _refuse_impossible(settings: "NetworkedConfig | ChannelAwareConfig", resumed: Path | None = None) -> None:
    """Refuse, before any image is read, what the settings of a run show to be impossible."""
    from airmoe.data.partitions import refuse_other_lists
    from airmoe.nn.build import refuse_impossible_backbone
    from airmoe.runs.load import why_no_folder

    if settings.method == "networked":
        refuse_other_lists(settings.data.partition, settings.data.clients)
    data, model = settings.data, settings.model
    where = "go to the folder where it was trained"
    if resumed is not None and (why := why_no_folder(data.name)):
        raise RunFolderError(f"{partial_of(resumed)} was trained with {data.name}, but {why}; {where}")
    try:
        refuse_impossible_backbone(model.backbone, data.size, model.norm, model.width)
    except InvalidInputError as error:
        if resumed is None or error.name != "backbone":
            raise
        told = f"{partial_of(resumed)} was trained with {model.backbone}, but {error}; {where}"
        raise RunFolderError(told) from None


def _refuse_other_plugins(out: Path) -> None:
    """Refuse to resume a training with other plugins than its checkpoints were made with."""
    from airmoe.plugins import refuse_other_plugins

    if (partial_of(out) / CHECKPOINTS).exists():
        refuse_other_plugins(partial_of(out))


def _tell_how_to_go_on(out: Path) -> None:
    """Print this command with --resume, if there is something to resume."""
    if partial_of(out).exists():
        given = [word for word in sys.argv[1:] if word != "--resume"]
        tell(f"Interrupted. Go on with: {shlex.join(['airmoe', *given, '--resume'])}")


def _look_with(out: Path) -> str:
    from airmoe.monitor import EVENTS

    return f"Look at the training with: {shlex.join(['tensorboard', '--logdir', str(out / EVENTS)])}"


def _train_channel_aware(
    settings: "ChannelAwareConfig", data_dir: Path | None, device: str, out: Path, resume: bool
) -> None:
    from airmoe.channel_aware import train_channel_aware
    from airmoe.report.progress import ProgressBars

    images = _load(settings.data.name, data_dir, settings.data.size)
    with ProgressBars(console()) as progress:
        try:
            trained = train_channel_aware(
                settings, images, out, device=device, resume=resume, progress=progress
            )
        except KeyboardInterrupt:
            _tell_how_to_go_on(out)
            raise
    held_out = trained.rows[-1]
    tell(
        f"accuracy on held-out images: {held_out['accuracy_perfect']:.3f} over a perfect channel, "
        f"{held_out['accuracy']:.3f} over {settings.channel.transmission} links, SNR {settings.channel.snr}"
    )
    for line in (
        f"Run folder: {out}. Serve it with: {shlex.join(['airmoe', 'serve', str(out), '--all'])}",
        _look_with(out),
    ):
        tell(line)


def _train_language(settings: "DmoeConfig", out: Path, resume: bool) -> None:
    from airmoe.language import load_texts
    from airmoe.language.run import train_dmoe_run
    from airmoe.report.progress import ProgressBars

    texts = load_texts(settings.data.name)
    with ProgressBars(console()) as progress:
        try:
            trained = train_dmoe_run(settings, texts, out, resume=resume, progress=progress)
        except KeyboardInterrupt:
            _tell_how_to_go_on(out)
            raise
    held_out = trained.rows[-1]
    told = ", ".join(f"{held_out[f'bits_per_byte_{each.name}']:.3f} ({each.name})" for each in texts.domains)
    for line in (
        f"bits per byte on held-out texts: {told}",
        f"Run folder: {out}. Write with: {shlex.join(['airmoe', 'generate', str(out), 'def '])}",
        _look_with(out),
    ):
        tell(line)


def _load(name: str, data_dir: Path | None, size: int) -> "ImageSet":
    from airmoe.data import is_official, load_images
    from airmoe.report.progress import ProgressBars

    if data_dir is not None and not is_official(name):
        raise InvalidInputError("data-dir", str(data_dir), f"no folder: {name} reads none")
    with ProgressBars(console()) as progress:
        return load_images(name, data_dir=data_dir, size=size, progress=progress)
