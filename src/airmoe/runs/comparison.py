"""Policies side by side on the held-out images of a finished run, over the same links and seeds.

Shape suffixes: T images, Q queries (one image each), E experts, F features.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from airmoe.checks import integer_at_least, refuse_type
from airmoe.data import ImageSet, as_pixels
from airmoe.dispatch.reach import warn_of_reach
from airmoe.errors import AirmoeError, InvalidInputError
from airmoe.nn import GateOutput, MoeLayer
from airmoe.progress import Progress, silent
from airmoe.runs.asking import Asked
from airmoe.runs.evaluated_links import IDEAL, OWN, EvaluatedLinks, Network, links_of
from airmoe.runs.evaluation import mean_macro_f1, outputs_in_batches
from airmoe.runs.load import Run
from airmoe.scheduling import make_policy

BASELINES = ("local", "topk:1", "all")
"""Policies that stand in every table: the own expert alone, the best score, all experts by their scores."""

BEST_LINK = "best-link:1"
"""In place of the own expert where a server asks, which holds none; perfect links have no best one."""

ENSEMBLE = "ensemble"
"""The mean of all experts' answers, whatever the gate says; it stands in every table, too."""

MOST_SEEDS = 1000
BYTES_PER_VALUE = 4


@dataclass(frozen=True)
class Measured:
    """A policy on all held-out images, over links of one seed. Figures per query are means over queries.

    Attributes:
        links: what the links are called.
        transmission: "ideal", or how values are sent over noisy links; empty over perfect links.
        policy: name of the policy, or "ensemble".
        seed: of links, noise, random policies, and who asks about which image where not all ask about all.
        accuracy: share of right answers.
        macro_f1: mean over the clients that ask of the mean F1 score over classes.
        energy_j: J that the radio spends on a query; None where there is no radio.
        airtime_s: seconds on the air; None where there is no radio.
        bytes: of payloads out and answers back, without frames; None over noisy links, which send no bytes.
        experts: experts asked per query, the asker's own as a last resort included.
        degraded: share of queries in which a wanted expert did not answer.
        local_share: the asker's own expert's share of the (image, expert) pairs asked for.
        chose_none: share of queries for which the policy chose no expert; the asker's own answered.
    """

    links: str
    transmission: str
    policy: str
    seed: int
    accuracy: float
    macro_f1: float
    energy_j: float | None
    airtime_s: float | None
    bytes: float | None
    experts: float
    degraded: float
    local_share: float
    chose_none: float


@dataclass(frozen=True)
class Impossible:
    """A policy that there cannot be over these links or on this run, and why."""

    links: str
    policy: str
    reason: str


@dataclass(frozen=True, repr=False)
class Comparison:
    """What `compare` found: a row per links, policy and seed, and what there cannot be."""

    rows: tuple[Measured, ...]
    impossible: tuple[Impossible, ...]

    def __repr__(self) -> str:
        """Return what was compared in one line."""
        links, policies, seeds = (
            len({getattr(row, name) for row in self.rows}) for name in ("links", "policy", "seed")
        )
        return (
            f"Comparison({len(self.rows)} rows: {policies} policies, {links} links, {seeds} seeds; "
            f"{len(self.impossible)} impossible)"
        )


def compare(
    run: Run,
    images: ImageSet,
    policies: str | Sequence[str] = (),
    *,
    links: str | Sequence[str] = (OWN,),
    transmission: str | None = None,
    seeds: int = 3,
    first_seed: int | None = None,
    progress: Progress = silent,
) -> Comparison:
    """Evaluate policies, and the simplest ones beside them, on the held-out images of a run.

    Images are read once. In a networked run every client asks about every image; where that would be more
    than `MOST_QUERIES`, about an equal share of them that each seed draws. `SLOT_IMAGES` images in a row meet
    the same links, and a joint policy decides together on as many queries, one about each of these images. In
    a run with a server, each image meets links of its own. Each seed draws links anew; all policies meet the
    same ones.

    Args:
        run: the run.
        images: their held-out part is asked about.
        policies: a form of `airmoe.scheduling.make_policy`, or several; `BASELINES` and `ENSEMBLE` come by
            themselves, in a run with a server `BEST_LINK` instead of the first.
        links: as `links_of`; one or several.
        transmission: as `links_of`.
        seeds: how many, from 1 to 1000.
        first_seed: the first; default that of the run.
        progress: told after every policy and seed.

    Raises:
        InvalidInputError: a value is wrong; a policy needs other links than the only ones; or images of
            another kind than the run's.
        NoExpertReachedError: a policy leaves an image without an answer over the only links.

    Examples:
        >>> from airmoe.runs import compare, load_run  # doctest: +SKIP
        >>> run = load_run("runs/train")  # doctest: +SKIP
        >>> compare(run, run.load_images(), ["des:0.3:2"], links=["rayleigh:10"])  # doctest: +SKIP
    """
    if integer_at_least("seeds", seeds, 1) > MOST_SEEDS:
        raise InvalidInputError("seeds", seeds, f"at most {MOST_SEEDS}")
    refuse_type("run", run, Run)
    first = integer_at_least("first_seed", run.seed if first_seed is None else first_seed, 0)
    over = [links_of(run, text, transmission) for text in dict.fromkeys(_texts(links))]
    wanted = [make_policy(text).name for text in _texts(policies)]
    _refuse_other_images(run, images)
    payload_T = outputs_in_batches(run.model.extractor, torch.from_numpy(as_pixels(images.test_images)))
    rows, impossible = list[Measured](), list[Impossible]()
    names_over = [list(dict.fromkeys([*_baselines(run, each), *wanted, ENSEMBLE])) for each in over]
    total, done = seeds * sum(map(len, names_over)), 0
    for condition, names in zip(over, names_over, strict=True):
        if condition.kind == "by slot":
            radio = run.manifest.radio
            warn_of_reach(run.manifest.nodes, radio.subcarriers, condition.transmission)
        for seed in range(first, first + seeds):
            network = Network(run, condition, payload_T, seed)
            if not done:  # nothing is told yet: the time left is not forecast from a compilation
                for name in wanted:
                    network.try_out(run.model.layer, make_policy(name, seed))
            for name in names:
                try:
                    asked = _ask(network, run.model.layer, name, seed)
                except AirmoeError as error:
                    if name in wanted and len(over) == 1:
                        raise
                    impossible.append(Impossible(condition.name, name, str(error)))
                else:
                    rows.append(_measured(run, images, condition, network, name, seed, asked, payload_T))
                done += 1
                progress("evaluate", done, total, name)
    return Comparison(tuple(rows), tuple(dict.fromkeys(impossible)))


