"""A gate for every client: an item is scored by the gate of the node where it rests.

Shape suffixes: T items, F features, E experts.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from airmoe.errors import InvalidInputError
from airmoe.nn.gates import GateOutput


class PersonalGates(nn.Module):
    """The gates of all clients, of the same form and over the same experts; client i's is that of node i.

    `airmoe.nn.MoeLayer` tells it where items rest. A mesh serves each client its own gate alone.

    Args:
        gates: by the number of the client.

    Raises:
        InvalidInputError: no gate, or gates of which some see the SNR and others do not.

    Examples:
        Two clients, of which each prefers its own expert:

        >>> import numpy as np
        >>> import torch
        >>> from airmoe.nn import LinearGate, PersonalGates
        >>> gates = [LinearGate(features=1, experts=2) for _ in range(2)]
        >>> for client, gate in enumerate(gates):
        ...     _ = gate.linear.bias.data[client].fill_(1.0)
        >>> personal = PersonalGates(gates)
        >>> personal(torch.zeros(2, 1), source_T=np.array([1, 0])).scores_TE.argmax(dim=1).tolist()
        [1, 0]
    """

    def __init__(self, gates: Sequence[nn.Module]) -> None:
        super().__init__()
        if not gates:
            raise InvalidInputError("gates", list(gates), "one for each client")
        seeing = [gate.sees_snr for gate in gates]
        if any(sees != seeing[0] for sees in seeing):
            raise InvalidInputError("sees_snr of the gates", seeing, "the same of all")
        self.gates = nn.ModuleList(gates)

    @property
    def sees_snr(self) -> bool:
        """Whether the gates look at the SNR."""
        return bool(self.gates[0].sees_snr)

    def forward(
        self,
        pooled_TF: Tensor,
        snr_db_TE: Tensor | None = None,
        source_T: NDArray[np.int64] | None = None,
    ) -> GateOutput:
        """Return scores and logits (T, E), without a load.

        Args:
            pooled_TF: pooled features.
            snr_db_TE: SNR of every item's link to every expert, dB; None where no link is known.
            source_T: the node where each item rests.

        Raises:
            InvalidInputError: ``source_T`` is missing, of another length, or has a node without a gate.
        """
        if source_T is None or np.shape(source_T) != (len(pooled_TF),):
            given = None if source_T is None else np.shape(source_T)
            expected = f"(T,) = ({len(pooled_TF)},): every client has a gate of its own"
            raise InvalidInputError("shape of source_T", given, expected)
        sources = np.unique(source_T).tolist()
        for node in sources:
            if not 0 <= node < len(self.gates):
                expected = f"0 to {len(self.gates) - 1}, the clients that have a gate"
                raise InvalidInputError("source_T", node, expected)
        item_I = [torch.from_numpy(np.flatnonzero(source_T == node)).to(pooled_TF.device) for node in sources]
        outputs = [
            self.gates[node](pooled_TF[item], None if snr_db_TE is None else snr_db_TE[item])
            for node, item in zip(sources, item_I, strict=True)
        ]
        back_T = torch.argsort(torch.cat(item_I))
        scores_TE, logits_TE = (
            torch.cat([getattr(output, name) for output in outputs])[back_T]
            for name in ("scores_TE", "logits_TE")
        )
        return GateOutput(scores_TE, logits_TE)


def gates_of(gate: nn.Module) -> list[nn.Module]:
    """Return the gates that a gate consists of: every client's, or itself alone."""
    return list(gate.gates) if isinstance(gate, PersonalGates) else [gate]
