"""Stage 3 with a gate that looks at the links, against a closed form, and in a whole run.

Expert e holds the classes e and e + 1 of a ring. What it gives to a class that it holds depends on the SNR of
the link alone, and is measured from the power of what it received: the clean features have power 1.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from airmoe.data import ImageSet, as_pixels
from airmoe.federated import Averaging, Loop, Message, Summing, federate
from airmoe.networked import closed_form, split_among_clients
from airmoe.networked.answers import questions_over_links
from airmoe.networked.closed_form import GateSumsClient, fit_gate
from airmoe.networked.config import GateSettings, NetworkedConfig
from airmoe.networked.fedgate import EXCHANGES, FedGateClient
from airmoe.networked.gates import trained_part
from airmoe.networked.moments import SMALLEST_STD
from airmoe.networked.run import radio_of
from airmoe.networked.stages import train_stages
from airmoe.nn import BiasGate, LinearGate
from airmoe.randomness import stream

CLASSES = EXPERTS = 5
FEATURES = 100
HOLDS_CE = torch.tensor(
    [[float(c in (e, (e + 1) % CLASSES)) for e in range(EXPERTS)] for c in range(CLASSES)]
)
CODE_CF = torch.from_numpy(np.random.default_rng(0).choice([-1.0, 1.0], (CLASSES, FEATURES))).float()


def right(snr_db: Tensor) -> Tensor:
    """What an expert gives to the true class that it holds."""
    return 0.02 + 0.96 * torch.sigmoid(snr_db / 4)


def answer(expert: int, received_PF: Tensor) -> Tensor:
    noise_P = (received_PF.square().mean(dim=1) - 1).clamp_min(1e-6)
    right_P1 = right(-10 * noise_P.log10()).unsqueeze(1)
    return torch.where(HOLDS_CE[:, expert] > 0, right_P1, 0.02)


def trained_gate(channel_aware: bool, images: int = 20, rounds: int = 40) -> LinearGate | BiasGate:
    """Every client has images of the two classes that it holds."""
    torch.manual_seed(0)
    content = LinearGate(FEATURES, EXPERTS)
    gate = BiasGate(content) if channel_aware else content
    labels_T = [torch.tensor([c, (c + 1) % CLASSES]).repeat(images // 2) for c in range(EXPERTS)]
    features_TF = torch.cat([CODE_CF[labels] for labels in labels_T])
    content.standardise(features_TF.mean(dim=0), features_TF.std(dim=0, correction=0).clamp_min(SMALLEST_STD))
    settings = GateSettings(channel_aware=channel_aware, batch_size=10, rounds=rounds)
    clients = [
        FedGateClient(gate, partial(answer, client), CODE_CF[labels], labels, settings, 0, client)
        for client, labels in enumerate(labels_T)
    ]
    part = trained_part(gate)
    stage = Averaging("gate", len(clients), EXCHANGES)
    part.load_state_dict(federate(stage, part.state_dict(), Loop(clients), rounds)[0])
    return gate.eval()


@pytest.fixture(scope="module")
def aware() -> BiasGate:
    gate = trained_gate(True)
    assert isinstance(gate, BiasGate)
    return gate


TOLD_APART_DB = torch.tensor([-10.0, -5.0, 0.0, 5.0, 15.0, 25.0])
"""SNRs of the links, each as likely as the others."""

DRAWS = 4000


@pytest.fixture(scope="module")
def links() -> tuple[Tensor, Tensor, Tensor]:
    """Images' classes, who asks, and the SNR (T, E) of each link; 30 dB to the asking client's own expert."""
    random = np.random.default_rng(1)
    class_T = torch.from_numpy(random.integers(CLASSES, size=DRAWS))
    source_T = torch.from_numpy(random.integers(EXPERTS, size=DRAWS))
    snr_db_TE = TOLD_APART_DB[torch.from_numpy(random.integers(len(TOLD_APART_DB), size=(DRAWS, EXPERTS)))]
    snr_db_TE[torch.arange(DRAWS), source_T] = 30
    return class_T, source_T, snr_db_TE


def earned(gate: LinearGate | BiasGate, links: tuple[Tensor, Tensor, Tensor]) -> float:
    """The mean of what top-1 routing gives to the true class."""
    class_T, _, snr_db_TE = links
    with torch.no_grad():
        chosen_T = gate(CODE_CF[class_T], snr_db_TE).scores_TE.argmax(dim=1)
    every_T = torch.arange(DRAWS)
    gained_T = torch.where(HOLDS_CE[class_T, chosen_T] > 0, right(snr_db_TE[every_T, chosen_T]), 0.02)
    return float(gained_T.mean())


def best_of_two() -> float:
    """A holder asks with probability 2/E and answers itself; else the better of two links counts."""
    right_L = right(TOLD_APART_DB)
    better = torch.maximum(right_L[:, None], right_L[None, :]).mean()
    return float(2 / EXPERTS * right(torch.tensor(30.0)) + (1 - 2 / EXPERTS) * better)


def either_of_two() -> float:
    """One holder, whatever the links: it is the asking client's own with probability 1/E."""
    return float(right(torch.tensor(30.0)) / EXPERTS + (1 - 1 / EXPERTS) * right(TOLD_APART_DB).mean())


