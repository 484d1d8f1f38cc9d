"""A command that measures the error rates of the full chain, for the fast chain to draw from.

    python -m airmoe.radio.error_tables [--blocks 4000] [--failures 400] [--seed 0] [--out FILE]

For each code and modulation it sends blocks of 512 random bits at every SNR of a grid. An SNR is done after
``--failures`` blocks with errors or ``--blocks`` blocks in all. A grid ends where fewer than one bit in
100,000 is wrong.

Shape suffixes: W codewords, K bits of one.
"""

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from airmoe.checks import integer_at_least
from airmoe.errors import AirmoeError
from airmoe.files import replaced_file
from airmoe.progress import Progress, silent
from airmoe.radio.coding import BLOCK_BITS
from airmoe.radio.error_events import Events, fit_events
from airmoe.radio.error_rates import EDGE_BITS, TABLES_FILE
from airmoe.radio.sionna_chain import send_words
from airmoe.seeding import torch_seeded
from airmoe.versions import version_of

FALL_DB = {
    "conv": {"qpsk": (-4.0, 4.0), "16qam": (2.0, 9.0)},
    "ldpc": {"qpsk": (-0.5, 4.0), "16qam": (4.0, 9.0)},
}
"""The SNRs between which error rates fall fast, dB, by code and modulation: the grid is dense there."""

LOWEST_DB, HIGHEST_DB = -20.0, 16.0
COARSE_STEP_DB, DENSE_STEP_DB, LAST_STEP_DB = 1.0, 0.25, 0.5
RARE = 1e-5
"""The bit-error rate at which a grid ends."""

COUNTED = ("snr_db", "sent", "failed")
"""Columns that are not rounded."""

BATCH = 100


def make_tables(
    blocks: int = 4000, failures: int = 400, seed: int = 0, progress: Progress = silent
) -> dict[str, Any]:
    """Return the tables, and how they were made.

    Args:
        blocks: the most blocks of 512 bits at each SNR.
        failures: how many blocks with errors are enough.
        seed: every code, modulation and SNR derives a stream of its own from it.
        progress: told the SNRs of each code and modulation.

    Raises:
        InvalidInputError: a number is no integer, or too small.
        MissingExtraError: Sionna is not installed.
    """
    integer_at_least("blocks", blocks, 1)
    integer_at_least("failures", failures, 1)
    integer_at_least("seed", seed, 0)
    made = {
        "command": "python -m airmoe.radio.error_tables",
        **{"blocks": blocks, "failures": failures, "seed": seed, "block_bits": BLOCK_BITS},
        "sionna-no-rt": version_of("sionna-no-rt", "sionna"),
        "torch": version_of("torch"),
    }
    tables: dict[str, Any] = {"made": made}
    for code, by_modulation in FALL_DB.items():
        tables[code] = {}
        for modulation, fall_db in by_modulation.items():
            grid_db = snr_grid_db(*fall_db)
            rows = list[dict[str, float]]()
            for done, snr_db in enumerate(grid_db):
                rows.append(table_row(code, modulation, snr_db, blocks, failures, seed))
                progress(f"{code} {modulation}", done + 1, len(grid_db), f"{snr_db:g} dB")
                if _bit_rate(code, rows[-1]) < RARE:
                    break
            tables[code][modulation] = {name: [row[name] for row in rows] for name in rows[0]}
    return tables


def snr_grid_db(first_db: float, last_db: float) -> list[float]:
    """Return SNRs from -20 to 16 dB in steps of 1 dB, 0.25 dB between the two given ones, then 0.5 dB."""
    coarse = np.arange(LOWEST_DB, first_db, COARSE_STEP_DB)
    dense = np.arange(first_db, last_db, DENSE_STEP_DB)
    rest = np.arange(last_db, HIGHEST_DB + LAST_STEP_DB, LAST_STEP_DB)
    return [float(snr_db) for snr_db in (*coarse, *dense, *rest)]


