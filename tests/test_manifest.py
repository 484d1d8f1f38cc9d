"""Manifests and the files they vouch for."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from airmoe.errors import RunFolderError
from airmoe.manifest import (
    EXPERT_ONNX,
    EXTRACTOR_ONNX,
    GATE_ONNX,
    MOST_VALUES,
    InputSpec,
    Manifest,
    RadioSpec,
    read_manifest,
    write_manifest,
)
from airmoe.mesh.frame import MAX_BODY_BYTES
from airmoe.runfolder import SERVER, checked_file, client_folders, sha256_of


@pytest.fixture
def manifest() -> Manifest:
    return Manifest(
        mesh="lab",
        model_hash="0123456789abcdef",
        client=1,
        expert=1,
        experts=4,
        payload=[400],
        classes=["cat", "dög"],
        holds=[0],
        input=InputSpec(channels=3, height=32, width=32),
        radio=RadioSpec(mean_snr_db=10.0, subcarriers=128, subcarrier_hz=1e6, power_w=0.01, seed=0),
        sha256={EXPERT_ONNX: "0" * 64},
    )


@pytest.fixture
def run(run_folder: Path, tmp_path: Path) -> Path:
    """A copy of a trained run that may be harmed."""
    return Path(shutil.copytree(run_folder, tmp_path / "run"))


def test_a_manifest_is_read_as_it_was_written(tmp_path: Path, manifest: Manifest) -> None:
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


@pytest.fixture
def server(manifest: Manifest) -> Manifest:
    """Of the same run, if a server asked."""
    files = {EXTRACTOR_ONNX: "1" * 64, GATE_ONNX: "2" * 64}
    changes = {"client": 4, "expert": None, "holds": [], "gate_sees_snr": True, "sha256": files}
    return Manifest.model_validate(manifest.model_dump() | changes)


def test_a_servers_manifest_is_read_as_it_was_written(tmp_path: Path, server: Manifest) -> None:
    write_manifest(tmp_path, server)
    assert read_manifest(tmp_path) == server
    assert server.expert is None


@pytest.mark.parametrize(
    ("files", "asks"),
    [
        ([EXPERT_ONNX], False),
        ([EXTRACTOR_ONNX, GATE_ONNX], True),
        ([EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX], True),
        ([EXPERT_ONNX, GATE_ONNX], False),
        ([], False),
    ],
)
def test_who_has_extractor_and_gate_asks(manifest: Manifest, files: list[str], asks: bool) -> None:
    assert manifest.model_copy(update={"sha256": dict.fromkeys(files, "0" * 64)}).asks is asks


def test_a_server_is_one_node_more(manifest: Manifest, server: Manifest) -> None:
    assert (manifest.nodes, server.nodes) == (4, 5)


def test_a_payload_of_any_shape_has_so_many_values(manifest: Manifest) -> None:
    assert manifest.features == 400
    assert manifest.model_copy(update={"payload": [64, 8, 8]}).features == 4096


def test_the_largest_payload_fills_a_message() -> None:
    assert MOST_VALUES * 4 == MAX_BODY_BYTES


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ({"client": 3}, "client is 3; expected 4, the node after the experts', for a server"),
        ({"client": 5}, "client is 5; expected less than 5"),
        ({"expert": 4}, "client is 4; expected less than 4"),
    ],
)
def test_a_servers_node_is_the_one_after_the_experts(
    tmp_path: Path, server: Manifest, harm: dict[str, object], said: str
) -> None:
    write_manifest(tmp_path, server.model_copy(update=harm))
    with pytest.raises(RunFolderError, match=said):
        read_manifest(tmp_path)


def test_a_folder_without_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"manifest\.json does not exist; expected a client's folder"):
        read_manifest(tmp_path)


def changed(**changes: object) -> Callable[[str], str]:
    return lambda text: json.dumps(json.loads(text) | changes)


def without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k != key})


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda text: text[: len(text) // 2], "is damaged"),
        (lambda text: "", "is damaged"),
        (lambda text: "[]", "manifest: "),
        (changed(surprise=1), "surprise: "),
        (changed(format="airmoe manifest 1"), "format: "),
        (changed(model_hash="xyz"), "model_hash: "),
        (changed(mesh="a/b"), "mesh: "),
        (changed(client=-1), "client: "),
        (changed(experts=0), "experts: "),
        (changed(client=4), "client is 4; expected less than 4"),
        (changed(expert=0), "expert is 0; expected 1, the client's number"),
        (changed(experts=1 << 20), "nodes^2 x subcarriers is "),
        (changed(holds=[2]), "holds is 2; expected less than 2"),
        (changed(layer=0), "layer: "),
        (changed(layer=1 << 16), "layer: "),
        (changed(input={"channels": 2, "height": 32, "width": 32}), "input.channels: "),
        (changed(sha256={EXPERT_ONNX: "short"}), "sha256"),
        (without("radio"), "radio: "),
        (without("payload"), "payload: "),
        (without("expert"), "expert: "),
        (changed(features=400), "features: "),
        (changed(payload=400), "payload: "),
        (changed(payload=[]), "payload: "),
        (changed(payload=[8] * 8), "payload: "),
        (changed(payload=[64, 0]), "payload.1: "),
        (changed(payload=[1 << 20, 17]), "the product of payload is "),
        (changed(gate_sees_snr="perhaps"), "gate_sees_snr: "),
        (changed(expert=None), "client is 1; expected 4, the node after the experts', for a server"),
        (
            changed(
                radio={
                    **{"mean_snr_db": 10.0, "subcarriers": 128, "subcarrier_hz": 1e6, "power_w": 0.01},
                    **{"seed": 0, "transmission": "digital"},
                }
            ),
            "radio.transmission: ",
        ),
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


@pytest.mark.parametrize("name", [EXPERT_ONNX, EXTRACTOR_ONNX, GATE_ONNX])
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
    (folder / EXPERT_ONNX).unlink()
    with pytest.raises(RunFolderError, match=r"expert\.onnx cannot be read: No such file"):
        checked_file(folder, read_manifest(folder), EXPERT_ONNX)


def test_a_file_that_the_manifest_does_not_name_is_refused(run: Path) -> None:
    folder = run / "clients" / "02"
    with pytest.raises(RunFolderError, match="the manifest expects None"):
        checked_file(folder, read_manifest(folder), "expert.safetensors")


def test_an_expert_of_another_client_is_refused(run: Path) -> None:
    folder, other = run / "clients" / "02", run / "clients" / "03"
    shutil.copy(other / EXPERT_ONNX, folder / EXPERT_ONNX)
    with pytest.raises(RunFolderError, match="is damaged"):
        checked_file(folder, read_manifest(folder), EXPERT_ONNX)


def test_client_folders_come_in_client_order(run: Path) -> None:
    assert [folder.name for folder in client_folders(run)] == ["00", "01", "02", "03"]


def test_a_server_is_not_among_the_clients(run: Path) -> None:
    (run / "clients" / SERVER).mkdir()
    assert [folder.name for folder in client_folders(run)] == ["00", "01", "02", "03"]


def test_a_folder_without_clients_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no clients/<id>/ folders; expected a run folder"):
        client_folders(tmp_path)
