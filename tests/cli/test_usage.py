"""A wrong option is told in the words of all other errors."""

import pytest

from airmoe.cli.app import app
from airmoe.cli.usage import WrongUsage, line_about_usage

OPTIONS = {
    "predict a.png --client c --wire-type float8": "--wire-type is 'float8'; expected one of 'float32', ",
    "predict a.png --client c --deadline soon": "--deadline is 'soon'; expected a number",
    "predict a.png --client c --seed 1.5": "--seed is '1.5'; expected an integer",
    "train --method best": "--method is 'best'; expected one of 'networked', 'channel-aware'",
    "train --clients many": "--clients is 'many'; expected an integer",
    "demo --ask some": "--ask is 'some'; expected an integer",
    "study gating --workers all": "--workers is 'all'; expected an integer",
}


@pytest.mark.parametrize("words", OPTIONS)
def test_a_wrong_value_of_an_option_is_told_in_our_words(words: str) -> None:
    with pytest.raises(WrongUsage) as refused:
        app(words.split(), standalone_mode=False)
    line = line_about_usage(refused.value)
    assert line.startswith(OPTIONS[words])
    assert "Input should" not in line
    assert "Value error" not in line