def table_row(
    code: str, modulation: str, snr_db: float, blocks: int, failures: int, seed: int
) -> dict[str, float]:
    """Return the counts at one SNR; arguments as in `make_tables`.

    A row of the convolutional code has the bit-error rates of the first 64 bits of a codeword, the last 64,
    and those between. A row of the LDPC code has the block-error rate, and the bit-error rate of failed
    blocks. Both have the error events (`airmoe.radio.error_events`), the LDPC code those of failed blocks.
    """
    wrong_WK = _wrong_bits(code, modulation, snr_db, blocks, failures, seed)
    wrong_W = wrong_WK.sum(axis=1, dtype=np.int64)
    failed_W = wrong_W[wrong_W > 0]
    row: dict[str, float] = {"snr_db": snr_db, "sent": len(wrong_W), "failed": len(failed_W)}
    if code == "conv":
        row["first"] = wrong_WK[:, :EDGE_BITS].mean()
        row["middle"] = wrong_WK[:, EDGE_BITS:-EDGE_BITS].mean()
        row["last"] = wrong_WK[:, -EDGE_BITS:].mean()
        row["burst"] = fit_events(wrong_W, BLOCK_BITS, failed=False).burst
    else:
        row["block"] = len(failed_W) / len(wrong_W)
        row["bit_if_block"] = failed_W.mean() / BLOCK_BITS if len(failed_W) else 0.0
        of_failed = fit_events(failed_W, BLOCK_BITS, failed=True) if len(failed_W) else Events(0.0, 1.0)
        row |= of_failed._asdict()
    return {name: value if name in COUNTED else float(f"{value:.5g}") for name, value in row.items()}


def _wrong_bits(
    code: str, modulation: str, snr_db: float, blocks: int, failures: int, seed: int
) -> NDArray[np.bool_]:
    """Return (W, K), True where the receiver decided on a wrong bit."""
    wrong_WK = torch.zeros(0, BLOCK_BITS, dtype=torch.bool)
    with torch_seeded(seed, f"{code} {modulation} {snr_db}"):
        while len(wrong_WK) < blocks and int(wrong_WK.any(dim=1).sum()) < failures:
            words = min(BATCH, blocks - len(wrong_WK))
            word_WK = torch.randint(2, (words, BLOCK_BITS), dtype=torch.uint8)
            decided_WK = send_words(word_WK, modulation, code, torch.full((words,), snr_db))
            wrong_WK = torch.cat([wrong_WK, decided_WK != word_WK])
    return wrong_WK.numpy()


def as_text(tables: dict[str, Any]) -> str:
    """Return the tables as JSON, one column a line."""
    return re.sub(r"\s+(?=[^\[\]]*\])", " ", json.dumps(tables, indent=1)) + "\n"


def _bit_rate(code: str, row: dict[str, float]) -> float:
    if code == "ldpc":
        return row["block"] * row["bit_if_block"]
    edges = EDGE_BITS / BLOCK_BITS
    return edges * (row["first"] + row["last"]) + (1 - 2 * edges) * row["middle"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the tables and write them; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m airmoe.radio.error_tables", description="Make the tables of the fast digital chain."
    )
    parser.add_argument("--blocks", type=int, default=4000, help="most blocks at each SNR")
    parser.add_argument("--failures", type=int, default=400, help="blocks with errors that are enough")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name(TABLES_FILE), help="JSON file")
    chosen = parser.parse_args(arguments)

    def progress(activity: str, done: int, total: int, note: str = "", /) -> None:
        console.print(f"{activity}: {done} of at most {total}, {note}")

    console = Console(stderr=True, markup=False, soft_wrap=True)
    torch.set_num_threads(1)
    try:
        tables = make_tables(chosen.blocks, chosen.failures, chosen.seed, progress)
    except AirmoeError as error:
        console.print(f"error: {error}")
        return 2
    with replaced_file(chosen.out) as path:
        path.write_text(as_text(tables), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
