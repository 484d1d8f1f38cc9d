"""Federated training: rounds over any engine, with checkpoints, metrics, and a stop when it diverges."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor

from airmoe.errors import InvalidInputError, TrainingDivergedError, telling
from airmoe.federated.averaging import NOTHING_LEARNT
from airmoe.federated.exchange import Engine, Message, Stage, State, copied
from airmoe.federated.privacy import privacy_spent
from airmoe.federated.round import run_round
from airmoe.progress import Progress, silent
from airmoe.runs.checkpoint import Checkpoint, MetricsRow
from airmoe.runs.weights import not_finite

EVALUATE_EVERY = 5
"""How many rounds lie between two evaluations."""

_SERVER, _CLIENT = "server", "client "


def federate(
    stage: Stage,
    state: State,
    engine: Engine,
    rounds: int,
    *,
    checkpoint: Checkpoint | None = None,
    evaluate: Callable[[State], dict[str, float]] | None = None,
    closing_bytes: int = 0,
    progress: Progress = silent,
) -> tuple[dict[str, Tensor], list[MetricsRow]]:
    """Run the rounds of a stage; return the server's state and a metrics row per round.

    A row holds ``stage``, ``round`` (from 1), ``participants`` (how many clients stayed to the end of the
    round), ``loss`` (mean over the samples, where clients told theirs), ``bytes`` (see `RoundResult`),
    ``missing`` (the numbers of clients that left the round, if any did), ``rejected`` (clients whose replies
    were of no use, and why), the privacy spent, where clients told theirs (see
    `airmoe.federated.privacy.privacy_spent`), and what ``evaluate`` returned.

    Args:
        stage: what the server does.
        state: the server's, to begin with.
        engine: reaches the clients.
        rounds: how many.
        checkpoint: saved after every round; training goes on from what it already holds.
        evaluate: measures the server's state every `EVALUATE_EVERY` rounds and after the last.
        closing_bytes: of what clients are told when the stage is over; they count in the last row.
        progress: told about every round; of a single round, about every reply.

    Raises:
        InvalidInputError: exchanges that are one text, fewer rounds than the checkpoint has behind it, a loss
            without samples, or as `run_round` raises.
        TrainingDivergedError: no client's reply was of use, nobody replied in a single round, or a tensor of
            the server's state is not finite; the last checkpoint is the last good one.
        AirmoeError: as the steps raise, with stage, round, exchange and client in front.

    Examples:
        The mean of what two clients have:

        >>> import torch
        >>> from airmoe.federated import Averaging, Loop, Message, federate
        >>> class Client:
        ...     def __init__(self, value):
        ...         self.value = torch.tensor([value])
        ...
        ...     def client_step(self, exchange, state, message):
        ...         return state, Message({"mean": self.value}, {"samples": 1})
        >>> start, engine = {"mean": torch.zeros(1)}, Loop([Client(1.0), Client(3.0)])
        >>> federate(Averaging("mean", clients=2), start, engine, rounds=1)
        ({'mean': tensor([2.])}, [{'stage': 'mean', 'round': 1, 'participants': 2, 'bytes': 16}])
    """
    if isinstance(stage.exchanges, str):
        raise InvalidInputError("exchanges", stage.exchanges, 'a tuple of names, as ("train",)')
    # Copies: clients may compute in the very tensors that they were given as the initial state.
    current, rows = copied(state), list[MetricsRow]()
    if checkpoint is not None and (saved := checkpoint.load(stage.name)) is not None:
        current, rows = saved.groups.get(_SERVER, {}), saved.rows
        if len(rows) > rounds:
            done = f"at least {len(rows)}, the rounds of {stage.name} that its checkpoint has behind it"
            raise InvalidInputError("rounds", rounds, done)
        states = {group: tensors for group, tensors in saved.groups.items() if group != _SERVER}
        engine.restore({int(group.removeprefix(_CLIENT)): tensors for group, tensors in states.items()})
    for round_ in range(len(rows), rounds):
        alone = partial(progress, stage.name) if rounds == 1 else _nobody
        result = run_round(stage, current, round_, engine, alone)
        place = f"in round {round_ + 1} of {rounds}"
        told = "; ".join(f"{client}: {fault}" for client, fault in sorted(result.rejected.items()))
        if not result.replies:
            _refuse_useless(stage.name, result.rejected, told, place, only=rounds == 1)
        participants = len(result.replies)
        row: MetricsRow = {"stage": stage.name, "round": round_ + 1, "participants": participants}
        with telling(f"{stage.name}, round {round_ + 1}"):
            loss = _mean_loss(result.replies)
        if loss is not None:
            row["loss"] = loss
        row["bytes"] = result.nbytes + (closing_bytes if round_ + 1 == rounds else 0)
        current = dict(result.state)
        if name := not_finite(current):
            raise TrainingDivergedError(f"{stage.name}: {name} is not finite {place}")
        if result.missing:
            row["missing"] = ", ".join(map(str, result.missing))
        if told:
            row["rejected"] = told
        row.update(privacy_spent(result.epsilons, before=_largest_epsilon(rows)))
        note = f"rejected: {told}" if told else ""
        if evaluate is not None and ((round_ + 1) % EVALUATE_EVERY == 0 or round_ + 1 == rounds):
            measured = evaluate(current)
            row.update(measured)
            notes = [note] if note else []
            note = ", ".join(notes + [f"{_spoken(name)} {value:.3f}" for name, value in measured.items()])
        rows.append(row)
        if checkpoint is not None:
            clients = {f"{_CLIENT}{client}": state for client, state in engine.states.items()}
            checkpoint.save(stage.name, {_SERVER: current, **clients}, rows)
        if rounds > 1 or note:
            progress(stage.name, round_ + 1, rounds, note)
    return current, rows


def _refuse_useless(stage: str, rejected: Mapping[int, str], told: str, place: str, *, only: bool) -> None:
    """Refuse a round without a reply of use, unless later ones can make up for it."""
    if set(rejected.values()) - {NOTHING_LEARNT}:
        raise TrainingDivergedError(f"{stage}: no reply was of use {place}; {told}")
    if only:
        raise TrainingDivergedError(f"{stage}: nobody replied {place}, and no other follows")


def _nobody(done: int, invited: int) -> None:
    """Hear of replies in silence."""


def _largest_epsilon(rows: Sequence[MetricsRow]) -> float:
    return max((float(row["epsilon"]) for row in rows if "epsilon" in row), default=0.0)


def _mean_loss(replies: Mapping[int, Message]) -> float | None:
    for client, reply in replies.items():
        if "loss" in reply.numbers and "samples" not in reply.numbers:
            expected = "samples beside the loss: its weight in the mean"
            raise InvalidInputError(f"numbers of client {client}", dict(reply.numbers), expected)
    told = [reply.numbers for reply in replies.values() if "loss" in reply.numbers]
    if not any(each["samples"] for each in told):
        return None
    return sum(each["loss"] * each["samples"] for each in told) / sum(each["samples"] for each in told)


def _spoken(metric: str) -> str:
    return metric.replace("_", "-").replace("f1", "F1")
