"""The simulated links of a mesh, as the manifests of a run describe them."""

from airmoe.links import Links, Ofdma, RayleighFading
from airmoe.manifest import RadioSpec


def simulated_links(radio: RadioSpec, nodes: int) -> Links:
    """Return the links of a run's simulated radio: slot 0 of its Rayleigh fading."""
    ofdma = Ofdma(
        subcarriers=radio.subcarriers,
        subcarrier_hz=radio.subcarrier_hz,
        power_w=radio.power_w,
        charge_return=radio.charge_return,
    )
    return RayleighFading(nodes, ofdma, radio.mean_snr_db, radio.seed).at(0)