def test_a_channel_aware_gate_comes_near_the_optimum_and_a_naive_one_near_what_it_can_know(
    aware: BiasGate, links: tuple[Tensor, Tensor, Tensor]
) -> None:
    by_links, blindly = earned(aware, links), earned(trained_gate(False), links)
    assert blindly == pytest.approx(either_of_two(), abs=0.02)
    assert by_links == pytest.approx(best_of_two(), abs=0.02)
    assert by_links > blindly + 0.15


def test_so_does_the_closed_form(links: tuple[Tensor, Tensor, Tensor]) -> None:
    gate = BiasGate(LinearGate(FEATURES, EXPERTS))
    labels_T = [torch.tensor([c, (c + 1) % CLASSES]).repeat(20) for c in range(EXPERTS)]
    features_TF = torch.cat([CODE_CF[labels] for labels in labels_T])
    moments = {"mean": features_TF.mean(dim=0), "std": features_TF.std(dim=0).clamp_min(SMALLEST_STD)}
    gate.content.standardise(moments["mean"], moments["std"])
    clients = [
        GateSumsClient(
            partial(answer, client), CODE_CF[labels], labels, client, EXPERTS, channel_aware=True, seed=0
        )
        for client, labels in enumerate(labels_T)
    ]
    summing = Summing("gate", EXPERTS, closed_form.EXCHANGES, told=moments)
    sums, (row,) = federate(summing, {}, Loop(clients), 1)
    fit_gate(gate, sums, penalty=10.0, sharpness=20.0)
    assert earned(gate, links) == pytest.approx(best_of_two(), abs=0.02)
    pairs = EXPERTS * 40 * (EXPERTS - 1) * 7 * (FEATURES + CLASSES) * 4
    of_sums = EXPERTS * ((FEATURES + 1) * (FEATURES + 1 + EXPERTS) + 7) * 8
    assert row["bytes"] == pairs + of_sums + EXPERTS * 2 * FEATURES * 4


def test_a_better_link_is_worth_more_as_far_as_links_matter(aware: BiasGate) -> None:
    with torch.no_grad():
        worth = aware.link_worth((torch.tensor([-10.0, -5.0, 0.0, 5.0]) - 10) / 10).tolist()
    assert worth == sorted(worth)
    assert worth[-1] > worth[0] + 1


def test_a_client_does_not_keep_foreign_images_to_itself(
    aware: BiasGate, links: tuple[Tensor, Tensor, Tensor]
) -> None:
    class_T, source_T, snr_db_TE = links
    with torch.no_grad():
        chosen_T = aware(CODE_CF[class_T], snr_db_TE).scores_TE.argmax(dim=1)
    foreign_T = HOLDS_CE[class_T, source_T] == 0
    assert float((chosen_T == source_T)[foreign_T].float().mean()) < 0.02


def test_the_naive_gate_has_no_use_for_the_links(links: tuple[Tensor, Tensor, Tensor]) -> None:
    gate = trained_gate(False, rounds=2)
    class_T, _, snr_db_TE = links
    with torch.no_grad():
        assert torch.equal(gate(CODE_CF[class_T], snr_db_TE).scores_TE, gate(CODE_CF[class_T]).scores_TE)


