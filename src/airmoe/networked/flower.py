"""The networked method as an app of Flower: what ``flwr run`` starts, and what takes part at a node.

The server holds the settings, the shared networks and held-out images; nodes hold their images and experts.
At the end the server's run folder has ``shared/``, and every node its client's folder for `airmoe serve`.
"""

import shutil
import sys
from functools import partial
from pathlib import Path

import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from airmoe.data import load_images
from airmoe.data.partitions import partition_digest
from airmoe.errors import InvalidInputError
from airmoe.federated import run_round
from airmoe.federated.flower.content import framed, recorded
from airmoe.federated.flower.engine import FlowerReach
from airmoe.federated.flower.node import ResidentNode, run_name
from airmoe.files import as_path
from airmoe.manifest import INPUT, AskingSpec, GateSpec, InputSpec, LayerSpec, Manifest, OutputSpec
from airmoe.networked.apart import NodesApart, told_to_nodes
from airmoe.networked.client_data import held_out_of
from airmoe.networked.config import METHODS, NetworkedConfig, load_config
from airmoe.networked.export_apart import EXPORT, FOLDER, Exporting
from airmoe.networked.held_out import HeldOut
from airmoe.networked.node_apart import NodeApart
from airmoe.networked.run import radio_of
from airmoe.networked.stages import SharedParts, train_shared_parts
from airmoe.networked.syncs import gates_differ
from airmoe.newfolder import partial_of
from airmoe.nn import NoisyTopK
from airmoe.nn.build import backbone_digest
from airmoe.nn.threads import training_threads
from airmoe.runfolder import EXTRACTOR, EXTRACTOR_WEIGHTS, GATE, GATE_WEIGHTS
from airmoe.runs.manifests import NOT_YET, node_manifests, rehearse_manifests
from airmoe.runs.onnx_files import export_gate, export_onnx, gate_sees
from airmoe.runs.run_writing import begun_run, fingerprint, finish_run, run_checkpoint
from airmoe.runs.settings import changed
from airmoe.runs.stage_times import StageTimes
from airmoe.runs.weights import save_weights

SETTINGS: dict[str, str | int | float | bool] = {
    "config": "",
    "out": "",
    "data_dir": "",
    "timeout_s": 600.0,
    "minimum": 1,
}
"""What a run is told by ``--run-config``: the TOML of the run, the run folder to make, where official files
lie, how long an exchange waits, and the fewest clients that begin a round."""

EXAMPLES = 32
"""On how many held-out images the export compares ONNX Runtime with PyTorch."""

server = ServerApp()
client = ClientApp()


@server.main()  # type: ignore[untyped-decorator]
def main(grid: Grid, context: Context) -> None:
    """Train all stages over the nodes of the SuperLink; go on where an interrupted run left off."""
    sys.argv[1:] = []  # its words hold a secret of Flower, and a run folder tells the command that made it
    told = {**SETTINGS, **context.run_config}
    for name in ("config", "out"):
        if not told[name]:
            raise InvalidInputError(name, told[name], "a path, in --run-config")
    config, out = _config(str(told["config"])), as_path(str(told["out"]))
    images = load_images(config.data.name, data_dir=str(told["data_dir"]) or None, size=config.data.size)
    held_out = held_out_of(images)
    settings = told_to_nodes(config, held_out)
    reach = FlowerReach(
        grid,
        config.data.clients,
        settings,
        timeout_s=float(told["timeout_s"]),
        minimum=int(told["minimum"]),
    )
    nodes = NodesApart(reach, config.data.clients)
    _rehearse(config, held_out)
    read = {
        "backbone": backbone_digest(config.model.backbone, images.train_images.shape[1]),
        "lists": partition_digest(config.data.partition),
    }
    with (
        training_threads(config.model.backbone),
        begun_run(out, config, config.seed, images, resume=partial_of(out).exists()) as unfinished,
    ):
        checkpoint = run_checkpoint(unfinished, fingerprint(config, images, *read.values()))
        times = StageTimes(unfinished)
        progress = times.counting(_tell)
        shared = train_shared_parts(config, nodes, held_out, checkpoint=checkpoint, progress=progress)
        absent = _export(unfinished, config, shared, held_out, nodes)
        finish_run(unfinished, out, config, config.seed, shared.rows, images, read, times.seconds)
    print(f"wrote {out}; at every node: runs/{run_name(settings)}/{FOLDER}", flush=True)
    if absent:
        print(f"without an expert, because they were not there: clients {absent}", flush=True)


