"""Sums whose parts the server never sees: as exact as plain ones, whoever drops out, and masked."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from torch import Tensor

from airmoe.errors import InvalidInputError, TrainingDivergedError
from airmoe.federated import Averaging, Client, Exchange, Loop, Message, Stage, State, Summing, federate
from airmoe.federated.fixed_point import BOUNDS
from airmoe.federated.masking_client import KEYS, PREFIX, MaskingClient
from airmoe.federated.masks import KEY_BYTES
from airmoe.federated.secure_sums import SecureSums
from airmoe.runs.checkpoint import Checkpoint

from .test_masks import LIKELY, chi_squared_of_bytes
from .walkers import walkers

Change = Callable[[str, int, Message], Message | None]
"""What becomes of a message or reply on its way, by exchange and client; None if it is lost."""


def as_it_is(exchange: str, client: int, message: Message) -> Message | None:
    return message


def crossed(message: Message) -> Message:
    """A message as another process gets it."""
    tensors = safetensors.torch.save(dict(message.tensors))
    letters = {peer: safetensors.torch.save(dict(letter)) for peer, letter in message.letters.items()}
    return Message(
        safetensors.torch.load(tensors),
        json.loads(json.dumps(message.numbers)),
        {peer: safetensors.torch.load(letter) for peer, letter in letters.items()},
    )


class Way(Loop):
    """A loop that keeps all replies that pass, and on whose way messages and replies are lost or changed.

    Nothing but bytes passes.
    """

    def __init__(self, clients: Sequence[Client], out: Change = as_it_is, back: Change = as_it_is) -> None:
        super().__init__(clients)
        self.out, self.back, self.passed = out, back, list[tuple[str, int, Message]]()

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        changed = {client: self.out(exchange.name, client, message) for client, message in messages.items()}
        sent = {client: crossed(message) for client, message in changed.items() if message is not None}
        for client, reply in super().carry(exchange, sent):
            self.passed.append((exchange.name, client, reply))
            if (arrived := self.back(exchange.name, client, reply)) is not None:
                yield client, crossed(arrived)


class Holder:
    """Replies with tensors of its own, and counts its steps."""

    def __init__(self, tensors: State, samples: float = 1) -> None:
        self.tensors, self.samples, self.steps = tensors, samples, 0

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        self.steps += 1
        assert not any(name.startswith(PREFIX) for name in [*message.tensors, *message.numbers])
        return {"steps": torch.tensor(self.steps)}, Message(self.tensors, {"samples": self.samples})


def masking(clients: Sequence[Client], stage: Averaging | Summing) -> list[MaskingClient]:
    each = enumerate(clients)
    return [MaskingClient(c, i, stage.name, stage.sums, by_samples=stage.by_samples) for i, c in each]


def holders(count: int = 4, seed: int = 0) -> list[Holder]:
    random = torch.Generator().manual_seed(seed)
    return [
        Holder(
            {"w": torch.randn(40, 50, generator=random), "b": torch.randn(7, generator=random).double()},
            i + 1,
        )
        for i in range(count)
    ]


def way_of(
    stage: Averaging | Summing, clients: Sequence[Client], out: Change = as_it_is, back: Change = as_it_is
) -> Way:
    return Way(masking(clients, stage), out, back)


def plain_sum(clients: Sequence[Holder]) -> dict[str, Tensor]:
    return {name: sum(c.tensors[name].double() for c in clients) for name in clients[0].tensors}  # type: ignore[misc]


def assert_close(told: State, expected: State) -> None:
    assert told.keys() == expected.keys()
    for name in told:
        torch.testing.assert_close(told[name], expected[name].double(), rtol=1e-15, atol=2e-15)


SUMMING = Summing("sums", 4)


def test_the_sum_is_the_plain_one() -> None:
    clients = holders()
    sums, (row,) = federate(SUMMING, {}, SecureSums(way_of(SUMMING, clients), SUMMING), 1)
    assert_close(sums, plain_sum(clients))
    assert row.keys() == {"stage", "round", "participants", "bytes"}


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(3, 12),
    shapes=st.lists(array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), max_size=3),
    exponents=st.lists(st.integers(-90, 100), min_size=3, max_size=3),
    seed=st.integers(0, 99),
)
def test_any_shapes_and_sizes_of_any_number_of_clients_add_up(
    count: int, shapes: list[tuple[int, ...]], exponents: list[int], seed: int
) -> None:
    random = np.random.default_rng(seed)
    clients = [
        Holder(
            {
                f"t{i}": torch.from_numpy(np.asarray(random.normal(size=shape) * 2.0**exponent))
                for i, (shape, exponent) in enumerate(zip(shapes, exponents, strict=False))
            }
        )
        for _ in range(count)
    ]
    stage = Summing("sums", count)
    sums, _ = federate(stage, {}, SecureSums(way_of(stage, clients), stage), 1)
    assert len(sums) == len(shapes)
    for name, tensor in sums.items():
        largest = max(
            (float(client.tensors[name].abs().max()) for client in clients if tensor.numel()), default=0
        )
        expected = sum(client.tensors[name] for client in clients)
        # A bound is at most 2^8 above the largest value, or 2^-64; a step is 2^-58 of it at most.
        assert float((tensor - expected).abs().max() if tensor.numel() else 0) <= 13 * max(
            2**-48 * largest, 2.0**-123
        )


def test_the_mean_of_weights_is_the_plain_one_and_keeps_their_types() -> None:
    stage, state = (
        Averaging("mean", 4),
        {"w": torch.zeros(40, 50), "b": torch.zeros(7).double(), "n": torch.tensor(0)},
    )
    clients = holders()
    for i, client in enumerate(clients):
        client.tensors = {**client.tensors, "n": torch.tensor(i)}
    secure, rows = federate(stage, state, SecureSums(way_of(stage, clients), stage), 2)
    plain, _ = federate(stage, state, Loop(clients), 2)
    for name in plain:
        assert secure[name].dtype == plain[name].dtype
        torch.testing.assert_close(secure[name], plain[name], rtol=1e-7, atol=0)
    assert rows[0]["round"] == 1


def test_what_leaves_a_client_is_masked_of_another_size_or_empty() -> None:
    values = torch.linspace(-1, 1, 20_000).reshape(100, 200)
    clients = [Holder({"w": values * i}) for i in range(4)]
    way = way_of(SUMMING, clients)
    federate(SUMMING, {}, SecureSums(way, SUMMING), 1)
    assert {name for name, _, _ in way.passed} == {KEYS, "sum", "sum: sum"}
    seen = 0
    for exchange, _, reply in way.passed:
        for name, tensor in reply.tensors.items():
            if name == f"{PREFIX}masked" and exchange == "sum: sum":
                assert LIKELY[0] < chi_squared_of_bytes(tensor.numpy()) < LIKELY[1]
                seen += 1
            else:
                assert tensor.numel() in (0, KEY_BYTES, len(BOUNDS))
    assert seen == 4
    # The same figure tells values that are not masked.
    assert chi_squared_of_bytes(values.numpy()) > LIKELY[1]


def test_of_sizes_the_server_learns_the_smallest_bound_that_holds_for_all() -> None:
    clients = [
        Holder({"large": torch.tensor([size]), "none": torch.zeros(2)}) for size in (0.1, 3.0, 300.0, 0.0)
    ]
    told = list[list[int]]()

    def out(exchange: str, client: int, message: Message) -> Message:
        if exchange == "sum: sum":
            told.append(message.tensors[f"{PREFIX}bounds"].tolist())
        return message

    federate(SUMMING, {}, SecureSums(way_of(SUMMING, clients, out), SUMMING), 1)
    assert told == [[16, -64]] * 4


def test_every_byte_is_counted() -> None:
    stage, state, clients = Averaging("mean", 4), {"w": torch.zeros(3, 5), "b": torch.zeros(7)}, 4
    engine = SecureSums(way_of(stage, [Holder(state) for _ in range(clients)]), stage)
    _, rows = federate(stage, state, engine, 2)
    values, names = 15 + 7, 2
    weights, own_key, bound_told = values * 4, KEY_BYTES, names * 8
    keys = clients * (KEY_BYTES + 8)
    bounds = names * len(BOUNDS) * 8
    later = clients * ((weights + keys) + bounds + (keys + bound_told) + values * 8)
    assert [row["bytes"] for row in rows] == [clients * own_key + later, later]


@pytest.mark.parametrize("exchange", [KEYS, "sum", "sum: sum"])
@pytest.mark.parametrize("way", ["out", "back"])
def test_where_a_client_drops_out_the_others_are_added_up(exchange: str, way: str) -> None:
    def lost(name: str, client: int, message: Message) -> Message | None:
        return None if (name, client) == (exchange, 1) else message

    clients = holders()
    engine = way_of(SUMMING, clients, **{way: lost})
    sums, (row,) = federate(SUMMING, {}, SecureSums(engine, SUMMING), 1)
    assert_close(sums, plain_sum([clients[i] for i in (0, 2, 3)]))
    assert row["missing"] == "1"
    assert [clients[i].steps for i in (0, 2, 3)] == [1, 1, 1]  # no step is repeated


def test_what_is_sent_again_has_masks_of_its_own() -> None:
    def lost(name: str, client: int, reply: Message) -> Message | None:
        return None if (name, client) == ("sum: sum", 1) and len(passed()) < 4 else reply

    def passed() -> list[Tensor]:
        return [r.tensors[f"{PREFIX}masked"] for e, c, r in way.passed if (e, c) == ("sum: sum", 0)]

    # All values are 0: what is sent is the mask alone.
    way = way_of(SUMMING, [Holder({"w": torch.zeros(500)}) for _ in range(4)], back=lost)
    federate(SUMMING, {}, SecureSums(way, SUMMING), 1)
    first, second = passed()
    assert not set(first.tolist()) & set(second.tolist())


def test_no_two_rounds_and_no_two_exchanges_share_a_mask() -> None:
    # All values are 0, and exceed no bound: what is sent is the mask alone.
    stage, state = Averaging("mean", 4, ("train",)), {"w": torch.zeros(len(BOUNDS))}
    way = way_of(stage, [Holder(state) for _ in range(4)])
    federate(stage, state, SecureSums(way, stage), 3)
    sent = [reply.tensors.get(f"{PREFIX}masked") for _, client, reply in way.passed if client == 0]
    values = [value for masked in sent if masked is not None for value in masked.tolist()]
    assert len(set(values)) == len(values) == 3 * 2 * len(BOUNDS)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_never_masked_and_its_client_left_out(value: float) -> None:
    clients = holders()
    clients[2].tensors = {**clients[2].tensors, "b": torch.tensor([value] * 7).double()}
    way = way_of(SUMMING, clients)
    sums, (row,) = federate(SUMMING, {}, SecureSums(way, SUMMING), 1)
    assert_close(sums, plain_sum([clients[i] for i in (0, 1, 3)]))
    assert row["rejected"] == "2: b is not finite"
    assert not [
        exchange
        for exchange, client, reply in way.passed
        if client == 2 and f"{PREFIX}masked" in reply.tensors
    ]


def test_tensors_of_another_form_and_no_samples_are_left_out_by_their_form_alone() -> None:
    stage, state, clients = (
        Averaging("mean", 5),
        {"w": torch.zeros(3)},
        [Holder({"w": torch.ones(3)}) for _ in range(5)],
    )
    clients[0].tensors = {"w": torch.ones(4)}
    clients[4].samples = 0
    mean, (row,) = federate(stage, state, SecureSums(way_of(stage, clients), stage), 1)
    assert mean["w"].tolist() == [1.0] * 3
    form = "w is (torch.float32, (4,)); expected (torch.float32, (3,))"
    assert row["rejected"] == f"0: {form}; 4: samples is 0; expected a number above 0"


def test_masked_values_of_another_length_are_left_out() -> None:
    def shortened(name: str, client: int, reply: Message) -> Message:
        if (name, client) != ("sum: sum", 3):
            return reply
        return Message({f"{PREFIX}masked": reply.tensors[f"{PREFIX}masked"][:-1]})

    clients = holders()
    sums, (row,) = federate(SUMMING, {}, SecureSums(way_of(SUMMING, clients, back=shortened), SUMMING), 1)
    assert_close(sums, plain_sum(clients[:3]))
    assert str(row["rejected"]).startswith(
        "3: what is masked is (torch.int64, (2006,)); expected (torch.int64, (2007,))"
    )


def test_fewer_than_three_clients_are_refused_with_the_reason() -> None:
    stage = Summing("sums", 2)
    said = "^sums, round 1, exchange sum: clients of a secure sum is 2; expected at least 3: of two, each"
    with pytest.raises(InvalidInputError, match=said):
        federate(stage, {}, SecureSums(way_of(stage, holders(2)), stage), 1)


def test_where_fewer_than_three_are_left_nothing_is_added_up() -> None:
    def lost(name: str, client: int, reply: Message) -> Message | None:
        return None if name == "sum: sum" and client > 1 else reply

    way = way_of(SUMMING, holders(), back=lost)
    with pytest.raises(TrainingDivergedError, match="0: fewer than 3 clients are left to add up; 1: fewer"):
        federate(SUMMING, {}, SecureSums(way, SUMMING), 1)
    assert [exchange for exchange, _, _ in way.passed].count("sum: sum") == 4  # it was not asked again


def test_a_bound_that_is_too_small_is_refused_by_the_client_with_its_tensor() -> None:
    def out(exchange: str, client: int, message: Message) -> Message:
        if exchange != "sum: sum":
            return message
        return replace(message, tensors={**message.tensors, f"{PREFIX}bounds": torch.tensor([8, 0])})

    clients = [Holder({"b": torch.tensor([200.0]), "w": torch.tensor([-2.5])}) for _ in range(4)]
    said = r"^sums, round 1, exchange sum: sum, client 0: largest value of w is 2.5; expected at most 2\^0"
    with pytest.raises(InvalidInputError, match=said):
        federate(SUMMING, {}, SecureSums(way_of(SUMMING, clients, out), SUMMING), 1)


def test_what_no_bound_holds_is_refused_by_the_client_with_its_tensor() -> None:
    clients = [Holder({"w": torch.tensor([1e60], dtype=torch.float64)}) for _ in range(4)]
    with pytest.raises(
        InvalidInputError, match=r"client 0: largest value of w is 1e\+60; expected at most 2\^192"
    ):
        federate(SUMMING, {}, SecureSums(way_of(SUMMING, clients), SUMMING), 1)


def test_complex_numbers_are_refused() -> None:
    clients = [Holder({"w": torch.ones(1, dtype=torch.complex64)}) for _ in range(4)]
    with pytest.raises(InvalidInputError, match=r"type of w is torch.complex64; expected real"):
        federate(SUMMING, {}, SecureSums(way_of(SUMMING, clients), SUMMING), 1)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (bytes(KEY_BYTES), r"the public key is b'\\x00.*'; expected 32 bytes that are a public key"),
        (b"short", r"the public key is b'short'; expected 32 bytes"),
        (None, "the public key is another client's"),
    ],
    ids=["zero", "short", "another's"],
)
def test_a_client_with_a_wrong_public_key_is_left_out(key: bytes | None, said: str) -> None:
    def back(exchange: str, client: int, reply: Message) -> Message:
        if exchange != KEYS or client != 2:
            return reply
        wrong = way.passed[0][2].tensors[f"{PREFIX}key"].numpy().tobytes() if key is None else key
        return Message({f"{PREFIX}key": torch.frombuffer(bytearray(wrong), dtype=torch.uint8)})

    clients = holders()
    way = way_of(SUMMING, clients, back=back)
    sums, (row,) = federate(SUMMING, {}, SecureSums(way, SUMMING), 1)
    assert_close(sums, plain_sum([clients[i] for i in (0, 1, 3)]))
    assert re.match(f"2: {said}", str(row["rejected"]))


def test_a_client_that_is_started_anew_misses_a_round_and_is_back_in_the_next() -> None:
    stage, clients = Averaging("mean", 4), [Holder({"w": torch.tensor([float(i)])}) for i in range(4)]
    members = masking(clients, stage)

    def out(exchange: str, client: int, message: Message) -> Message:
        if exchange == "train" and client == 3 and message.numbers["round"] == 1 and clients[3].steps == 1:
            members[3].__init__(clients[3], 3, "mean", ("train",), by_samples=True)  # type: ignore[misc]
        return message

    state, rows = federate(stage, {"w": torch.zeros(1)}, SecureSums(Way(members, out), stage), 3)
    assert [row.get("missing") for row in rows] == [None, "3", None]
    assert state["w"].tolist() == [1.5]


def test_a_server_that_is_started_anew_asks_for_new_keys() -> None:
    clients = holders()
    way = way_of(SUMMING, clients)
    for _ in range(2):
        sums, _ = federate(SUMMING, {}, SecureSums(way, SUMMING), 1)
        assert_close(sums, plain_sum(clients))
    first, second = (
        [r.tensors[f"{PREFIX}key"].tolist() for e, _, r in way.passed if e == KEYS][i::4] for i in (0, 1)
    )
    assert len({tuple(key) for key in [*first, *second]}) == 4


class AfterASum:
    """Clients after a sum that one of five dropped out of, and what client 0 was asked, by exchange."""

    def __init__(self) -> None:
        self.asked = dict[str, Message]()
        self.way = way_of(SUMMING, holders(5), self.out)
        federate(replace(SUMMING, clients=5), {}, SecureSums(self.way, SUMMING), 1)

    def out(self, exchange: str, client: int, message: Message) -> Message | None:
        if client == 0:
            self.asked[exchange] = message
        return None if (exchange, client) == ("sum", 3) else message

    def ask(self, exchange: str, tensors: State, mask: float) -> None:
        """Ask client 0 what it was asked before, but with these tensors and another mask."""
        kept = self.asked[exchange]
        numbers = {**kept.numbers, f"{PREFIX}mask": mask}
        message = Message({**kept.tensors, **tensors}, numbers)
        dict(Loop.carry(self.way, Exchange("sums", 0, exchange), {0: message}))


def test_a_client_masks_only_one_thing_by_a_mask() -> None:
    after = AfterASum()
    number = after.asked["sum: sum"].numbers[f"{PREFIX}mask"]
    said = f"number of a mask is {number}; expected a number above {number}"
    with pytest.raises(InvalidInputError, match=said):
        after.ask("sum: sum", {}, number)
    after.ask("sum: sum", {}, number + 1)


def test_a_client_is_not_added_up_with_others_than_before() -> None:
    after = AfterASum()
    first, last = (after.asked[exchange].tensors for exchange in ("sum", "sum: sum"))
    everyone = {name: first[name] for name in (f"{PREFIX}clients", f"{PREFIX}keys")}
    assert everyone[f"{PREFIX}clients"].tolist() == [0, 1, 2, 3, 4]
    assert last[f"{PREFIX}clients"].tolist() == [0, 1, 2, 4]
    said = r"clients of the sum is \[0, 1, 2, 3, 4\]; expected some of those before: \[0, 1, 2, 4\]"
    with pytest.raises(InvalidInputError, match=said):
        after.ask("sum: sum", everyone, 99)


def test_a_client_replies_to_no_sum_without_enough_keys() -> None:
    after = AfterASum()
    for mask, exchange in ((98, "sum"), (99, "sum: sum")):
        clients, keys = (after.asked[exchange].tensors[f"{PREFIX}{name}"] for name in ("clients", "keys"))
        with pytest.raises(InvalidInputError, match="nothing leaves this one unmasked"):
            dict(Loop.carry(after.way, Exchange("sums", 0, exchange), {0: Message(numbers={"round": 0})}))
        with pytest.raises(InvalidInputError, match="nothing leaves this one unmasked"):
            after.ask(exchange, {f"{PREFIX}clients": clients[:2]}, mask)
        two = {f"{PREFIX}clients": clients[:2], f"{PREFIX}keys": keys[: 2 * KEY_BYTES]}
        with pytest.raises(InvalidInputError, match="clients of a secure sum is 2; expected at least 3"):
            after.ask(exchange, two, mask)


def test_progress_is_told_of_a_single_round_when_its_sum_is_there() -> None:
    told = list[tuple[str, int, int]]()

    def progress(activity: str, done: int, total: int, note: str = "", /) -> None:
        told.append((activity, done, total))

    federate(SUMMING, {}, SecureSums(way_of(SUMMING, holders()), SUMMING), 1, progress=progress)
    assert told == [("sums", 4, 4)]


def test_a_stage_without_sums_is_refused() -> None:
    class Pick:
        name = "pick"

        def __call__(self, state: State, replies: Mapping[int, Message]) -> State:
            return next(iter(replies.values())).tensors

    stage: Stage = Averaging("mean", 3, aggregation=Pick())
    with pytest.raises(
        InvalidInputError, match="stage of secure sums is 'mean'; expected one with an exchange that is"
    ):
        SecureSums(Loop([]), stage)


def test_replies_may_come_in_any_order() -> None:
    class Backwards(Way):
        def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
            yield from reversed(list(super().carry(exchange, messages)))

    def lost(name: str, client: int, reply: Message) -> Message | None:
        return None if (name, client) == ("sum", 1) else reply

    clients = holders()
    told = [
        federate(SUMMING, {}, SecureSums(way(masking(clients, SUMMING), back=lost), SUMMING), 1)[0]
        for way in (Way, Backwards)
    ]
    assert all(torch.equal(told[0][name], told[1][name]) for name in told[0])


class Neighbours:
    """Asks the next one for its number by letter, and replies with what it was told."""

    def __init__(self, client: int) -> None:
        self.client = client

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        if exchange == "ask":
            return state, Message(letters={(self.client + 1) % 3: {}})
        if exchange == "answer":
            told = {"number": torch.tensor([float(self.client)])}
            return state, Message(letters=dict.fromkeys(message.letters, told))
        (letter,) = message.letters.values()
        return state, Message({"w": letter["number"]}, {"samples": 1})


def test_exchanges_that_are_no_sums_and_letters_pass_as_they_are() -> None:
    stage = Averaging("neighbours", 3, ("ask", "answer", "train"))
    clients = [
        MaskingClient(Neighbours(i), i, stage.name, stage.sums, by_samples=True, others=("ask", "answer"))
        for i in range(3)
    ]
    way = Way(clients, as_it_is, as_it_is)
    state, _ = federate(stage, {"w": torch.zeros(1)}, SecureSums(way, stage), 1)
    assert state["w"].tolist() == [1.0]


def test_a_resumed_run_ends_at_the_same_weights(tmp_path: Path) -> None:
    def run(rounds: int, checkpoint: Checkpoint) -> State:
        workspace, clients, _ = walkers([0.1, 0.7, -0.3])
        stage = Averaging("walk", 3)
        engine = SecureSums(way_of(stage, clients), stage)
        state, _ = federate(stage, workspace.state_dict(), engine, rounds, checkpoint=checkpoint)
        assert all(set(state) == {"steps"} for state in engine.states.values())
        return state

    whole = run(3, Checkpoint(tmp_path / "whole", "same"))
    parts = Checkpoint(tmp_path / "parts", "same")
    run(1, parts)
    resumed = run(3, parts)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.parametrize("exchange", ["Train", "train ", "sum", "", "train: sums", "ask: sum"])
def test_a_sum_by_another_name_is_refused(exchange: str) -> None:
    holder = Holder({"w": torch.ones(3)})
    client = MaskingClient(holder, 0, "walk", ("train",), by_samples=True, others=("ask",))
    with pytest.raises(InvalidInputError, match="exchange is "):
        client.client_step(exchange, {}, Message({}, {"round": 0.0}))
    assert holder.steps == 0


def test_letters_that_pass_the_server_count_twice_with_secure_sums_too() -> None:
    stage = Averaging("neighbours", 3, ("ask", "answer", "train"))

    def letters_bytes(*, relays: bool) -> int:
        clients = [
            MaskingClient(Neighbours(i), i, stage.name, stage.sums, by_samples=True, others=("ask", "answer"))
            for i in range(3)
        ]
        way = Way(clients, as_it_is, as_it_is)
        way.relays = relays  # type: ignore[attr-defined]
        _, rows = federate(stage, {"w": torch.zeros(1)}, SecureSums(way, stage), 1)
        return int(rows[0]["bytes"])

    answers = 3 * 4  # a number each, which arrives with the message that asks for the sum
    assert letters_bytes(relays=True) - letters_bytes(relays=False) == answers
