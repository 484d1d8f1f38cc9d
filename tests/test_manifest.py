"""Manifests and the files they vouch for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.manifest import (
    MOST_VALUES,
    AskingSpec,
    ExpertSpec,
    GateSpec,
    InputSpec,
    LayerSpec,
    Manifest,
    OutputSpec,
    RadioSpec,
    experts_in_words,
    read_manifest,
    write_manifest,
)
from airmoe.mesh.frame import MAX_BODY_BYTES
from airmoe.runfolder import EXTRACTOR, GATE, SERVER, checked_file, client_folders, expert_file, sha256_of

PROBABILITIES = OutputSpec(kind="probabilities", shape=[2])
HIDDEN = OutputSpec(kind="hidden states", shape=[65, 192])
LAYER = LayerSpec(
    layer=1, payload=[400], output=PROBABILITIES, placement=[[0], [1], [2], [3]], hashes=["0" * 16] * 4
)
ASKING = AskingSpec(
    input=InputSpec(channels=3, height=32, width=32),
    extractor="extractor.onnx",
    gates=[GateSpec(layer=1, file="gate.onnx")],
)


def manifest_of(**changes: Any) -> Manifest:
    """Of node 1, which serves expert 1 and asks, with some fields changed."""
    fields: dict[str, Any] = {
        "mesh": "lab",
        "model_hash": "0123456789abcdef",
        "node": 1,
        "nodes": 4,
        "layers": [LAYER],
        "serves": [ExpertSpec(layer=1, expert=1, file="expert-1.onnx")],
        "asks": ASKING,
        "classes": ["cat", "dög"],
        "holds": [0],
        "radio": RadioSpec(mean_snr_db=10.0, subcarriers=128, subcarrier_hz=1e6, power_w=0.01, seed=0),
    }
    fields |= changes
    if "sha256" not in fields:
        files = [expert.file for expert in fields["serves"]]
        if fields["asks"] is not None:
            files += [fields["asks"].extractor, *(gate.file for gate in fields["asks"].gates)]
        fields["sha256"] = dict.fromkeys(files, "0" * 64)
    return Manifest(**fields)


@pytest.fixture
def manifest() -> Manifest:
    return manifest_of()


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of a trained run that may be harmed."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def serving(*experts: tuple[int, int]) -> list[ExpertSpec]:
    return [
        ExpertSpec(layer=layer, expert=expert, file=f"expert-{layer}-{expert}.onnx")
        for layer, expert in experts
    ]


WIDE = LAYER.model_copy(update={"placement": [[0], [0, 1], [1], [1, 2]]})
DEEP = LayerSpec(layer=2, payload=[65, 192], output=HIDDEN, placement=[[1], [0]], hashes=["0" * 16] * 2)
EXPRESSIBLE = {
    "a server that only asks": {"node": 4, "nodes": 5, "serves": [], "holds": []},
    "a node that only serves": {"asks": None},
    "several experts and replicas": {"layers": [WIDE], "serves": serving((1, 1), (1, 2), (1, 3))},
    "several layers": {"layers": [LAYER, DEEP], "serves": serving((1, 1), (2, 0))},
    "a gate for each layer": {
        "layers": [LAYER, DEEP],
        "serves": serving((1, 1), (2, 0)),
        "asks": ASKING.model_copy(
            update={"gates": [*ASKING.gates, GateSpec(layer=2, file="gate-2.onnx", sees_snr=True)]}
        ),
    },
    "logits": {"layers": [LAYER.model_copy(update={"output": OutputSpec(kind="logits", shape=[2])})]},
}


@pytest.mark.parametrize("case", EXPRESSIBLE)
def test_this_is_read_as_it_was_written(tmp_path: Path, case: str) -> None:
    manifest = manifest_of(**EXPRESSIBLE[case])
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_a_layer_tells_its_experts_and_what_they_take() -> None:
    manifest = manifest_of(**EXPRESSIBLE["several layers"])
    assert (manifest.layer(1).experts, manifest.layer(2).experts) == (4, 2)
    assert (manifest.layer(1).payload_values, manifest.layer(2).payload_values) == (400, 65 * 192)
    assert (manifest.layer(1).most_values, manifest.layer(2).most_values) == (400, 65 * 192)
    assert WIDE.experts_on(1) == [1, 2, 3]
    assert manifest.files == ["expert-1-1.onnx", "expert-2-0.onnx", "extractor.onnx", "gate.onnx"]


def test_experts_are_listed_in_words() -> None:
    assert experts_in_words(serving((1, 3))) == "expert 3"
    assert experts_in_words(serving((1, 3), (1, 0))) == "experts 0, 3"
    assert experts_in_words(serving((1, 3), (2, 0), (2, 1))) == "experts 3 of layer 1, 0, 1 of layer 2"


def test_the_largest_payload_fills_a_message() -> None:
    assert MOST_VALUES * 4 == MAX_BODY_BYTES


def placed(*nodes: list[int]) -> dict[str, Any]:
    update = {"placement": list(nodes), "hashes": ["0" * 16] * len(nodes)}
    return {"layers": [LAYER.model_copy(update=update)]}


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "a node too many": ({"node": 4}, "node is 4; expected less than 4"),
    "an expert beyond": (
        placed([0], [1], [4]),
        "a node in the placement of layer 1 is 4",
    ),
    "a hash too few": (
        {"layers": [LAYER.model_copy(update={"hashes": ["0" * 16] * 3})]},
        "hashes is 3; expected 4, one for each expert",
    ),
    "weights of another model": (
        {"layers": [LAYER.model_copy(update={"hashes": ["0123456789abcdef"] * 4})]},
        "sha256 of expert-1.onnx is '"
        + "0" * 64
        + "'; expected one that begins with 0123456789abcdef, the hash of expert 1 in this model",
    ),
    "an expert that is not placed": (
        {"serves": serving((1, 1), (1, 2))},
        "serves is [(1, 1), (1, 2)]; expected [(1, 1)], the (layer, expert) that the placement puts",
    ),
    "an expert that is not served": (
        placed([0], [1], [1]),
        "serves is [(1, 1)]; expected [(1, 1), (1, 2)], the (layer, expert) that the placement puts on",
    ),
    "an expert served twice": (
        {"serves": serving((1, 1), (1, 1))},
        "serves is [(1, 1), (1, 1)]; expected [(1, 1)], the",
    ),
    "another layer": ({"serves": serving((2, 1))}, "serves is [(2, 1)]; expected [(1, 1)], the"),
    "nothing to do": (
        {"node": 4, "nodes": 5, "serves": [], "asks": None},
        "asks is None; expected a value, for node 4 serves no expert",
    ),
    "a layer twice": ({"layers": [LAYER, LAYER]}, "layer is 1; expected once, not 2 times"),
    "a gate twice": (
        {"asks": ASKING.model_copy(update={"gates": ASKING.gates * 2})},
        "layer of a gate is 1; expected once, not 2 times",
    ),
    "a gate of no layer": (
        {"asks": ASKING.model_copy(update={"gates": [GateSpec(layer=3, file="gate.onnx")]})},
        "layer of a gate is 3; expected a layer of the model",
    ),
    "a file without digest": ({"sha256": {"gate.onnx": "0" * 64}}, "sha256 is 'expert-1.onnx, extr"),
    "a digest without file": (
        {"sha256": dict.fromkeys(["expert-1.onnx", "extractor.onnx", "gate.onnx", "notes.txt"], "0" * 64)},
        "sha256 is 'notes.txt'; expected the digests of exactly the files that are named",
    ),
    "more classes": (
        {"classes": ["a", "b", "c"]},
        "shape of the probabilities of layer 1 is [2]; expected [3], the number of classes",
    ),
    "a class nobody has": ({"holds": [2]}, "holds is 2; expected less than 2"),
    "too many gains": ({"nodes": 1 << 20}, "nodes^2 x subcarriers is "),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_what_contradicts_itself_is_refused_with_a_sentence(case: str) -> None:
    changes, said = CONTRADICTIONS[case]
    with pytest.raises(InvalidInputError) as raised:
        manifest_of(**changes)
    assert said in str(raised.value)


@pytest.mark.parametrize("format", ["airmoe manifest 3", "airmoe manifest 4", "airmoe manifest 6", None])
def test_a_manifest_of_another_version_is_refused_and_told_what_to_do(
    tmp_path: Path, manifest: Manifest, format: str | None
) -> None:
    write_manifest(tmp_path, manifest)
    path = tmp_path / "manifest.json"
    path.write_text(changed(format=format)(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RunFolderError) as raised:
        read_manifest(tmp_path)
    assert str(raised.value) == (
        f"{path} has format {format!r}; expected 'airmoe manifest 5': it was written by another version of "
        "airmoe; train again with this one, or export the run again with `export_run`"
    )


def test_a_manifest_without_its_version_is_refused(tmp_path: Path, manifest: Manifest) -> None:
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json(exclude={"format"}), encoding="utf-8")
    with pytest.raises(RunFolderError, match="has format None; expected 'airmoe manifest 5'"):
        read_manifest(tmp_path)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"manifest\.json does not exist; expected a client's folder"):
        read_manifest(tmp_path)


def changed(**changes: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


def without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key})


def in_layer(**changes: object) -> Callable[[str], str]:
    def change(text: str) -> str:
        fields = json.loads(text)
        fields["layers"][0] |= changes
        return json.dumps(fields)

    return change


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "", "is damaged"),
        (lambda text: "[]", "manifest is "),
        (changed(surprise=1), "surprise is "),
        (changed(model_hash="xyz"), "model_hash is "),
        (changed(mesh="a/b"), "mesh is "),
        (changed(node=-1), "node is "),
        (changed(node=True), "node is "),
        (changed(nodes=0), "nodes is "),
        (changed(node=4), "node is 4; expected less than 4"),
        (in_layer(layer=0), "layers.0.layer is "),
        (in_layer(layer=1 << 16), "layers.0.layer is "),
        (in_layer(payload=400), "layers.0.payload is "),
        (in_layer(payload=[]), "layers.0.payload is "),
        (in_layer(payload=[8] * 8), "layers.0.payload is "),
        (in_layer(payload=[64, 0]), "layers.0.payload.1 is "),
        (in_layer(payload=[1 << 20, 17]), "the product of payload is "),
        (in_layer(output={"kind": "probabilities", "shape": [1 << 20, 17]}), "the product of output is "),
        (in_layer(output={"kind": "guesses", "shape": [2]}), "layers.0.output.kind is "),
        (in_layer(placement=[]), "layers.0.placement is "),
        (in_layer(placement=[[0], []]), "layers.0.placement.1 is "),
        (in_layer(placement=[[0], [1, 1]]), "placement of expert 1 is [1, 1]; expected each node once"),
        (
            in_layer(placement=[[0], [1, 0]]),
            "placement of expert 1 is [1, 0]; expected each node",
        ),
        (changed(layers=[]), "layers is "),
        (changed(serves=[{"layer": 1, "expert": 1, "file": "../expert.onnx"}]), "serves.0.file is "),
        (changed(serves=[{"layer": 1, "expert": 1, "file": ".."}]), "serves.0.file is "),
        (changed(serves=[{"layer": 1, "expert": 1, "file": "a/b"}]), "serves.0.file is "),
        (changed(asks={}), "asks.input is "),
        (changed(sha256={"expert-1.onnx": "short"}), "sha256"),
        (without("radio"), "radio is "),
        (without("layers"), "layers is "),
        (without("asks"), "asks is "),
        (
            changed(
                radio={
                    **{"mean_snr_db": 10.0, "subcarriers": 128, "subcarrier_hz": 1e6, "power_w": 0.01},
                    **{"seed": 0, "transmission": "digital"},
                }
            ),
            "radio.transmission is 'digital'; expected ",
        ),
        (changed(radio={"subcarriers": 0, "seed": 0}), "radio.subcarriers is 0; expected "),
        (changed(radio={"power_w": 0.0, "seed": 0}), "radio.power_w is 0.0; expected "),
        (changed(radio={}), "radio.seed is None; expected a value"),
    ],
)
def test_a_damaged_manifest_is_refused_in_one_line_that_names_the_key(
    tmp_path: Path, manifest: Manifest, harm: Callable[[str], str], said: str
) -> None:
    write_manifest(tmp_path, manifest)
    path = tmp_path / "manifest.json"
    path.write_text(harm(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(RunFolderError) as raised:
        read_manifest(tmp_path)
    message = str(raised.value)
    assert said in message.removeprefix(str(path))
    assert message.startswith(f"{path} is damaged: ")
    assert "\n" not in message


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RunFolderError, match="is damaged"):
        read_manifest(tmp_path)


def test_the_digest_is_sha_256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(tmp_path / "abc") == expected


@pytest.mark.parametrize("name", [expert_file(2), EXTRACTOR, GATE])
@pytest.mark.parametrize(
    "harm",
    [
        pytest.param(lambda raw: raw[:-1], id="cut off"),
        pytest.param(lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:], id="one bit flipped"),
        pytest.param(lambda raw: raw + b"\0", id="one byte more"),
        pytest.param(lambda raw: b"", id="empty"),
    ],
)
def test_a_file_that_was_changed_is_refused(run: Path, name: str, harm: Callable[[bytes], bytes]) -> None:
    folder = run / "clients" / "02"
    manifest = read_manifest(folder)
    path = checked_file(folder, manifest, name)
    path.write_bytes(harm(path.read_bytes()))
    with pytest.raises(RunFolderError, match=r"is damaged: SHA-256 \w{64}; the manifest expects \w{64}"):
        checked_file(folder, manifest, name)


def test_a_file_that_is_missing_is_refused(run: Path) -> None:
    folder = run / "clients" / "02"
    (folder / expert_file(2)).unlink()
    with pytest.raises(RunFolderError, match=r"expert-2\.onnx cannot be read: No such file"):
        checked_file(folder, read_manifest(folder), expert_file(2))


def test_a_file_that_the_manifest_does_not_name_is_refused(run: Path) -> None:
    folder = run / "clients" / "02"
    with pytest.raises(RunFolderError, match="the manifest expects None"):
        checked_file(folder, read_manifest(folder), expert_file(2, "safetensors"))


def test_an_expert_of_another_client_is_refused(run: Path) -> None:
    folder, other = run / "clients" / "02", run / "clients" / "03"
    shutil.copy(other / expert_file(3), folder / expert_file(2))
    with pytest.raises(RunFolderError, match="is damaged"):
        checked_file(folder, read_manifest(folder), expert_file(2))


def test_client_folders_come_in_client_order(run: Path) -> None:
    assert [folder.name for folder in client_folders(run)] == ["00", "01", "02", "03"]


def test_a_server_is_not_among_the_clients(run: Path) -> None:
    (run / "clients" / SERVER).mkdir()
    assert [folder.name for folder in client_folders(run)] == ["00", "01", "02", "03"]


def test_a_folder_without_clients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no clients/<id>/ folders; expected the folder of a"):
        client_folders(tmp_path)