@client.train()  # type: ignore[untyped-decorator]
def answer(message: Message, context: Context) -> Message:
    """Answer in a process of Flower for this message alone; `airmoe flower node` needs no process for each.

    The node's configuration says ``client`` and ``folder``, and ``data`` if it has images of its own.
    """
    own = context.node_config
    data = str(own["data"]) if "data" in own else None
    node = ResidentNode(
        int(own["client"]),
        Path(str(own["folder"])),
        partial(NodeApart, data=data),
    )
    return Message(recorded(node.answer(framed(message.content))), reply_to=message)


def _tell(stage: str, done: int, of: int, note: str = "") -> None:
    print(f"{stage}: {done} of {of}{f', {note}' if note else ''}", flush=True)


def _config(path: str) -> NetworkedConfig:
    """Return the settings; where they do not say otherwise, sums are secure.

    Raises:
        InvalidInputError: as `parse_config`, or every client is to have a gate of its own.
    """
    config = load_config(path)
    if "secure_sums" not in config.federation.model_fields_set:
        told_by = {"federation.secure_sums": "federation.secure_sums, which is on over Flower,"}
        config = changed(config, {"federation.secure_sums": True}, told_by)
    if config.gate.method in METHODS and gates_differ(config.gate.sync_rule):
        expected = "fedavg: clients that are elsewhere keep their gates to themselves"
        raise InvalidInputError("gate.sync", config.gate.sync, expected)
    return config


def _rehearse(config: NetworkedConfig, held_out: HeldOut) -> None:
    """Find before the training what no manifest can hold."""
    nobody_knows: list[list[int]] = [[] for _ in range(config.data.clients)]
    rehearse_manifests(
        mesh=config.mesh, class_names=held_out.class_names, holds=nobody_knows, radio=radio_of(config)
    )


def _export(
    folder: Path, config: NetworkedConfig, shared: SharedParts, held_out: HeldOut, nodes: NodesApart
) -> list[int]:
    """Write the shared part, let the nodes write theirs; return who was not there."""
    gate = shared.gate.gate if isinstance(shared.gate, NoisyTopK) else shared.gate
    into, examples = folder / "shared", held_out.images_TCHW[:EXAMPLES]
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir()
    with torch.no_grad():
        payload_T = shared.extractor(examples)
    export_onnx(shared.extractor, {INPUT: examples}, into / EXTRACTOR)
    save_weights(shared.extractor, into / EXTRACTOR_WEIGHTS)
    export_gate(gate, payload_T, nodes.clients, into / GATE)
    save_weights(gate, into / GATE_WEIGHTS)
    payload = list(payload_T.shape[1:])
    manifests = _manifests(config, held_out, payload, nodes.clients, sees_snr=gate_sees(gate))
    nodes.ask_all()  # for the last time
    result = run_round(Exporting(manifests, into), {}, 0, nodes.engine(EXPORT))
    return sorted(set(range(nodes.clients)) - set(result.replies))


def _manifests(
    config: NetworkedConfig, held_out: HeldOut, payload: list[int], clients: int, *, sees_snr: bool
) -> list[Manifest]:
    classes = len(held_out.class_names)
    channels, height, width = held_out.images_TCHW.shape[1:]
    layer = LayerSpec(
        layer=1,
        payload=payload,
        output=OutputSpec(kind="probabilities", shape=[classes]),
        placement=[[client] for client in range(clients)],
        hashes=[NOT_YET[:16]] * clients,
    )
    asking = AskingSpec(
        input=InputSpec.model_validate({"channels": channels, "height": height, "width": width}),
        extractor=EXTRACTOR,
        gates=[GateSpec(layer=1, file=GATE, sees_snr=sees_snr)],
    )
    manifests = node_manifests(
        layer,
        asking,
        mesh=config.mesh,
        class_names=held_out.class_names,
        holds=[[] for _ in range(clients)],
        radio=radio_of(config),
    )
    return list(manifests.values())
