"""The tables of the fast chain: how they are made, and that the ones of the package are such."""

import json
from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import InvalidInputError
from airmoe.radio import error_rates, error_tables
from airmoe.radio.error_tables import main, make_tables, snr_grid_db, table_row


@pytest.fixture
def short_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    """At -2 dB blocks fail; at 30 dB none does, so that 40 dB is left out."""
    monkeypatch.setattr(error_tables, "snr_grid_db", lambda first_db, last_db: [-2.0, 30.0, 40.0])


def test_the_grid_is_dense_where_rates_fall() -> None:
    grid_db = snr_grid_db(-0.5, 0.5)
    assert grid_db[:2] == [-20.0, -19.0]
    assert grid_db[19:27] == [-1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5]
    assert grid_db[-1] == 16.0


@pytest.mark.parametrize("code", ["conv", "ldpc"])
@pytest.mark.parametrize("modulation", ["qpsk", "16qam"])
def test_the_package_has_a_table_for_every_code_and_modulation(code: str, modulation: str) -> None:
    """Of the standard grid, until fewer than one bit in 100,000 is wrong."""
    made, table = error_rates.tables()["made"], error_rates.tables()[code][modulation]
    grid_db = snr_grid_db(*error_tables.FALL_DB[code][modulation])
    assert table["snr_db"] == grid_db[: len(table["snr_db"])]
    if code == "ldpc":
        rate_G = np.multiply(table["block"], table["bit_if_block"])
    else:
        rate_G = np.array([table["first"], table["middle"], table["last"]]).T @ [1 / 8, 6 / 8, 1 / 8]
    assert rate_G[-1] < 1e-5 <= rate_G[:-1].min()
    for sent, failed in zip(table["sent"], table["failed"], strict=True):
        assert sent == made["blocks"] or failed >= made["failures"]
    assert {"command", "seed", "sionna-no-rt", "torch"} <= set(made)


def test_sending_stops_when_enough_blocks_failed() -> None:
    row = table_row("conv", "qpsk", -2.0, blocks=1000, failures=50, seed=0)
    assert row["sent"] == row["failed"] == error_tables.BATCH
    assert row["first"] < row["middle"] < row["last"]
    assert table_row("conv", "qpsk", 20.0, blocks=30, failures=50, seed=0)["sent"] == 30


def test_the_seed_decides_what_is_counted() -> None:
    first, again, other = (table_row("conv", "qpsk", 0.0, 30, 30, seed) for seed in (4, 4, 5))
    assert first == again != other


@pytest.mark.usefixtures("short_grid")
def test_the_command_writes_what_the_fast_chain_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "tables.json"
    assert main(["--blocks", "20", "--failures", "20", "--seed", "3", "--out", str(out)]) == 0
    written = json.loads(out.read_text(encoding="utf-8"))
    assert written == make_tables(20, 20, 3)
    assert written["made"]["blocks"] == 20
    assert written["made"]["seed"] == 3
    for code in ("conv", "ldpc"):
        for table in written[code].values():
            assert table["snr_db"] == [-2.0, 30.0]
            assert table["failed"][0] > table["failed"][1] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["tables.json"]


@pytest.mark.parametrize("option", ["--blocks", "--failures", "--seed"])
def test_a_wrong_number_gets_a_line_and_nothing_is_written(
    option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([option, "-1", "--out", str(tmp_path / "tables.json")]) == 2
    assert capsys.readouterr().err == f"error: {option[2:]} is -1; expected an integer of at least" + (
        " 0\n" if option == "--seed" else " 1\n"
    )
    assert not list(tmp_path.iterdir())
    with pytest.raises(InvalidInputError):
        make_tables(**{option[2:]: -1})
