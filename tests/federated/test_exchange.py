"""One round of exchanges: who is told what, what letters reach whom, and what it costs."""

from collections.abc import Iterator, Mapping, Sequence

import pytest
import torch

from airmoe.errors import InvalidInputError
from airmoe.federated import Averaging, Client, Exchange, Loop, Message, State, run_round


class Engine(Loop):
    """A loop that serves clients in an order of its own, some not at all, and keeps what it was given."""

    def __init__(self, clients: Sequence[Client], order: Sequence[int], deaf: str = "") -> None:
        super().__init__(clients)
        self.order, self.deaf, self.told = order, deaf, list[tuple[str, int, Message]]()

    def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
        served = [client for client in self.order if client in messages and exchange.name != self.deaf]
        self.told += [(exchange.name, client, messages[client]) for client in served]
        return super().carry(exchange, {client: messages[client] for client in served})


class Neighbours:
    """Each client asks the next one for its number, and adds it to the weights."""

    def __init__(self, client: int, clients: int) -> None:
        self.client, self.next = client, (client + 1) % clients

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        if exchange == "ask":
            return message.tensors, Message(letters={self.next: {"who": torch.zeros(3)}})
        if exchange == "answer":
            told = {"number": torch.tensor([float(self.client)])}
            return state, Message(letters=dict.fromkeys(message.letters, told))
        heard = sum(float(letter["number"]) for letter in message.letters.values())
        return state, Message({"w": state["w"] + heard}, {"samples": 1, "loss": heard})


STAGE = Averaging("neighbours", 3, ("ask", "answer", "train"))
START = {"w": torch.zeros(5)}


def engine_of(order: Sequence[int] = (0, 1, 2), deaf: str = "") -> Engine:
    return Engine([Neighbours(client, 3) for client in range(3)], order, deaf)


def test_a_letter_is_brought_with_the_next_message_and_its_answer_with_the_one_after() -> None:
    engine = engine_of()
    result = run_round(STAGE, START, 0, engine)
    assert [(name, client, list(message.letters)) for name, client, message in engine.told] == [
        *[("ask", client, []) for client in range(3)],
        *[("answer", client, [(client - 1) % 3]) for client in range(3)],
        *[("train", client, [(client + 1) % 3]) for client in range(3)],
    ]
    assert {client: reply.numbers["loss"] for client, reply in result.replies.items()} == {0: 1, 1: 2, 2: 0}
    assert result.state["w"].tolist() == [1.0] * 5
    assert result.missing == ()


@pytest.mark.parametrize("order", [(2, 0, 1), (1, 2, 0)])
def test_a_round_ends_alike_in_whatever_order_clients_are_served(order: Sequence[int]) -> None:
    usual, other = (run_round(STAGE, START, 0, engine_of(each)) for each in ((0, 1, 2), order))
    assert torch.equal(usual.state["w"], other.state["w"])
    assert usual.nbytes == other.nbytes


def test_every_byte_is_counted_once() -> None:
    weights, question, answer = 5 * 4, 3 * 4, 4
    # Per client: weights come, a question goes, an answer goes, weights go. What comes by letter was counted.
    assert run_round(STAGE, START, 0, engine_of()).nbytes == 3 * (weights + question + answer + weights)


def test_every_message_tells_the_round() -> None:
    engine = engine_of()
    run_round(STAGE, START, 4, engine)
    assert [message.numbers for _, _, message in engine.told] == [{"round": 4}] * 9


@pytest.mark.parametrize(
    ("deaf", "told"), [("ask", ["ask"]), ("answer", ["ask", "answer"])], ids=["from the start", "halfway"]
)
def test_a_client_that_does_not_reply_has_left_the_round(deaf: str, told: list[str]) -> None:
    class OneLost(Engine):
        def carry(self, exchange: Exchange, messages: Mapping[int, Message]) -> Iterator[tuple[int, Message]]:
            self.order = (0, 2) if exchange.name == deaf else (0, 1, 2)
            return super().carry(exchange, messages)

    engine = OneLost([Neighbours(client, 3) for client in range(3)], ())
    result = run_round(STAGE, START, 0, engine)
    assert result.missing == (1,)
    assert list(result.replies) == [0, 2]
    assert [name for name, client, _ in engine.told if client == 1] == told[:-1]
    # Client 0 asked it and was not answered; client 2 asked client 0.
    assert {client: reply.numbers["loss"] for client, reply in result.replies.items()} == {0: 0, 2: 0}


def test_a_round_in_which_nobody_replies_leaves_the_state() -> None:
    result = run_round(STAGE, START, 0, engine_of(deaf="ask"))
    assert result.state is START
    assert result.missing == (0, 1, 2)
    assert result.nbytes == 3 * 5 * 4


class Sampling:
    """A stage with two exchanges whose server picks one client a round, and answers it in the second."""

    name, exchanges = "sampling", ("sums", "total")

    def opening(self, state: State, round_: int) -> dict[int, Message]:
        return {round_ % 2: Message()}

    def server_step(
        self, exchange: str, state: State, replies: Mapping[int, Message]
    ) -> tuple[State, dict[int, Message]]:
        if exchange == "total":
            return state, {}
        total = {"total": sum((reply.tensors["sum"] for reply in replies.values()), torch.zeros(1))}
        return total, {client: Message(total, {"share": 0.5}) for client in replies}


class Summing:
    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        if exchange == "sums":
            return state, Message({"sum": torch.ones(1)})
        return {"kept": message.tensors["total"] * message.numbers["share"]}, Message()


def test_the_server_chooses_who_takes_part_and_what_each_is_told_next() -> None:
    engine = Loop([Summing(), Summing()])
    result = run_round(Sampling(), {}, 1, engine)
    assert list(result.replies) == [1]
    assert result.missing == ()  # client 0 was not asked
    assert result.nbytes == 4 + 4
    assert engine.states[0] == {}
    assert engine.states[1]["kept"].tolist() == [0.5]


def test_a_letter_over_the_server_counts_both_ways() -> None:
    class Relay(Engine):
        relays = True

    direct = run_round(STAGE, START, 0, engine_of())
    relayed = run_round(STAGE, START, 0, Relay([Neighbours(client, 3) for client in range(3)], (0, 1, 2)))
    assert relayed.nbytes - direct.nbytes == 3 * (3 * 4 + 1 * 4)  # a question and an answer per client


def test_a_letter_in_the_last_exchange_is_refused_for_no_message_could_bring_it() -> None:
    expected = (
        r"^neighbours, round 1, exchange ask, client 0: letters is 'for \[1\]'; expected none in the last"
    )
    with pytest.raises(InvalidInputError, match=expected):
        run_round(Averaging("neighbours", 3, ("ask",)), START, 0, engine_of())
