"""Rules of stage 3 side by side: whom clients ask, and how their gates stay alike.

    python benchmarks/gate_rules.py [--seeds 0 1 2] [--images ring noisy]
    python benchmarks/gate_rules.py --tried [--seeds 0 1 2] [--images ring noisy]

Ten clients, digits, 25 rounds of stage 1 and 40 of stage 3. "noisy" are the same digits in a ring under pixel
noise, so strong that features tell classes badly: there a gate of one's own may collapse.

For each rule the mean over clients of macro-F1, and of the share (LR) and the weight of the own expert, on
all held-out images and on those that the client's own data are like: there each image counts as often as its
class occurs in the client's data. Mean and standard deviation over the seeds. All is top-1 over ideal links.

With ``--tried`` the rules are compared by which a client's part could be held back, kept or not.
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import f1_score
from torch import Tensor, nn

from airmoe.data import ImageSet, load_images
from airmoe.networked import ClientData, NetworkedConfig, parse_config, split_among_clients, train_stages
from airmoe.networked.gate_training import train_gate
from airmoe.networked.node import NodesHere
from airmoe.nn import GateOutput, LinearGate, MixtureOfExperts, PersonalGates, balance_loss
from airmoe.progress import silent
from airmoe.randomness import stream
from airmoe.runs.evaluation import outputs_in_batches

CLIENTS, CLASSES, ROUNDS = 10, 10, 40
NOISE = 300
"""Standard deviation of pixel noise, of 255, before it is clipped."""

WORLDS = {"ring": "ring", "noisy": "ring", "iid": "iid", "dirichlet:0.1": "dirichlet:0.1"}
"""By name the partition of the images."""

RULES = {
    "`fedgate`": {},
    "`rangate`": {"method": "rangate"},
    "`rollgate`": {"method": "rollgate"},
    "`sync = none`": {"sync": "none"},
    "`sync = ring`": {"sync": "ring"},
    "`sync = partial`": {"sync": "partial"},
    "`sync = partial:3`": {"sync": "partial:3"},
    "`sync = partial:10`": {"sync": "partial:10"},
}


@dataclass(frozen=True)
class World:
    """A trained extractor and experts, and how well these answer.

    ``best_TE`` is each expert's answer, ``share_NC`` each client's share of every class.
    """

    config: NetworkedConfig
    data: ClientData
    model: MixtureOfExperts
    features_TF: Tensor
    best_TE: NDArray[np.int64]
    share_NC: NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--tried", action="store_true")
    parser.add_argument("--images", choices=WORLDS, nargs="+")
    options = parser.parse_args()
    torch.set_num_threads(1)
    of_all, of_own = "macro-F1 | LR, % | weight, %", "own F1 | own LR, % | own weight, %"
    print(f"| images | rule | {of_all} | {of_own} |\n|---|---|" + "---:|" * 6)
    for name in options.images or (("ring", "noisy") if options.tried else WORLDS):
        found: dict[str, list[list[float]]] = {}
        for seed in options.seeds:
            world = make_world(name, seed)
            measured = tried(world, seed) if options.tried else kept(world)
            for rule, gates in measured:
                found.setdefault(rule, []).append(figures(world, gates))
        for rule, rows in found.items():
            mean, deviation = np.mean(rows, axis=0), np.std(rows, axis=0, ddof=len(rows) > 1)
            cells = [
                f"{m:.3f} ± {d:.3f}" if column % 3 == 0 else f"{100 * m:.1f} ± {100 * d:.1f}"
                for column, (m, d) in enumerate(zip(mean, deviation, strict=True))
            ]
            print(f"| {name} | {rule} | {' | '.join(cells)} |", flush=True)


def make_world(name: str, seed: int) -> World:
    images = load_images("digits")
    if name == "noisy":
        images = noisy(images, seed)
    config = parse_config(
        f'seed = {seed}\n[data]\npartition = "{WORLDS[name]}"\n[features]\nrounds = 25\n[gate]\nrounds = 1\n',
        "settings",
    )
    data = split_among_clients(config, images)
    model = train_stages(config, data).model
    features_TF = outputs_in_batches(model.extractor, data.test_images_TCHW)
    best_TE = torch.stack(
        [outputs_in_batches(each, features_TF).argmax(dim=1) for each in model.layer.experts], dim=1
    )
    share_NC = np.stack([np.bincount(each, minlength=CLASSES) / len(each) for each in data.labels_T])
    return World(config, data, model, features_TF, best_TE.numpy(), share_NC)


def noisy(images: ImageSet, seed: int) -> ImageSet:
    random = stream(seed, "pixel noise")

    def under_noise(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.clip(pixels + random.normal(0, NOISE, pixels.shape), 0, 255).astype(np.uint8)

    return replace(
        images,
        train_images=under_noise(images.train_images),
        test_images=under_noise(images.test_images),
    )


def figures(world: World, gates: list[nn.Module]) -> list[float]:
    """Macro-F1, LR and weight of the own expert, on all images and on those like a client's own."""
    labels_T, rows = world.data.test_labels_T, []
    of_class_C = np.bincount(labels_T, minlength=CLASSES)
    for client, gate in enumerate(gates):
        with torch.no_grad():
            scores_TE = gate(world.features_TF).scores_TE.numpy()
        chosen_T = scores_TE.argmax(axis=1)
        answer_T = world.best_TE[np.arange(len(labels_T)), chosen_T]
        row = []
        for share_C in (np.full(CLASSES, 1 / CLASSES), world.share_NC[client]):
            counts_T = (share_C / of_class_C)[labels_T]
            held = np.flatnonzero(share_C)
            f1 = f1_score(
                labels_T,
                answer_T,
                average="macro",
                labels=held,
                sample_weight=counts_T,
                zero_division=0.0,
            )
            row += [f1, np.average(chosen_T == client, weights=counts_T)]
            row.append(np.average(scores_TE[:, client], weights=counts_T))
        rows.append(row)
    return [float(each) for each in np.mean(rows, axis=0)]


