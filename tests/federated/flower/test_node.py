"""A node answers messages, keeps its state over its own death, and lets the server repeat a round."""

from pathlib import Path

import torch

from airmoe.errors import InvalidInputError
from airmoe.federated import Client, Message, State
from airmoe.federated.flower.frame import Frame, packed, unpacked
from airmoe.federated.flower.node import ResidentNode


class Counter:
    """A client whose state counts its steps; in the exchange "bad" or "bug" it fails."""

    def client_step(self, exchange: str, state: State, message: Message) -> tuple[State, Message]:
        if exchange == "bad":
            raise InvalidInputError("weights", 3, "others")
        if exchange == "bug":
            raise KeyError("a secret of the data")
        count = state.get("count", torch.zeros(1)) + 1
        return {"count": count}, Message({"count": count})


class Taking:
    made = 0

    def __init__(self, settings: str, client: int, folder: Path) -> None:
        type(self).made += 1

    def client(self, part: str) -> Client:
        return Counter()


def asked(
    round_: int, exchange: str = "train", client: int = 4, settings: str = "s", server: str = "first"
) -> Frame:
    about = {"part": "p", "stage": "features", "round": round_, "exchange": exchange, "server": server}
    return packed({**about, "client": client, "settings": settings}, Message())


def count(node: ResidentNode, frame: Frame) -> float:
    about, message = unpacked(node.answer(frame))
    assert about == {}
    return float(message.tensors["count"])


def error(node: ResidentNode, frame: Frame) -> str:
    return str(unpacked(node.answer(frame))[0]["error"])


def test_the_state_goes_from_step_to_step(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    assert [count(node, asked(0)), count(node, asked(1)), count(node, asked(2))] == [1, 2, 3]


def test_a_node_that_died_goes_on_where_it_was(tmp_path: Path) -> None:
    count(ResidentNode(4, tmp_path, Taking), asked(0))
    assert count(ResidentNode(4, tmp_path, Taking), asked(1)) == 2


def test_a_round_that_the_server_repeats_begins_from_the_state_it_began_from(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    count(node, asked(0))
    assert [count(node, asked(1, "a")), count(node, asked(1, "b"))] == [2, 3]
    for again in (node, ResidentNode(4, tmp_path, Taking)):
        server = f"{id(again)}"
        repeated = [count(again, asked(1, name, server=server)) for name in ("a", "b")]
        assert repeated == [2, 3]
    assert count(again, asked(2, "a", server=server)) == 4


def test_a_round_that_was_left_in_the_middle_can_be_repeated(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    count(node, asked(0, "a"))
    assert [count(node, asked(0, name, server="second")) for name in ("a", "b")] == [1, 2]


def test_a_server_may_ask_twice_in_a_round_as_for_masks_among_others(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    assert [count(node, asked(0, "a")), count(node, asked(0, "a"))] == [1, 2]


def test_the_first_round_begins_the_stage_anew(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    for round_ in range(3):
        count(node, asked(round_))
    assert count(node, asked(0)) == 1


def test_a_server_that_lost_more_than_a_round_is_told(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    for round_ in range(4):
        count(node, asked(round_))
    assert "has taken part in round 4; asked for 3" in error(node, asked(2))


def test_runs_of_other_settings_have_states_of_their_own(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    count(node, asked(0))
    assert count(node, asked(1, settings="other")) == 1
    assert count(node, asked(1)) == 2


def test_the_participant_stays_from_message_to_message(tmp_path: Path) -> None:
    node, before = ResidentNode(4, tmp_path, Taking), Taking.made
    for round_ in range(3):
        count(node, asked(round_))
    assert Taking.made == before + 1


def test_a_message_to_another_client_is_refused(tmp_path: Path) -> None:
    assert "this is client 4" in error(ResidentNode(4, tmp_path, Taking), asked(0, client=5))


def test_an_error_of_ours_is_told_and_the_node_goes_on(tmp_path: Path) -> None:
    node = ResidentNode(4, tmp_path, Taking)
    assert error(node, asked(0, "bad")) == "InvalidInputError: weights is 3; expected others"
    assert count(node, asked(0)) == 1


def test_the_words_of_any_other_error_stay_at_the_node(tmp_path: Path) -> None:
    assert error(ResidentNode(4, tmp_path, Taking), asked(0, "bug")) == "KeyError"


def test_nobody_else_can_enter_the_folder_of_a_run(tmp_path: Path) -> None:
    count(ResidentNode(4, tmp_path / "node", Taking), asked(0))
    (folder,) = (tmp_path / "node").iterdir()
    assert folder.stat().st_mode & 0o077 == 0


def test_bytes_that_are_no_message_are_answered_with_an_error(tmp_path: Path) -> None:
    assert error(ResidentNode(4, tmp_path, Taking), Frame(b"{}", b"", b"")).startswith("FrameError")
    assert error(ResidentNode(4, tmp_path, Taking), packed({"stage": "x"}, Message())).startswith(
        "FrameError"
    )
