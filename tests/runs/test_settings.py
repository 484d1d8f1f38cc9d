"""Configurations: read from TOML, checked, written back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airmoe.channel_aware import ChannelAwareConfig
from airmoe.errors import InvalidInputError
from airmoe.manifest import RadioSettings
from airmoe.networked.config import (
    DataSettings,
    ExpertSettings,
    FeatureSettings,
    GateSettings,
    NetworkedConfig,
    load_config,
    parse_config,
)
from airmoe.runs.settings import Section, changed, dump_config, parse_section


def test_an_empty_file_is_the_default_run() -> None:
    assert parse_config("", "empty.toml") == NetworkedConfig()


def test_values_replace_defaults_and_leave_the_others() -> None:
    config = parse_config("seed = 7\n[features]\nrounds = 3\nlearning_rate = 1\n", "my.toml")
    assert config.seed == 7
    assert config.features == FeatureSettings(rounds=3, learning_rate=1.0)
    assert config.gate == GateSettings()


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("surprise = 1", "surprise", "1"),
        ("[gate]\nrouds = 5", "gate.rouds", "5"),
        ('[data]\nclients = "10"', "data.clients", "'10'"),
        ("[data]\nclients = true", "data.clients", "True"),
        ("[data]\nclients = 2.0", "data.clients", "2.0"),
        ("[data]\nclients = 0", "data.clients", "0"),
        ("data = 3", "data", "3"),
        ('[data]\npartition = "rnig"', "data.partition", "'rnig'"),
        ('[model]\nnorm = "batch"', "model.norm", "'batch'"),
        ("seed = -1", "seed", "-1"),
        ("seed = 9223372036854775808", "seed", "9223372036854775808"),
        ('mesh = "Lab"', "mesh", "'Lab'"),
        ("[features]\nrounds = 0", "features.rounds", "0"),
        ("[features]\nlearning_rate = 0", "features.learning_rate", "0"),
        ("[features]\nlearning_rate = inf", "features.learning_rate", "inf"),
        ("[features]\nlearning_rate = nan", "features.learning_rate", "nan"),
        ("[features]\nmomentum = 1.0", "features.momentum", "1.0"),
        ("[experts]\nlabel_smoothing = -0.1", "experts.label_smoothing", "-0.1"),
        ("[gate]\nexpert_dropout = 1.0", "gate.expert_dropout", "1.0"),
        ("[gate]\nbalance = -1", "gate.balance", "-1"),
        ("[gate]\nproximal = inf", "gate.proximal", "inf"),
        ("[gate]\nchannel_aware = 1", "gate.channel_aware", "1"),
        ('[links]\ntransmission = "digital"', "links.transmission", "'digital'"),
        ("[links]\nmean_snr_db = 301.0", "links.mean_snr_db", "301.0"),
        ("[links]\npower_w = 0", "links.power_w", "0"),
    ],
)
def test_a_wrong_value_is_named_with_file_and_key(text: str, key: str, value: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        parse_config(text, "my.toml")
    message = str(raised.value)
    assert message.startswith(f"my.toml: {key} is {value}; expected ")
    assert "\n" not in message


@pytest.mark.parametrize("text", ["seed =", "[data\n", "seed = 1\nseed = 2"])
def test_what_is_not_toml_is_refused_with_the_place(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"^my\.toml is .*; expected valid TOML$"):
        parse_config(text, "my.toml")


def test_a_file_is_read_and_named_in_errors(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text("seed = 3\n")
    assert load_config(path).seed == 3
    path.write_text("sed = 3\n")
    with pytest.raises(
        InvalidInputError, match=r"^run\.toml: sed is 3; expected a known key; did you mean seed\?$"
    ):
        load_config(path)


@pytest.mark.parametrize("settings", [NetworkedConfig, ChannelAwareConfig])
def test_an_unknown_backbone_is_refused_as_soon_as_settings_are_read(settings: type[Section]) -> None:
    said = r"^a\.toml: model\.backbone is 'lenet6'; .*; did you mean lenet5\?$"
    with pytest.raises(InvalidInputError, match=said):
        parse_section(settings, 'model.backbone = "lenet6"', "a.toml")


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "run.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"config is .*run\.toml'; expected a readable TOML file"):
        load_config(path)


text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
unit = st.floats(0, 1, exclude_max=True)
positive = st.integers(1, 10**6)
rate = st.floats(1, 1e6)
clients = st.integers(1, 1000)


@given(
    st.builds(
        NetworkedConfig,
        seed=st.integers(0, 1 << 20),
        data=st.builds(DataSettings, name=text, clients=clients, partition=st.sampled_from(["ring", "iid"])),
        experts=st.builds(ExpertSettings, epochs=positive, learning_rate=rate, label_smoothing=unit),
        gate=st.builds(
            GateSettings,
            rounds=positive,
            momentum=unit,
            balance=rate,
            proximal=unit,
            channel_aware=st.booleans(),
        ),
        links=st.builds(RadioSettings, mean_snr_db=st.floats(-300, 300), subcarrier_hz=rate, power_w=rate),
    )
)
def test_what_is_dumped_is_parsed_back_to_the_same(config: NetworkedConfig) -> None:
    assert parse_config(dump_config(config), "dumped") == config


class Inner(Section):
    """A table in a table."""

    width: int | None = None
    name: str = ""


class Outer(Section):
    """A table."""

    inner: Inner = Inner()
    rate: float | None = None


class Settings(Section):
    """With tables in tables, and values that may be absent."""

    outer: Outer = Outer()
    seed: int | None = None


ANY_SETTINGS = st.builds(
    Settings,
    outer=st.builds(
        Outer,
        inner=st.builds(Inner, width=st.none() | st.integers(-(2**63), 2**63 - 1), name=text),
        rate=st.none() | st.floats(allow_nan=False),
    ),
    seed=st.none() | st.integers(0, 9),
)


@given(ANY_SETTINGS)
def test_tables_in_tables_and_values_that_are_none_are_parsed_back_to_the_same(settings: Settings) -> None:
    assert parse_section(Settings, dump_config(settings), "dumped") == settings


def test_what_is_none_is_a_key_that_is_not_there() -> None:
    settings = Settings(outer=Outer(inner=Inner(name="x")))
    assert dump_config(settings) == '[outer.inner]\nname = "x"\n'


def test_values_are_changed_by_key_and_none_changes_nothing() -> None:
    settings = Settings(seed=3)
    other = changed(settings, {"outer.inner.width": 4, "outer.rate": 0.5, "seed": None}, {})
    assert other == Settings(outer=Outer(inner=Inner(width=4), rate=0.5), seed=3)
    assert settings == Settings(seed=3)


def test_a_change_that_is_refused_is_called_what_the_user_calls_it() -> None:
    called = {"data.clients": "clients"}
    with pytest.raises(InvalidInputError, match=r"^clients is 0; expected at least 1$"):
        changed(NetworkedConfig(), {"data.clients": 0, "seed": 2}, called)
    with pytest.raises(InvalidInputError, match=r"^seed is -1; expected at least 0$"):
        changed(NetworkedConfig(), {"data.clients": 2, "seed": -1}, called)


def test_settings_do_not_change_once_made() -> None:
    with pytest.raises(ValueError, match="frozen"):
        NetworkedConfig().seed = 1  # type: ignore[misc]
