"""How many bytes of a text a node can read out of the hidden states that it is sent, by a linear probe.

The reader knows some text and what it looks like on the way to the experts of a layer; a ridge regression
onto the bytes is all it learns. The share of bytes that it then names rightly is a lower bound on what leaks:
more capable readers exist.

Shape suffixes: B sequences, S positions, T tokens, W width, V bytes.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from airmoe.dispatch import Delivery, Transfer
from airmoe.language import MoeTransformer
from airmoe.language.measure import bits_per_byte
from airmoe.language.texts import drawn_windows, joined
from airmoe.language.transformer import BYTES
from airmoe.nn import LocalCarrier
from airmoe.nn.threads import one_thread
from airmoe.randomness import stream, torch_seed
from airmoe.report.drawing import Drawing, Line
from airmoe.report.style import looks_of
from airmoe.report.table import Table
from airmoe.studies.curves.figure import Figure, FigureKind, Workspace
from airmoe.studies.curves.panels import panel
from airmoe.studies.curves.rows import Row, Rows, scaled, sweep_table
from airmoe.studies.dmoe.models import all_domains, held_out, mixture_of, texts_of
from airmoe.studies.dmoe.settings import ProbeSettings

COLUMNS = ("named", "most_frequent", "bits_per_byte")
RIDGE = 1.0
"""What is added to the diagonal of the Gram matrix of the hidden states."""


class NoisyCarrier(LocalCarrier):
    """Experts in this process that are given what they are sent with Gaussian noise, and remember it.

    Args:
        noise: standard deviation, as a share of a payload's root mean square.
        seed: of the noise.
    """

    def __init__(self, noise: float, seed: int) -> None:
        self._noise, self._random = noise, torch.Generator().manual_seed(seed)
        self.sent_TW = list[Tensor]()

    def carry(self, transfer: Transfer[Tensor]) -> Delivery[Tensor]:
        """Run each expert on what arrives."""
        payload_TW = transfer.payload_T
        size_T1 = payload_TW.square().mean(dim=1, keepdim=True).sqrt()
        noise_TW = torch.randn(payload_TW.shape, generator=self._random)
        payload_TW = payload_TW + self._noise * size_T1 * noise_TW
        self.sent_TW.append(payload_TW)
        return super().carry(replace(transfer, payload_T=payload_TW))


def measure(settings: ProbeSettings, seed: int, work: Workspace) -> Iterator[Row]:
    """Yield the share of held-out bytes that the probe of each layer names, and the model's bits per byte."""
    with one_thread():
        yield from _rows(settings, seed, mixture_of(settings, seed, work).model)


@torch.no_grad()
def _rows(settings: ProbeSettings, seed: int, model: MoeTransformer) -> list[Row]:
    domains, asked_WS = texts_of(settings.data).domains, all_domains(held_out(settings))
    random = stream(seed, "dmoe study text that a reader knows")
    share, context = -(-settings.known // len(domains)), settings.context
    known_WS = torch.from_numpy(
        np.concatenate([drawn_windows(joined(each.train), share, context, random) for each in domains])
    )
    known_TLW, asked_TLW = (
        sent(model, windows_WS, settings.noise, torch_seed(seed, "dmoe study noise", part))
        for part, windows_WS in enumerate((known_WS, asked_WS[:, :-1]))
    )
    carriers = [NoisyCarrier(settings.noise, torch_seed(seed, "dmoe study noise", 2))] * settings.layers
    bits = bits_per_byte(lambda tokens_BS: model(tokens_BS, carrier=carriers).logits_BSV, asked_WS)
    byte_T, asked_T = known_WS.flatten(), asked_WS[:, :-1].flatten()
    frequent = float((asked_T == torch.bincount(byte_T, minlength=BYTES).argmax()).double().mean())
    found = list[Row]()
    for value in settings.values:
        layer = settings.at(value).layer - 1
        weight_WV = probe(known_TLW[:, layer], byte_T)
        named_T = (with_one(asked_TLW[:, layer]) @ weight_WV).argmax(dim=1)
        named = float((named_T == asked_T).double().mean())
        found.append(
            {"x": value, "seed": seed, "named": named, "most_frequent": frequent, "bits_per_byte": bits}
        )
    return found


def sent(model: MoeTransformer, windows_WS: Tensor, noise: float, seed: int) -> Tensor:
    """Return (T, L, W), float64: what every layer's experts are sent of each byte."""
    carriers = [NoisyCarrier(noise, seed + layer) for layer in range(model.settings.layers)]
    for windows_BS in windows_WS.split(16):
        model(windows_BS, carrier=carriers)
    return torch.stack([torch.cat(each.sent_TW) for each in carriers], dim=1).double()


def probe(hidden_TW: Tensor, byte_T: Tensor) -> Tensor:
    """Return the weights (W + 1, V) of a ridge regression from hidden states onto bytes."""
    known_TW = with_one(hidden_TW)
    wanted_TV = functional.one_hot(byte_T, BYTES).double()
    gram_WW = known_TW.T @ known_TW + RIDGE * torch.eye(known_TW.shape[1], dtype=torch.float64)
    weight_WV: Tensor = torch.linalg.solve(gram_WW, known_TW.T @ wanted_TV)
    return weight_WV


def with_one(hidden_TW: Tensor) -> Tensor:
    """Return (T, W + 1): a one beside each hidden state."""
    return torch.cat([hidden_TW, hidden_TW.new_ones(len(hidden_TW), 1)], dim=1)


def draw(figure: Figure, rows: Rows) -> dict[str, Drawing]:
    """Return the share of bytes that are named, by layer."""
    lines = []
    for name, look in zip(figure.curves, looks_of(list(figure.curves)), strict=True):
        spread = scaled(rows.spread(name, "named"), 100)
        lines.append(Line(figure.label(name), spread.x, spread.mean, spread.deviation, look=look))
    return {"": Drawing([panel(figure, lines, y_label="bytes that are named, %")])}


def tables(figure: Figure, rows: Rows) -> list[Table]:
    """Return a table for each column."""
    found = []
    for column, title, unit, scale in (
        ("named", "Bytes that a linear probe names", "%", 100.0),
        ("most_frequent", "Bytes that are the most frequent one", "%", 100.0),
        ("bits_per_byte", "Bits per byte of the model", "", 1.0),
    ):
        spreads = {figure.label(name): scaled(rows.spread(name, column), scale) for name in figure.curves}
        found.append(sweep_table(column, title, figure.x_label("layer"), spreads, unit=unit))
    return found


PROBE = FigureKind(ProbeSettings, COLUMNS, measure, draw, tables)
