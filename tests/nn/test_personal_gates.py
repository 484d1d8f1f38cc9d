"""Gates of which every client has its own."""

import numpy as np
import pytest
import torch

from airmoe.errors import InvalidInputError
from airmoe.nn import BiasGate, LinearGate, MlpExpert, MoeLayer, PersonalGates

ITEMS, FEATURES, EXPERTS, CLIENTS = 12, 5, 3, 4


def gate_of(seed: int, *, sees_snr: bool = False) -> LinearGate | BiasGate:
    gate = LinearGate(FEATURES, EXPERTS)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        torch.nn.init.normal_(gate.linear.weight)
    return BiasGate(gate) if sees_snr else gate


@pytest.mark.parametrize("sees_snr", [False, True])
def test_every_item_is_scored_by_the_gate_of_its_node(sees_snr: bool) -> None:
    gates = [gate_of(client, sees_snr=sees_snr) for client in range(CLIENTS)]
    random = np.random.default_rng(0)
    source_T = random.integers(CLIENTS, size=ITEMS)
    pooled_TF = torch.from_numpy(random.normal(size=(ITEMS, FEATURES))).float()
    snr_db_TE = torch.from_numpy(random.uniform(-10, 30, size=(ITEMS, EXPERTS))).float()
    personal = PersonalGates(gates)
    output = personal(pooled_TF, snr_db_TE, source_T)
    for item, node in enumerate(source_T):
        alone = gates[node](pooled_TF[item, None], snr_db_TE[item, None])
        torch.testing.assert_close(output.scores_TE[item], alone.scores_TE[0])
        torch.testing.assert_close(output.logits_TE[item], alone.logits_TE[0])
    assert personal.sees_snr is sees_snr


def test_a_layer_tells_where_its_items_rest() -> None:
    gates = [gate_of(client) for client in range(CLIENTS)]
    experts = [MlpExpert(FEATURES, 3, 4) for _ in range(EXPERTS)]
    layer = MoeLayer(PersonalGates(gates), experts, source=2).eval()
    payload_TF = torch.from_numpy(np.random.default_rng(1).normal(size=(ITEMS, FEATURES))).float()
    with torch.no_grad():
        of_third = layer(payload_TF).scores_TE
        of_first = layer(payload_TF, np.zeros(ITEMS, np.int64)).scores_TE
        torch.testing.assert_close(of_third, gates[2](payload_TF).scores_TE)
        torch.testing.assert_close(of_first, gates[0](payload_TF).scores_TE)


@pytest.mark.parametrize(
    ("source_T", "said"),
    [
        (None, r"shape of source_T is None; expected \(T,\) = \(2,\): every client has a gate of its own"),
        (np.zeros(3, np.int64), r"shape of source_T is \(3,\)"),
        (np.array([0, CLIENTS]), "source_T is 4; expected 0 to 3"),
        (np.array([-1, 0]), "source_T is -1"),
    ],
)
def test_a_source_without_a_gate_is_refused(source_T: "np.ndarray | None", said: str) -> None:
    personal = PersonalGates([gate_of(client) for client in range(CLIENTS)])
    with pytest.raises(InvalidInputError, match=said):
        personal(torch.zeros(2, FEATURES), source_T=source_T)


def test_no_gate_and_gates_that_see_different_things_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="gates is"):
        PersonalGates([])
    with pytest.raises(InvalidInputError, match="sees_snr of the gates"):
        PersonalGates([gate_of(0), gate_of(1, sees_snr=True)])
