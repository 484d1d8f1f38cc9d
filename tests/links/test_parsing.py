"""Processes by name: every form is read, and every name is read back as the same process."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airmoe.errors import DataError, InvalidInputError
from airmoe.links import (
    PROCESS_FORMS,
    FixedSnr,
    GaussMarkovSnr,
    JakesSnr,
    OneBadSnr,
    RayleighSnr,
    RicianSnr,
    ShadowedPathLossSnr,
    SnrProcess,
    SpreadSnr,
    TdlSnr,
    TraceSnr,
    UniformSnr,
    make_process,
)

PROCESSES = [
    ("fixed:10", FixedSnr(10)),
    ("fixed:10,-5,0.5", FixedSnr((10.0, -5.0, 0.5))),
    ("fixed:10,", FixedSnr((10.0,))),
    ("uniform:-5:20", UniformSnr()),
    ("spread:10:2.5", SpreadSnr(10, 2.5)),
    ("one-bad:-10:20", OneBadSnr()),
    ("one-bad:-10:20:3", OneBadSnr(bad_link=3)),
    ("rayleigh:10", RayleighSnr(10)),
    ("rician:10:5", RicianSnr(10, 5)),
    ("gauss-markov:10:0.95", GaussMarkovSnr(10, 0.95)),
    ("jakes:10:0.01", JakesSnr(10, 0.01)),
    ("path-loss:80:3.5:200", ShadowedPathLossSnr()),
    ("path-loss:70:3:100:6", ShadowedPathLossSnr(70, 3, 100, 6)),
    ("path-loss:80:3.5:200:8:0.9:2", ShadowedPathLossSnr(reference_m=2)),
    ("tdl:A:10", TdlSnr()),
    ("tdl:C:5:30:3e-07", TdlSnr("C", 5, speed_mps=30, delay_spread_s=300e-9)),
    ("tdl:A:10:1:1e-07:3500000000:0.001:1", TdlSnr(subcarriers=1)),
]


@pytest.mark.parametrize(("text", "process"), PROCESSES)
def test_a_process_is_made_from_its_name(text: str, process: SnrProcess) -> None:
    assert make_process(text) == process
    assert process.name == text


def decibels(low: float = -300, high: float = 300) -> st.SearchStrategy[float]:
    return st.floats(low, high) | st.integers(int(low), int(high))


UNITS = st.floats(0, 1)
POSITIVE = st.floats(1e-9, 1e12)
ANY_PROCESS = st.one_of(
    st.builds(FixedSnr, decibels()),
    st.builds(FixedSnr, st.lists(decibels(), min_size=1, max_size=4).map(tuple)),
    st.tuples(decibels(), decibels()).map(lambda ends: UniformSnr(*sorted(ends))),
    st.builds(SpreadSnr, decibels(), decibels(0)),
    st.builds(OneBadSnr, decibels(), decibels(), st.integers(0, 9)),
    st.builds(RayleighSnr, decibels()),
    st.builds(RicianSnr, decibels(), decibels(-100, 100)),
    st.builds(GaussMarkovSnr, decibels(), UNITS),
    st.builds(JakesSnr, decibels(), st.floats(0, 100)),
    st.builds(
        ShadowedPathLossSnr,
        decibels(),
        st.floats(0, 20),
        st.floats(2, 1e6),
        st.just(8.0) | decibels(0, 100),
        st.just(0.9) | UNITS,
        st.just(1.0) | st.floats(1e-3, 1.5),
    ),
    st.builds(
        TdlSnr,
        st.sampled_from("ABCDE"),
        decibels(),
        st.just(1.0) | st.floats(0, 1000),
        st.just(100e-9) | st.floats(0, 1e-3),
        st.just(3.5e9) | st.floats(0.5e9, 100e9),
        st.just(1e-3) | POSITIVE,
        st.just(128) | st.integers(1, 1 << 16),
        st.just(1e6) | st.floats(1, 1e12),
    ),
)


@settings(deadline=None)
@given(ANY_PROCESS)
def test_a_name_is_read_back_as_an_equal_process(process: SnrProcess) -> None:
    assert make_process(process.name) == process
    assert make_process(process.name).name == process.name


@pytest.mark.parametrize("name", ["log.csv", "a:b c.csv", "5:20.csv", "100%.csv", "%3A", "trace:x"])
@pytest.mark.parametrize("column", ["SNR", "SNR: dB", "50%", "%3A", "SINR (dB), mean", "ß"])
def test_the_name_of_a_trace_is_read_back_whatever_its_path_and_column(
    tmp_path: Path, name: str, column: str
) -> None:
    (tmp_path / name).write_text(f'"{column}"\n1\n2\n', encoding="utf-8")
    process = TraceSnr(tmp_path / name, column)
    assert make_process(process.name) == process
    assert process.name.startswith("trace:" if column == "SNR" else "trace-of:")


def test_a_trace_that_is_not_there_is_named() -> None:
    with pytest.raises(DataError, match="no/such: file: no such file or folder"):
        make_process("trace:no/such: file")


@pytest.mark.parametrize(
    "text",
    [
        *("", "rayleigh", "rayleigh:", "rayleigh:ten", "rayleigh:10:1", "Rayleigh:10", "rician:10"),
        *("fixed", "fixed:", "fixed:,", "fixed:1,,2", "fixed:1:2", "one-bad:1", "one-bad:1:2:0.5", "trace"),
        *(
            "trace:",
            "trace-of:",
            "trace-of:SNR",
            "trace-of:SNR:",
            "trace-of::x",
            "trace-dbm:-100:SNR",
            "trace-dbm:x:SNR:y",
            "tdl",
            "tdl:A",
        ),
        *("path-loss:80:3", "path-loss:1:2:3:4:5:6:7", "nakagami:1"),
    ],
)
def test_another_name_is_refused_with_those_that_are_known(text: str) -> None:
    with pytest.raises(InvalidInputError) as error:
        make_process(text)
    assert str(error.value).startswith(f"channel is {text!r}; expected {PROCESS_FORMS}")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("uniform:20:-5", "low_db"),
        ("jakes:10:nan", "doppler"),
        ("tdl:F:10", "model"),
        ("fixed:1e9", "snr_db"),
    ],
)
def test_a_parameter_out_of_range_is_named(text: str, named: str) -> None:
    with pytest.raises(InvalidInputError, match=f"^{named}"):
        make_process(text)
