"""What a finished run costs on each device."""

from pathlib import Path

import pytest

from airmoe.errors import InvalidInputError, RunFolderError
from airmoe.mesh.model_memory import ProcessMemory
from airmoe.networked import Device, Devices, device_costs, devices_table
from airmoe.networked.config import NetworkedConfig
from airmoe.networked.training_memory import training_memory

EXPERT_FLOPS = 2 * (400 * 256 + 256 * 10)
ASKING_FLOPS = 2 * (6 * 28 * 28 * 25 + 16 * 10 * 10 * 6 * 25 + 400 * 4)


@pytest.fixture(scope="module")
def devices(run_folder: Path) -> Devices:
    return device_costs(run_folder)


def test_the_files_are_those_that_lie_on_the_disk(devices: Devices, run_folder: Path) -> None:
    of_client = sum(path.stat().st_size for path in (run_folder / "clients" / "01").glob("*.onnx"))
    experts = sum(path.stat().st_size for path in run_folder.glob("clients/*/expert-*.onnx"))
    shared = sum(path.stat().st_size for path in (run_folder / "shared").glob("*.onnx"))
    assert devices.client.file_bytes == of_client
    assert devices.central.file_bytes == shared + experts
    for device in (devices.client, devices.central):
        assert device.weight_bytes == 4 * device.parameters < device.file_bytes


def test_the_own_expert_answers_its_share_and_others_the_rest(devices: Devices, run_folder: Path) -> None:
    assert devices.client.answer_flops == ASKING_FLOPS + EXPERT_FLOPS / 4
    assert devices.client.elsewhere_flops == 3 * EXPERT_FLOPS / 4
    assert devices.central.answer_flops == ASKING_FLOPS + EXPERT_FLOPS
    half = device_costs(run_folder, own_share=0.5).client
    assert (half.answer_flops, half.elsewhere_flops) == (ASKING_FLOPS + EXPERT_FLOPS / 2, EXPERT_FLOPS / 2)


def test_a_device_with_all_experts_needs_more_memory(devices: Devices) -> None:
    client, central = devices.client.serving, devices.central.serving
    assert client is not None
    assert central is not None
    assert client.peak_bytes > client.libraries_bytes > 10e6
    # Three more experts of 0.4 MB each, at least once each.
    assert central.peak_bytes - client.peak_bytes > 1e6


def test_a_share_is_a_number_from_0_to_1(run_folder: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"own_share is 1\.5"):
        device_costs(run_folder, own_share=1.5)


@pytest.mark.long
def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no clients"):
        device_costs(tmp_path)


def test_training_needs_more_than_the_libraries() -> None:
    memory = training_memory("client", NetworkedConfig(), (3, 32, 32), 10)
    assert memory is not None
    # The batch of stage 1 alone, with the activations of both convolutions before and after each layer.
    activations = 4 * 32 * (3 * 32 * 32 + 3 * 6 * 28 * 28)
    assert memory.peak_bytes - memory.libraries_bytes > activations


def device(experts: int, memory: ProcessMemory | None) -> Device:
    return Device(experts * 1000, experts * 4000, experts * 5000, 2e6, 1e6, {"central": 7_000_000}, memory)


def test_the_table_has_both_devices_side_by_side() -> None:
    small, large = ProcessMemory(70_000_000, 80_000_000), ProcessMemory(70_000_000, 95_000_000)
    table = devices_table(Devices(device(1, small), device(10, large)), (small, large))
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["parameters, thousands"] == [1.0, 10.0]
    assert rows["weights, kB"] == [4.0, 40.0]
    assert rows["ONNX files, kB"] == [5.0, 50.0]
    assert rows["a step of the whole mixture, MFLOP"] == ["", 7.0]
    assert rows["peak memory, answering, MB"] == [80.0, 95.0]
    assert rows["of it beyond the libraries, training, MB"] == [10.0, 25.0]


def test_what_could_not_be_measured_is_not_in_the_table() -> None:
    table = devices_table(Devices(device(1, None), device(10, None)))
    assert not [row for row in table.rows if "memory" in str(row[0])]
