"""Radio links between nodes: a snapshot of all channel gains, how they change, and the radio on them."""

from airmoe.links.analog import receive_analog
from airmoe.links.emulated import EmulatedLinks
from airmoe.links.fading import MultipathFading, RayleighFading
from airmoe.links.fading_processes import GaussMarkovSnr, JakesSnr, RayleighSnr, RicianSnr
from airmoe.links.observation import LinkSnr
from airmoe.links.parsing import PROCESS_FORMS, make_process
from airmoe.links.path_loss import ShadowedPathLossSnr
from airmoe.links.processes import FixedSnr, OneBadSnr, SnrProcess, SpreadSnr, UniformSnr
from airmoe.links.radio import Ofdma
from airmoe.links.sequence import link_sequence
from airmoe.links.snapshot import Links
from airmoe.links.sources import LinkSource, RecordedLinks, SimulatedLinks
from airmoe.links.tdl import TdlSnr
from airmoe.links.traces import TraceSnr, read_runs

__all__ = [
    "PROCESS_FORMS",
    "EmulatedLinks",
    "FixedSnr",
    "GaussMarkovSnr",
    "JakesSnr",
    "LinkSnr",
    "LinkSource",
    "Links",
    "MultipathFading",
    "Ofdma",
    "OneBadSnr",
    "RayleighFading",
    "RayleighSnr",
    "RecordedLinks",
    "RicianSnr",
    "ShadowedPathLossSnr",
    "SimulatedLinks",
    "SnrProcess",
    "SpreadSnr",
    "TdlSnr",
    "TraceSnr",
    "UniformSnr",
    "link_sequence",
    "make_process",
    "read_runs",
    "receive_analog",
]
