"""Recorded traces: what is read, what is cut, how links play it, and what is said of a bad file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from airmoe.errors import AirmoeError, DataError, InvalidInputError
from airmoe.links import TraceSnr, make_process, read_runs

HEADING = "Timestamp,Speed,NetworkMode,RSRP,SNR,State"


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file in the form of a drive test's log, with these cells in its column SNR."""

    def write(*cells: object, name: str = "log.csv") -> Path:
        rows = [f"2020.01.01_10.00.{row % 60:02},30,5G,-90,{cell},D" for row, cell in enumerate(cells)]
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\n".join([HEADING, *rows, ""]), encoding="utf-8")
        return file

    return write


def draw(path: Path, slots: int, links: int) -> np.ndarray:
    return TraceSnr(path).draw(slots, links, np.random.default_rng(0))


Recorded = Callable[..., Path]


def test_every_link_plays_a_window_of_the_recording(recorded: Recorded) -> None:
    snr_db_SL = draw(recorded(*range(100)), 40, 500)
    assert (np.diff(snr_db_SL, axis=0) == 1).all()
    assert set(snr_db_SL[0]) == set(range(61))  # every window, none beyond the end


def test_a_recording_as_long_as_the_window_is_played_from_its_beginning(recorded: Recorded) -> None:
    np.testing.assert_array_equal(draw(recorded(3, 1, 2), 3, 2), [[3, 3], [1, 1], [2, 2]])


def test_a_recording_shorter_than_the_window_is_repeated(recorded: Recorded) -> None:
    snr_db_SL = draw(recorded(0, 1, 2, 3), 11, 50)
    assert set(np.diff(snr_db_SL, axis=0).ravel()) == {1, -3}
    assert set(snr_db_SL[0]) == {0, 1, 2, 3}


def test_what_is_repeated_is_one_recording_alone(recorded: Recorded) -> None:
    snr_db_SL = draw(recorded(1, 2, "-", 11, 12, "-", 21, 22), 7, 50)
    assert (np.abs(np.diff(snr_db_SL, axis=0)) == 1).all()
    assert set(snr_db_SL.ravel()) == {1, 2, 11, 12, 21, 22}


def test_no_window_crosses_a_gap(recorded: Recorded) -> None:
    snr_db_SL = draw(recorded(*range(20), "-", "-", *range(50, 70)), 5, 500)
    assert (np.diff(snr_db_SL, axis=0) == 1).all()


def test_longer_recordings_are_played_in_proportion(recorded: Recorded) -> None:
    snr_db_SL = draw(recorded(*[0] * 30, "", *[1] * 90), 5, 4000)
    assert snr_db_SL.mean() == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("missing", ["", "-", " ", "nan", "NaN", "NA", "n/a", "null", "None"])
def test_where_values_are_missing_a_recording_is_cut(recorded: Recorded, missing: str) -> None:
    runs_db = read_runs(recorded(missing, 1, 2, 3, missing, missing, 4.5, -5, missing))
    assert [run_db.tolist() for run_db in runs_db] == [[1, 2, 3], [4.5, -5]]


def test_a_sample_alone_is_no_run(recorded: Recorded) -> None:
    assert [len(run_db) for run_db in read_runs(recorded(1, "-", 2, 3, "-", 4))] == [2]


def test_rows_with_the_same_time_stamp_are_slots_of_their_own(recorded: Recorded) -> None:
    assert len(read_runs(recorded(*range(150)))[0]) == 150  # time stamps repeat after 60


def test_a_folder_is_read_to_any_depth_in_the_order_of_names(recorded: Recorded, tmp_path: Path) -> None:
    recorded(5, 6, name="set/b/log.csv")
    recorded(3, 4, name="set/a/deep/log.CSV")
    recorded(1, 2, name="set/a/ a: 1.csv")
    assert [run_db[0] for run_db in read_runs(tmp_path / "set")] == [1, 3, 5]


def test_what_is_hidden_or_no_csv_file_is_not_read(recorded: Recorded, tmp_path: Path) -> None:
    recorded(1, 2, name="set/log.csv")
    # Archives made on a Mac hold such a file beside each, in no known encoding.
    (tmp_path / "set" / "._log.csv").write_bytes(b"\x00\x05\x16\x07\xff")
    (tmp_path / "set" / "readme.txt").write_text("SNR")
    (tmp_path / "set" / "folder.csv").mkdir()
    assert len(read_runs(tmp_path / "set")) == 1


