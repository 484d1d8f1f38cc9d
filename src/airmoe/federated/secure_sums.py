"""The server's side of secure sums: it learns what clients' tensors add up to, and no client's own.

An exchange that is a sum (`airmoe.federated.SumStage`) is carried in two:

* Clients take their steps, and keep what they would reply. They tell its form and their numbers in the open,
  and, masked, which bounds its values exceed. The server learns the smallest bound that holds for all.
* All clients turn their values into integers by that bound (`airmoe.federated.fixed_point`), mask them
  (`airmoe.federated.masks`), and send them: 8 bytes a value. The server adds them modulo 2^64.

Before the first sum of a stage each client makes a key pair; the server passes public keys on. A client that
does not reply is left out, and what was asked last is asked again of the others, under new masks: their
steps are not repeated. Fewer than three have no secure sum.

The server is trusted to follow this: nobody else checks the keys that it passes on, and one that keeps the
reply of a client that came too late can subtract the sum without it from the sum with it.

Shape suffixes: N names of tensors, K bounds, V values of all tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from airmoe.errors import InvalidInputError, telling
from airmoe.federated.exchange import (
    Engine,
    Exchange,
    Message,
    Relaying,
    Stage,
    State,
    Summed,
    SumStage,
    nbytes,
)
from airmoe.federated.fixed_point import BOUNDS, decode
from airmoe.federated.forms import fault_of_form, forms_of
from airmoe.federated.masking_client import AGAIN, FAULT, FORM, KEYS, PREFIX, SUM
from airmoe.federated.masks import LEAST_CLIENTS, fault_of_key, refuse_few_clients

Fault = Callable[[int, Message], str]
"""Tells why a client's reply is of no use; empty if it is of use."""


class SecureSums:
    """An engine over another one, whose clients are `MaskingClient`s of the same stage.

    Args:
        engine: brings messages to the clients.
        stage: has exchanges that are sums. The others are carried as they are.

    Raises:
        InvalidInputError: the stage has none, so that all replies would stay in the open.

    Examples:
        The mean of what three clients have, of which the server sees no part:

        >>> import torch
        >>> from airmoe.federated import Averaging, Loop, Message, federate
        >>> from airmoe.federated.masking_client import MaskingClient
        >>> from airmoe.federated.secure_sums import SecureSums
        >>> class Client:
        ...     def __init__(self, value):
        ...         self.value = torch.tensor([value])
        ...
        ...     def client_step(self, exchange, state, message):
        ...         return state, Message({"mean": self.value}, {"samples": 1})
        >>> stage = Averaging("mean", clients=3)
        >>> clients = [
        ...     MaskingClient(Client(value), number, "mean", stage.sums, by_samples=stage.by_samples)
        ...     for number, value in enumerate((1.0, 3.0, 8.0))
        ... ]
        >>> start, engine = {"mean": torch.zeros(1)}, SecureSums(Loop(clients), stage)
        >>> state, rows = federate(stage, start, engine, rounds=1)
        >>> state
        {'mean': tensor([4.])}
    """

    def __init__(self, engine: Engine, stage: Stage) -> None:
        if not isinstance(stage, SumStage) or not stage.sums:
            expected = "one with an exchange that is a sum, as the mean of weights is"
            raise InvalidInputError("stage of secure sums", stage.name, expected)
        self._engine, self._keys, self._masks = engine, dict[int, bytes](), count()

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterable[tuple[int, Message]]:
        """Carry an exchange that is no sum, as the engine does."""
        return self._engine.carry(exchange, messages)

    @property
    def relays(self) -> bool:
        """Whether letters between clients pass the server, as the engine tells."""
        return isinstance(self._engine, Relaying) and self._engine.relays

    @property
    def states(self) -> Mapping[int, State]:
        """The clients' states, as the engine tells them."""
        return self._engine.states

    def restore(self, states: Mapping[int, State]) -> None:
        """Take back what `states` gave."""
        self._engine.restore(states)

    def carry_sum(self, exchange: Exchange, messages: Mapping[int, Message], fault: Fault) -> Summed:
        """Carry an exchange that is a sum; see `airmoe.federated.SumEngine`.

        Where fewer than three clients are left, their replies are rejected and nothing is added up.

        Raises:
            InvalidInputError: fewer than three clients are invited.
            AirmoeError: as the clients' steps raise.
        """
        with telling(str(exchange)):
            refuse_few_clients(len(messages))
        one = _OneSum(self._engine, exchange, fault, self._keys, self._masks)
        clients = one.with_keys(sorted(messages))
        clients, exceeded_V = one.add_up("", clients, messages, {}, one.fault_of_form)
        bounds = _smallest_bounds(exceeded_V, len(one.forms))
        told = {f"{PREFIX}bounds": torch.tensor(bounds)}
        clients, total_V = one.add_up(SUM, clients, {}, told, one.fault_of_length)
        total = one.split(total_V, bounds, len(clients)) if clients else {}
        replies = {client: one.replies[client] for client in clients}
        return Summed(total, replies, one.rejected, one.nbytes)