def noises(seed: int, client: int, round_: int) -> list[Tensor]:
    """What is added to features on their way to each expert at -15 dB, the first level."""
    gate, received = BiasGate(LinearGate(FEATURES, EXPERTS)), dict[int, Tensor]()

    def answer_and_keep(received_PF: Tensor) -> Tensor:
        received[client] = received_PF
        return answer(client, received_PF)

    settings = GateSettings(channel_aware=True, query_k=EXPERTS)
    labels_T, weights = torch.arange(CLASSES), trained_part(gate).state_dict()
    asking = FedGateClient(gate, answer_and_keep, CODE_CF, labels_T, settings, seed, client)
    _, queries = asking.query({}, Message(weights, {"round": round_}))
    received |= {expert: letter["features"] for expert, letter in queries.letters.items()}
    return [received[expert][:CLASSES] - CODE_CF for expert in range(EXPERTS)]


def test_noise_is_drawn_anew_for_each_expert_client_round_and_seed_and_can_be_had_again() -> None:
    first = noises(0, 1, 2)
    assert len(first) == EXPERTS
    assert all(torch.equal(a, b) for a, b in zip(first, noises(0, 1, 2), strict=True))
    others = [*first[1:], *(noises(*changed)[0] for changed in ((1, 1, 2), (0, 0, 2), (0, 1, 0)))]
    for other in others:
        correlation = torch.corrcoef(torch.stack([first[0].flatten(), other.flatten()]))[0, 1]
        assert abs(float(correlation)) < 0.2


def test_a_whole_run_exchanges_the_gate_and_every_answer_at_seven_levels(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config(data={"clients": 3}, gate={"rounds": 3, "query_k": 3, "channel_aware": True})
    trained = train_stages(config, split_among_clients(config, few_digits))
    link_worth = 19
    rounds = (2 * 3 + 1) * 3 * (400 * 3 + 3 + link_worth) * 4  # the last gate is told, too
    pairs = 200 * 2 * 7 * (400 + 10) * 4  # query_k = 3: all are asked in the first round
    assert sum(int(row["bytes"]) for row in trained.rows if row["stage"] == "gate") == rounds + pairs
    assert isinstance(trained.model.layer.gate, BiasGate)
    assert 0 < float(trained.rows[-1]["macro_f1"]) < 1


def test_its_macro_f1_is_the_mean_over_the_clients_that_ask_over_the_held_out_links(
    few_digits: ImageSet, tiny_config: Callable[..., NetworkedConfig]
) -> None:
    config = tiny_config(data={"clients": 3}, gate={"rounds": 3, "channel_aware": True})
    trained = train_stages(config, split_among_clients(config, few_digits))
    model, labels_T = trained.model, few_digits.test_labels
    with torch.no_grad():
        features_TF = model.extractor(torch.from_numpy(as_pixels(few_digits.test_images)))
        snr_db_TE, received, asks_T = questions_over_links(
            features_TF, config.data.clients, config.links.mean_snr_db, stream(config.seed, "held-out links")
        )
        answer_TEC = torch.stack(
            [expert(each) for expert, each in zip(model.layer.experts, received, strict=True)], dim=1
        )
        best_T = model.layer.gate(features_TF, snr_db_TE).scores_TE.argmax(dim=1)
    answer_T = answer_TEC[torch.arange(len(best_T)), best_T].argmax(dim=1)
    by_client = [
        f1_score(
            labels_T[asks_T == client],
            answer_T[asks_T == client],
            average="macro",
            labels=np.unique(labels_T[asks_T == client]),
        )
        for client in range(3)
    ]
    assert trained.rows[-1]["macro_f1"] == pytest.approx(np.mean(by_client))
    pooled = f1_score(labels_T, answer_T, average="macro")
    assert trained.rows[-1]["macro_f1"] != pytest.approx(pooled)


@pytest.mark.parametrize("transmission", ["ideal", "analog"])
def test_the_radio_of_a_run_says_what_its_links_do_to_features(transmission: str) -> None:
    config = NetworkedConfig.model_validate({"links": {"transmission": transmission}})
    assert radio_of(config).transmission == transmission