@pytest.mark.parametrize(
    "copy", [".old/log.csv", "a/.ipynb_checkpoints/log-checkpoint.csv", ".git/x/y/log.csv", "a/.log.csv"]
)
def test_what_lies_in_a_hidden_folder_is_not_read_again(
    recorded: Recorded, tmp_path: Path, copy: str
) -> None:
    recorded(1, 2, name="set/a/log.csv")
    once = TraceSnr(tmp_path / "set").digest
    recorded(3, 4, name=f"set/{copy}")
    assert TraceSnr(tmp_path / "set").digest == once


def test_a_hidden_folder_that_is_named_is_read(recorded: Recorded, tmp_path: Path) -> None:
    recorded(1, 2, name=".data/.set/log.csv")
    assert len(read_runs(tmp_path / ".data" / ".set")) == 1


def test_a_file_without_any_value_does_not_spoil_a_folder(recorded: Recorded, tmp_path: Path) -> None:
    recorded("-", "-", name="set/3g.csv")
    recorded(1, 2, name="set/5g.csv")
    assert len(read_runs(tmp_path / "set")) == 1


def one_column(file: Path, text: str, heading: str = "SNR") -> Path:
    file.write_text(f"{heading}\n{text}", encoding="utf-8")
    return file


@pytest.mark.parametrize("blank", ["\n", "\n\n\n", " \n", "-\n", '""\n'])
def test_a_blank_line_of_a_file_with_one_column_is_a_gap(tmp_path: Path, blank: str) -> None:
    file = one_column(tmp_path / "log.csv", f"1\n2\n{blank}3\n4\n5\n")
    assert [run_db.tolist() for run_db in read_runs(file)] == [[1, 2], [3, 4, 5]]


def test_blank_lines_around_all_rows_are_no_gap_worth_a_word(tmp_path: Path) -> None:
    file = one_column(tmp_path / "log.csv", "1\n2\n3\n\n\n", heading="\n\nSNR")
    assert [run_db.tolist() for run_db in read_runs(file)] == [[1, 2, 3]]


def test_another_column_can_be_played(tmp_path: Path) -> None:
    file = one_column(tmp_path / "log.csv", "7\n7\n", heading="SINR")
    assert (TraceSnr(file, "SINR").draw(3, 2, np.random.default_rng(0)) == 7).all()


def test_a_power_in_dbm_is_played_as_its_distance_from_the_noise(recorded: Recorded) -> None:
    trace = TraceSnr(recorded(1, 2), "RSRP", -101.5)
    assert (trace.draw(3, 2, np.random.default_rng(0)) == 11.5).all()  # the column is -90 throughout
    assert trace.name.startswith("trace-dbm:-101.5:RSRP:/")
    again = make_process(trace.name)
    assert again == trace
    assert again.digest == trace.digest


@pytest.mark.parametrize(
    "column", ["RSRP", "rssi", "NRxRSRP", "Signal [dBm]", "rx_power_dbm", "RSCP", "RxLev"]
)
def test_a_power_is_refused_unless_the_noise_is_given(tmp_path: Path, column: str) -> None:
    file = one_column(tmp_path / "log.csv", "-90\n-91\n", heading=column)
    said = (
        r"^column is .*; expected an SNR in dB; for a power in dBm .* trace-dbm:-100:.*:PATH, or noise_dbm=-"
    )
    with pytest.raises(InvalidInputError, match=said):
        TraceSnr(file, column)
    assert read_runs(file, column, noise_dbm=-100)[0].tolist() == [10, 9]


@pytest.mark.parametrize("column", ["RSRQ", "CQI", "NRxRSRQ", "cqi_index"])
@pytest.mark.parametrize("noise_dbm", [None, -100.0])
def test_what_no_noise_makes_an_snr_is_refused(tmp_path: Path, column: str, noise_dbm: float | None) -> None:
    file = one_column(tmp_path / "log.csv", "-9\n-8\n", heading=column)
    with pytest.raises(InvalidInputError, match="an SNR in dB, or a power in dBm: this is neither"):
        TraceSnr(file, column, noise_dbm)


