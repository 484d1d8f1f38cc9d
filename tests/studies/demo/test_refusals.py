"""What the demonstration refuses before it loads anything."""

from dataclasses import replace
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


@pytest.mark.parametrize(("ask", "fit"), [(450, 8), (15, 9)])
def test_with_few_held_out_images_it_says_how_many_clients_would_do(
    tmp_path: Path, digits: ImageSet, ask: int, fit: int
) -> None:
    few = replace(digits, test_images=digits.test_images[:18], test_labels=digits.test_labels[:18])

    def demonstrate(clients: int) -> None:
        config = parse_config(f"[data]\nclients = {clients}", "settings")
        run_demo(config, lambda: few, tmp_path / "run", central_epochs=1, ask_images=ask)

    said = rf"held-out images is 18; expected at least 100 of them, or {fit} clients or more: 100 queries"
    with pytest.raises(InvalidInputError, match=said):
        demonstrate(3)
    with pytest.raises(InvalidInputError, match="100 queries while nodes die"):
        demonstrate(fit - 1)
