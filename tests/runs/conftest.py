"""A finished run of a server, trained once per session."""

from pathlib import Path

import pytest

from airmoe.data import ImageSet


@pytest.fixture(scope="session")
def server_folder(tmp_path_factory: pytest.TempPathFactory, few_digits: ImageSet) -> Path:
    """The run folder of a short channel-aware run: a server and two experts. Copy it to write into it.

    It is trained in the published form: its gate does not choose by the links alone.
    """
    from airmoe.channel_aware import ChannelAwareConfig, train_channel_aware
    from airmoe.runs import parse_section

    text = """
    seed = 3
    [data]
    name = "digits"
    train_images = 96
    [model]
    experts = 2
    compared = 1
    explored = 0
    [clean]
    epochs = 2
    batch_size = 32
    networks = 2
    over_links = false
    objective = "mixture"
    [channel]
    epochs = 2
    batch_size = 32
    snr = "uniform:-15:0"
    objective = "mixture"
    extractor_rate = 0.1
    alike = 0.0
    no_good_link = 0.25
    """
    out = tmp_path_factory.mktemp("server") / "run"
    train_channel_aware(parse_section(ChannelAwareConfig, text, "short"), few_digits, out, device="cpu")
    return out