class _OneSum:
    """One exchange that is a sum, on its way.

    Args:
        engine: carries it.
        exchange: which one.
        fault: judges the replies' forms.
        keys: public keys of the clients, so far as they are known; changed in place.
        masks: numbers of masks that were not used yet.
    """

    def __init__(
        self, engine: Engine, exchange: Exchange, fault: Fault, keys: dict[int, bytes], masks: Iterator[int]
    ) -> None:
        self._engine, self._exchange, self._fault = engine, exchange, fault
        self._keys, self._masks = keys, masks
        self.forms = dict[str, Tensor]()
        self.replies, self.rejected, self.nbytes = dict[int, Message](), dict[int, str](), 0

    def with_keys(self, clients: Sequence[int]) -> list[int]:
        """Return the clients that have a public key; ask those for one that are new."""
        new = {client: Message() for client in clients if client not in self._keys}
        for client, reply in self._carry(KEYS, new):
            key = reply.tensors.get(f"{PREFIX}key", torch.zeros(0)).numpy().tobytes()
            if fault := fault_of_key(key, self._keys.values()):
                self.rejected[client] = fault
            else:
                self._keys[client] = key
        return [client for client in clients if client in self._keys]

    def add_up(
        self,
        suffix: str,
        clients: list[int],
        messages: Mapping[int, Message],
        told: State,
        fault: Fault,
    ) -> tuple[list[int], NDArray[np.uint64]]:
        """Return who is in a sum, and the sum of what they masked; none where too few are left.

        Args:
            suffix: of the exchange's name.
            clients: who is asked; without those that do not reply, the rest is asked again.
            messages: what clients are told when they are asked first.
            told: what they are told whenever they are asked.
            fault: judges what comes back.
        """
        while len(clients) >= LEAST_CLIENTS:
            total_V, left = np.zeros(0, np.uint64), list[int]()
            shared = {**self._masks_among(clients), **told}
            number = {f"{PREFIX}mask": next(self._masks)}
            sent = {
                client: replace(
                    message, tensors={**message.tensors, **shared}, numbers={**message.numbers, **number}
                )
                for client in clients
                for message in (messages.get(client, Message()),)
            }
            for client, reply in self._carry(self._exchange.name + suffix, sent):
                if not reply.tensors:
                    del self._keys[client]  # it was started anew; it is asked for a key in the next sum
                elif found := fault(client, reply):
                    self.rejected[client] = found
                else:
                    masked_V = reply.tensors[f"{PREFIX}masked"].numpy().view(np.uint64)
                    total_V = total_V if left else np.zeros_like(masked_V)
                    total_V += masked_V
                    left.append(client)
            if len(left) == len(clients):
                return clients, total_V
            clients, messages, suffix = sorted(left), {}, suffix or AGAIN
        few = f"fewer than {LEAST_CLIENTS} clients are left to add up"
        self.rejected |= dict.fromkeys(clients, few)
        return [], np.zeros(0, np.uint64)

    def fault_of_form(self, client: int, reply: Message) -> str:
        """Judge a reply in the first exchange, or when bounds are asked for again."""
        for name in reply.tensors:
            if name.startswith(FAULT):
                return f"{name.removeprefix(FAULT)} is not finite"
        if client not in self.replies:
            empty = {
                key.removeprefix(FORM): form for key, form in reply.tensors.items() if key.startswith(FORM)
            }
            forms = {key: form.new_empty(form.shape[1:], device="meta") for key, form in empty.items()}
            known = forms_of(self.forms if self.replies else forms)
            if found := self._fault(client, replace(reply, tensors=forms)) or fault_of_form(forms, known):
                return found
            self.forms = forms
            self.replies[client] = replace(reply, tensors={})
        return _fault_of_length(reply, len(self.forms) * len(BOUNDS))

    def fault_of_length(self, client: int, reply: Message) -> str:
        """Judge a reply of masked values."""
        return _fault_of_length(reply, sum(form.numel() for form in self.forms.values()))

    def split(self, total_V: NDArray[np.uint64], bounds: Sequence[int], clients: int) -> dict[str, Tensor]:
        """Return the sums that the total stands for, by name, float64."""
        sums, start = {}, 0
        for (name, form), bound in zip(sorted(self.forms.items()), bounds, strict=True):
            part_V = total_V[start : start + form.numel()]
            sums[name] = torch.from_numpy(decode(part_V, bound, clients)).reshape(form.shape)
            start += form.numel()
        return sums

    def _masks_among(self, clients: Sequence[int]) -> dict[str, Tensor]:
        keys = b"".join(self._keys[client] for client in clients)
        return {
            f"{PREFIX}clients": torch.tensor(clients),
            f"{PREFIX}keys": torch.frombuffer(bytearray(keys), dtype=torch.uint8),
        }

    def _carry(self, name: str, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        """Carry one of the exchanges that the sum takes, and count its bytes."""
        numbers = {"round": self._exchange.round_}
        messages = {client: replace(m, numbers={**m.numbers, **numbers}) for client, m in messages.items()}
        self.nbytes += sum(nbytes(message.tensors) for message in messages.values())
        if isinstance(self._engine, Relaying) and self._engine.relays:
            self.nbytes += sum(nbytes(letter) for m in messages.values() for letter in m.letters.values())
        for client, reply in self._engine.carry(replace(self._exchange, name=name), messages):
            self.nbytes += nbytes(reply.tensors) + sum(map(nbytes, reply.letters.values()))
            yield client, reply


def _smallest_bounds(exceeded_V: NDArray[np.uint64], names: int) -> list[int]:
    """Return, for every name, the smallest bound that no client exceeds."""
    exceeded_NK = exceeded_V.reshape(-1, len(BOUNDS))[:names]
    largest = len(BOUNDS) - 1
    return [BOUNDS[min(int(np.count_nonzero(told_K)), largest)] for told_K in exceeded_NK]


def _fault_of_length(reply: Message, values: int) -> str:
    """Return what is wrong with the form of masked values; empty if nothing is."""
    found = forms_of(reply.tensors).get(f"{PREFIX}masked", "left out")
    expected = (torch.int64, (values,))
    return "" if found == expected else f"what is masked is {found}; expected {expected}"
