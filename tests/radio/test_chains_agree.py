"""Fast against full chain, all codes and modulations: run by `pytest --long`; with -s it prints a table."""

import math

import pytest

from airmoe.radio import Digital
from tests.radio.received_digits import Comparison, compare

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]

MODES = {
    Digital(4, "qpsk", "none"): (-3.0, 2.0, 7.0),
    Digital(4, "16qam", "none"): (2.0, 8.0, 13.0),
    Digital(4, "qpsk", "conv"): (-2.0, 0.0, 1.0, 2.0, 3.0),
    Digital(4, "16qam", "conv"): (3.0, 5.0, 6.0, 7.0, 8.0),
    Digital(8, "qpsk", "ldpc"): (-1.0, 0.6, 1.0, 1.5, 1.8),
    Digital(8, "16qam", "ldpc"): (3.0, 5.6, 6.1, 6.6, 6.9),
}


HEADINGS = ("MSE, full", "fast", "deviations", "failed, full", "fast", "deviations")
HEADINGS += ("accuracy, full", "fast", "deviations")


def cells(measure: Comparison) -> list[str]:
    return [f"{measure.full:.4f}", f"{measure.fast:.4f}", f"{measure.deviations:+.1f}"]


def test_the_chains_agree_within_95_percent_intervals() -> None:
    """Of so many comparisons one in twenty may lie outside, give or take; none may be far outside."""
    print(f"\n| transmission | SNR, dB | {' | '.join(HEADINGS)} |\n|---|{'---:|' * 10}")
    distances = []
    for digital, snrs_db in MODES.items():
        for snr_db in snrs_db:
            measures = compare(digital, snr_db)
            shown = [cell for measure in measures.values() for cell in cells(measure)]
            print(f"| `{digital.name}` | {snr_db:g} | {' | '.join(shown)} |", flush=True)
            if digital.code == "conv":  # fitted to mean and variance, not to how many codewords are whole
                del measures["failed_T"]
            distances += [abs(measure.deviations) for measure in measures.values()]
    outside = sum(distance > 1.96 for distance in distances)
    print(f"\n{outside} of {len(distances)} beyond 1.96 deviations, the farthest at {max(distances):.1f}")
    share, count = 0.05, len(distances)
    assert outside <= share * count + 3 * math.sqrt(share * (1 - share) * count)
    assert max(distances) < 4
