"""The signal of this machine's Wi-Fi, as Linux tells it: that of the access point, not of each node."""

from pathlib import Path
from typing import NamedTuple

_TOLD = Path("/proc/net/wireless")
_HEADER_LINES = 2
_NO_NOISE_DBM = -256.0


class WifiSignal(NamedTuple):
    """What an interface receives.

    Attributes:
        interface: its name.
        level_dbm: of the signal.
        noise_dbm: None where the driver does not tell it.
    """

    interface: str
    level_dbm: float
    noise_dbm: float | None


def wifi_signals(told: Path = _TOLD) -> list[WifiSignal]:
    """Return the signal of each Wi-Fi interface; none where there is no Wi-Fi, or the system does not tell.

    Args:
        told: where Linux tells it.

    Examples:
        >>> from pathlib import Path
        >>> from airmoe.mesh.wifi import wifi_signals
        >>> wifi_signals(Path("/nowhere"))
        []
    """
    try:
        lines = told.read_text(encoding="ascii").splitlines()[_HEADER_LINES:]
    except (OSError, UnicodeDecodeError):
        return []
    signals = []
    for line in lines:
        interface, _, values = line.partition(":")
        try:
            _, _, level_dbm, noise_dbm = map(float, values.split()[:4])
        except ValueError:  # a line that is written otherwise
            continue
        known = noise_dbm if noise_dbm > _NO_NOISE_DBM else None
        signals.append(WifiSignal(interface.strip(), level_dbm, known))
    return signals
