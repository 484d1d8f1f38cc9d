"""Radio links between nodes: a snapshot of all channel gains, the OFDMA radio that uses them, and fading."""

from airmoe.links.fading import MultipathFading, RayleighFading
from airmoe.links.observation import LinkSnr
from airmoe.links.processes import SnrProcess, SpreadSnr, UniformSnr
from airmoe.links.radio import Ofdma
from airmoe.links.snapshot import Links

__all__ = [
    "LinkSnr",
    "Links",
    "MultipathFading",
    "Ofdma",
    "RayleighFading",
    "SnrProcess",
    "SpreadSnr",
    "UniformSnr",
]