def test_values_that_are_no_snr_under_whatever_name_are_refused(recorded: Recorded) -> None:
    with pytest.raises(
        InvalidInputError, match=r"highest SNR of .*log\.csv is -85\.0; expected an SNR in dB"
    ):
        TraceSnr(recorded(-90, -85, "-", -110, -99))
    assert read_runs(recorded(-90, -29, -110))[0].tolist() == [-90, -29, -110]  # deep fades are no power
    assert read_runs(recorded(-90, -85), noise_dbm=0)[0].tolist() == [-90, -85]  # if it is meant so


@pytest.mark.parametrize("noise_dbm", [np.nan, np.inf, -301, "-100"])
def test_a_noise_power_is_a_number(recorded: Recorded, noise_dbm: float) -> None:
    with pytest.raises(InvalidInputError, match=r"noise_dbm is .*; expected a number from -300 to 300"):
        TraceSnr(recorded(1, 2), "RSRP", noise_dbm)


def test_a_power_far_from_the_noise_is_named_with_what_would_do(recorded: Recorded) -> None:
    with pytest.raises(DataError, match=r"line 2 is '1000'; expected a number from -400 to 200"):
        read_runs(recorded(1000, 2), noise_dbm=-100)


def test_a_file_may_have_a_byte_order_mark_quotes_and_empty_lines(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(b'\xef\xbb\xbf"SNR", "place, as told"\r\n1,"a, b"\r\n\r\n"2",c\r\n')
    assert read_runs(file)[0].tolist() == [1, 2]


def test_the_home_folder_may_be_written_short(
    recorded: Recorded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded(1, 2, name="home/log.csv")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert len(read_runs(Path("~/log.csv"))[0]) == 2


def test_two_traces_are_equal_by_path_and_column(recorded: Recorded) -> None:
    file = recorded(1, 2)
    assert TraceSnr(file) == TraceSnr(file)
    assert TraceSnr(file, "RSRP", -100) != TraceSnr(file, "RSRP", -101)


def test_a_missing_column_is_told_with_those_that_are_there(recorded: Recorded) -> None:
    with pytest.raises(InvalidInputError, match=r"'SINR'; .*log\.csv, which has Timestamp, .*, SNR, "):
        TraceSnr(recorded(1, 2), "SINR")


@pytest.mark.parametrize("cell", ["good", "1,5", "inf", "2147483647", "-301", "0x10"])
def test_what_is_no_snr_is_named_with_its_line(recorded: Recorded, cell: str) -> None:
    quoted = f'"{cell}"'
    with pytest.raises(DataError, match=rf"log\.csv: SNR in line 4 is '{cell}'; expected a number"):
        TraceSnr(recorded(1, 2, quoted, 4))


@pytest.mark.parametrize("cells", [(), (1,), (1, "-", 2), ("-", "-")])
def test_too_few_samples_are_refused(recorded: Recorded, cells: tuple[object, ...]) -> None:
    with pytest.raises(DataError, match=r"log\.csv: SNR is nowhere given in two rows"):
        TraceSnr(recorded(*cells))


def test_a_file_cut_off_within_a_row_is_refused(recorded: Recorded) -> None:
    file = recorded(1, 2, 3)
    file.write_bytes(file.read_bytes()[:-3])  # the line's end, D and the comma before it
    with pytest.raises(DataError, match=r"log\.csv: line 4 has 5 cells and the first line 6"):
        TraceSnr(file)


def test_a_file_cut_off_within_quotes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_text('SNR\n1\n2\n"3')
    with pytest.raises(DataError, match="cut off"):
        TraceSnr(file)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    file.write_bytes(b"SNR\n1\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"log\.csv: is no text in UTF-8 \(byte 6\)"):
        TraceSnr(file)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").touch()
    with pytest.raises(AirmoeError, match="the file is empty"):
        TraceSnr(tmp_path / "log.csv")


def test_a_path_to_nothing_and_a_folder_without_traces_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: no such file or folder of traces"):
        TraceSnr(tmp_path / "nothing")
    with pytest.raises(DataError, match="holds no CSV file"):
        TraceSnr(tmp_path)


def test_a_relative_path_to_nothing_is_named_with_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as refused:
        TraceSnr("log.csv")
    assert str(refused.value) == f"log.csv: no such file or folder of traces (looked for in {tmp_path})"


def test_a_file_that_cannot_be_opened_is_refused(recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    file = recorded(1, 2)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"log\.csv: cannot be read \(Permission denied\)"):
        TraceSnr(file)