def kept(world: World) -> Iterator[tuple[str, list[nn.Module]]]:
    """Train the gate by each of airmoe's rules, on the same extractor and experts."""
    experts = {client: expert.state_dict() for client, expert in enumerate(world.model.layer.experts)}
    for rule, settings in RULES.items():
        gate = world.config.gate.model_copy(update={"rounds": ROUNDS, **settings})
        config = world.config.model_copy(update={"gate": gate})
        nodes = NodesHere(config, world.data)
        nodes.settle(world.model.extractor.state_dict(), experts)
        trained, _ = train_gate(
            "gate", config, world.model.extractor, nodes, world.data.held_out, progress=silent
        )
        personal = isinstance(trained, PersonalGates)
        yield rule, list(trained.gates) if personal else [trained] * CLIENTS


@dataclass(frozen=True)
class Part:
    """A client's own part of its gate, and how it is held back.

    Attributes:
        made: its first weights, from the number of features.
        added: what the gate's logits become: (logits, features, part, client) to logits.
        penalty: factor of half its squared norm.
        anchor: factor of the cross-entropy from the common gate about the others' images.
        asks_at_random: an image counts as its owner's with probability 1/n only.
        apart: the common gate is trained as if there were no parts.
    """

    made: Callable[[int], list[Tensor]]
    added: Callable[[Tensor, Tensor, list[Tensor], int], Tensor]
    penalty: float = 0.0
    anchor: float = 0.0
    asks_at_random: bool = False
    apart: bool = False


def _home(logits: Tensor, h: Tensor, part: list[Tensor], client: int) -> Tensor:
    return logits + part[0] * torch.eye(CLIENTS)[client]


def _bias(features: int) -> list[Tensor]:
    return [torch.zeros(CLIENTS)]


def _plus(logits: Tensor, h: Tensor, part: list[Tensor], client: int) -> Tensor:
    return logits + part[0]


PARTS = {
    "none (FedAvg)": Part(lambda f: [], lambda logits, h, part, client: logits),
    "a bias": Part(_bias, _plus),
    "a bias, ridge .01": Part(_bias, _plus, penalty=0.01),
    "a bias, ridge .1": Part(_bias, _plus, penalty=0.1),
    "a bias for the own expert": Part(lambda f: [torch.zeros(1)], _home),
    "the same, ridge .1": Part(lambda f: [torch.zeros(1)], _home, penalty=0.1),
    "a bias apart from the common gate": Part(_bias, _plus, apart=True),
    "a bias, asked as if by a client at random": Part(_bias, _plus, asks_at_random=True),
    "a temperature": Part(lambda f: [torch.zeros(1)], lambda logits, h, part, client: logits * part[0].exp()),
    "a map of rank 1": Part(
        lambda f: [torch.zeros(CLIENTS, 1), torch.full((1, f), f**-0.5)],
        lambda logits, h, part, client: logits + (h @ part[1].T) @ part[0].T,
    ),
    "a bias, anchored 1": Part(_bias, _plus, anchor=1.0),
    "a bias, anchored 3": Part(_bias, _plus, anchor=3.0),
    "a bias, anchored 10": Part(_bias, _plus, anchor=10.0),
}