def _baselines(run: Run, links: EvaluatedLinks) -> list[str]:
    _own, *by_score = BASELINES
    if not run.has_server:
        return [*BASELINES]
    return by_score if links.kind == "perfect" else [BEST_LINK, *by_score]


def _texts(given: str | Sequence[str]) -> Sequence[str]:
    return [given] if isinstance(given, str) else given


class _EqualGate(nn.Module):
    """Scores that are the same for all experts, shape (T, E)."""

    sees_snr = False

    def __init__(self, experts: int) -> None:
        super().__init__()
        self._experts = experts

    def forward(self, pooled_TF: Tensor, snr_db_TE: Tensor | None = None) -> GateOutput:
        logits_TE = pooled_TF.new_zeros(len(pooled_TF), self._experts)
        return GateOutput(torch.softmax(logits_TE, dim=-1), logits_TE)


def _ask(network: Network, layer: MoeLayer, name: str, seed: int) -> Asked:
    if name != ENSEMBLE:
        return network.ask(layer, make_policy(name, seed))
    experts = list(layer.experts)
    equal = MoeLayer(
        _EqualGate(len(experts)),
        experts,
        pooling=layer.pooling,
        placement=layer.placement,
        source=layer.source,
    )
    return network.ask(equal.eval(), make_policy("all"))


def _measured(
    run: Run,
    images: ImageSet,
    condition: EvaluatedLinks,
    network: Network,
    name: str,
    seed: int,
    asked: Asked,
    payload_T: Tensor,
) -> Measured:
    on_air = condition.kind != "perfect"
    placed = run.model.layer.placement.node_ER
    home_QE = (network.source_Q[:, np.newaxis, np.newaxis] == placed).any(axis=2)
    values = payload_T[0].numel() + len(run.class_names)
    remote_Q = (asked.requested_TE & ~home_QE).sum(axis=1)
    labels_Q = images.test_labels[network.image_Q]
    noisy = on_air and condition.transmission != IDEAL
    return Measured(
        links=condition.name,
        transmission=condition.transmission,
        policy=name,
        seed=seed,
        accuracy=float((asked.answer_T == labels_Q).mean()),
        macro_f1=mean_macro_f1(labels_Q, asked.answer_T, network.source_Q, len(run.class_names)),
        energy_j=float(asked.energy_j_T.mean()) if on_air else None,
        airtime_s=float(asked.airtime_s_T.mean()) if on_air else None,
        bytes=None if noisy else float(remote_Q.mean() * values * BYTES_PER_VALUE),
        experts=float(asked.requested_TE.sum(axis=1).mean()),
        degraded=float(asked.degraded_T.mean()),
        local_share=float((asked.requested_TE & home_QE).sum() / max(asked.requested_TE.sum(), 1)),
        chose_none=float(asked.chose_none_T.mean()),
    )


def _refuse_other_images(run: Run, images: ImageSet) -> None:
    refuse_type("images", images, ImageSet)
    assert run.manifest.asks is not None
    wanted = run.manifest.asks.input
    shape = wanted.channels, wanted.height, wanted.width
    if images.test_images.shape[1:] != shape or not len(images.test_images):
        given = images.test_images.shape
        raise InvalidInputError("shape of test_images", given, f"(T, {', '.join(map(str, shape))}), T >= 1")
    if images.class_names != run.class_names:
        raise InvalidInputError("class_names", images.class_names, f"those of the run: {run.class_names}")


def by_policy(rows: Sequence[Measured]) -> Iterator[list[Measured]]:
    """Yield the rows of all seeds for each links and policy, in order."""
    grouped = dict[tuple[str, str], list[Measured]]()
    for row in rows:
        grouped.setdefault((row.links, row.policy), []).append(row)
    yield from grouped.values()
