"""A carrier of your own: it brings payloads as another one does, and writes down how long that takes.

A carrier has five members (`airmoe.dispatch.Carrier`); inherit those that you do not change.
"""

import numpy as np
import torch

from airmoe.links import Ofdma, RayleighFading
from airmoe.nn import IdealRadioCarrier, build_model
from airmoe.scheduling import TopK


class Diary(IdealRadioCarrier):
    """An ideal radio that writes down each transfer."""

    def carry(self, transfer):
        price = self.price(transfer.payload_T, transfer.slot).charged
        busy_s = price.airtime_s_TE[transfer.item_P, transfer.expert_P].sum()
        print(f"{len(transfer.item_P)} pairs, {busy_s * 1e3:.2f} ms on the air")
        return super().carry(transfer)


torch.manual_seed(0)
model = build_model("lenet5", classes=10, experts=4, channels=1).eval()
carrier = Diary(RayleighFading(nodes=4, radio=Ofdma(subcarriers=16)).at(0))
answer = model(torch.rand(64, 1, 32, 32), np.arange(64) % 4, policy=TopK(2), carrier=carrier)
print(f"{answer.dispatched.airtime_s_T.sum() * 1e3:.2f} ms in all")