def tried(world: World, seed: int) -> Iterator[tuple[str, list[nn.Module]]]:
    """Train a linear gate with each kind of part. Every client asks all experts about all its images."""
    extractor, experts = world.model.extractor, list(world.model.layer.experts)
    features_TF = [outputs_in_batches(extractor, images) for images in world.data.images_TCHW]
    every = torch.cat(features_TF)
    mean_F, std_F = every.mean(dim=0), every.std(dim=0).clamp_min(1e-2)
    h_TF = [(each - mean_F) / std_F for each in features_TF]
    right_TE = [
        torch.stack([outputs_in_batches(e, h).gather(1, labels[:, None])[:, 0] for e in experts], dim=1)
        for h, labels in zip(features_TF, world.data.labels_T, strict=True)
    ]
    logs = [0.5 * right.mean(dim=0).clamp_min(1e-6).log() for right in right_TE]
    prior = Part(lambda f: [], lambda logits, h, part, client: logits + logs[client])
    for name, part in [*PARTS.items(), ("half the log of the experts' mean answer, not learnt", prior)]:
        common, parts = _trained(part, h_TF, right_TE, seed)
        yield name, [_Gate(common, part, each, i, mean_F, std_F) for i, each in enumerate(parts)]


class _Gate(nn.Module):
    def __init__(
        self, common: list[Tensor], part: Part, own: list[Tensor], client: int, mean_F: Tensor, std_F: Tensor
    ) -> None:
        super().__init__()
        self._linear = LinearGate(len(mean_F), CLIENTS)
        self._linear.standardise(mean_F, std_F)
        self._linear.linear.load_state_dict({"weight": common[0], "bias": common[1]})
        self._part, self._own, self._client, self._mean, self._std = part, own, client, mean_F, std_F

    def forward(self, pooled_TF: Tensor) -> GateOutput:
        output = self._linear(pooled_TF)
        h_TF = (pooled_TF - self._mean) / self._std
        logits_TE = self._part.added(output.logits_TE, h_TF, self._own, self._client)
        return output._replace(scores_TE=torch.softmax(logits_TE, dim=1), logits_TE=logits_TE)


def _trained(
    part: Part, h_TF: list[Tensor], right_TE: list[Tensor], seed: int
) -> tuple[list[Tensor], list[list[Tensor]]]:
    features = h_TF[0].shape[1]
    common = [torch.zeros(CLIENTS, features), torch.zeros(CLIENTS)]
    parts = [part.made(features) for _ in h_TF]
    images = torch.tensor([float(len(h)) for h in h_TF])
    for round_ in range(ROUNDS):
        sent = []
        for client in range(CLIENTS):
            others = torch.cat([h for i, h in enumerate(h_TF) if i != client])
            random = stream(seed, "tried", round_, client)
            weights = [each.clone().requires_grad_() for each in (*common, *parts[client])]
            for batch in torch.from_numpy(random.permutation(len(h_TF[client]))).split(32):
                loss = _loss(
                    part, weights, common, h_TF[client][batch], right_TE[client][batch], client, random
                )
                if part.anchor:
                    asked = others[torch.from_numpy(random.integers(len(others), size=len(batch)))]
                    logits = asked @ weights[0].T + weights[1]
                    own = torch.log_softmax(part.added(logits, asked, weights[2:], client), dim=1)
                    loss = loss - part.anchor * (torch.softmax(logits.detach(), dim=1) * own).sum(1).mean()
                for weight, slope in zip(weights, torch.autograd.grad(loss, weights), strict=True):
                    weight.data -= 0.2 * slope
            sent.append([each.detach() for each in weights[:2]])
            parts[client] = [each.detach() for each in weights[2:]]
        share = images / images.sum()
        common = [sum(s * each[i] for s, each in zip(share, sent, strict=True)) for i in range(2)]
    return common, parts


def _loss(
    part: Part,
    weights: list[Tensor],
    common: list[Tensor],
    h_BF: Tensor,
    right_BE: Tensor,
    client: int,
    random: np.random.Generator,
) -> Tensor:
    logits_BE = h_BF @ weights[0].T + weights[1]
    own_BE = part.added(logits_BE.detach() if part.apart else logits_BE, h_BF, weights[2:], client)
    if part.asks_at_random:
        is_own_B1 = torch.from_numpy(random.random((len(h_BF), 1)) < 1 / CLIENTS)
        own_BE = torch.where(is_own_B1, own_BE, logits_BE)
    known_BE = torch.from_numpy(random.random(right_BE.shape) >= 0.2)
    known_BE |= ~known_BE.any(dim=1, keepdim=True)
    loss = torch.zeros(())
    for each_BE in (logits_BE, own_BE) if part.apart else (own_BE,):
        prior_BE = torch.softmax(each_BE.masked_fill(~known_BE, -torch.inf), dim=1)
        loss = loss - (prior_BE * right_BE).sum(dim=1).clamp_min(1e-12).log().mean()
        loss = loss + 1e-2 * balance_loss(torch.softmax(each_BE, dim=1))
    drift = sum((a - b).square().sum() for a, b in zip(weights[:2], common, strict=True))
    return loss + 1e-2 * drift / 2 + part.penalty / 2 * sum(each.square().sum() for each in weights[2:])


if __name__ == "__main__":
    main()
