"""The signal of Wi-Fi, as Linux tells it."""

from pathlib import Path

import pytest

from airmoe.mesh.wifi import WifiSignal, wifi_signals

HEAD = """Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE
 face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22
"""


@pytest.mark.parametrize(
    ("lines", "signals"),
    [
        ("", []),
        (
            " wlan0: 0000   54.  -56.  -256        0      0      0      0     10        0\n",
            [WifiSignal("wlan0", -56.0, None)],
        ),
        (
            "wlp2s0: 0000   70.  -40.  -95        0      0      0      0     10        0\n oops\n",
            [WifiSignal("wlp2s0", -40.0, -95.0)],
        ),
    ],
)
def test_the_signal_of_each_interface_is_told(tmp_path: Path, lines: str, signals: list[WifiSignal]) -> None:
    (tmp_path / "wireless").write_text(HEAD + lines)
    assert wifi_signals(tmp_path / "wireless") == signals


def test_a_machine_without_wifi_has_no_signal(tmp_path: Path) -> None:
    assert wifi_signals(tmp_path / "none") == []
