"""What the demonstration refuses before it loads anything."""

from pathlib import Path

import pytest

from airmoe.data import ImageSet
from airmoe.errors import InvalidInputError
from airmoe.networked.config import parse_config
from airmoe.studies.demo.run import run_demo


def not_loaded() -> ImageSet:
    raise AssertionError("it was loaded")


@pytest.mark.parametrize("analog", [False, True])
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("[gate]\nchannel_aware = true", r"gate\.channel_aware is True; expected False: .* --analog"),
        (
            '[links]\ntransmission = "analog"',
            r"links\.transmission is 'analog'; expected 'ideal': .* --analog",
        ),
    ],
)
def test_the_usual_gate_over_ideal_links_is_what_the_demonstration_begins_with(
    tmp_path: Path, settings: str, said: str, analog: bool
) -> None:
    config = parse_config(settings, "settings")
    with pytest.raises(InvalidInputError, match=said):
        run_demo(
            config,
            not_loaded,
            tmp_path / "run",
            central_epochs=1,
            ask_images=40,
            analog=analog,
        )
    assert not list(tmp_path.iterdir())
