"""A client at its node: it takes the steps that messages ask for, and keeps its state in its own folder."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from airmoe.errors import AirmoeError, FrameError, RunFolderError
from airmoe.federated.exchange import Client, Message, State
from airmoe.federated.flower.frame import Frame, packed, unpacked
from airmoe.runs.checkpoint import Checkpoint

_LOG = logging.getLogger(__name__)

_BEGUN, _NOW = "begun", "now"
"""Groups in the file of a stage: the state as the round began, and as it is."""

_ABOUT = {
    **{"part": str, "stage": str, "round": int, "exchange": str},
    **{"client": int, "settings": str, "server": str},
}
"""What every message from the server says of itself."""


def run_name(settings: str) -> str:
    """Return the name of a run's folder at a node, ``FOLDER/runs/NAME``, which is that of its settings."""
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


class Participant(Protocol):
    """What a node knows of one run: its data, and what it has learnt."""

    def client(self, part: str, /) -> Client:
        """Return who takes the steps of a part of the run, which may have several stages."""
        ...


ParticipantOf = Callable[[str, int, Path], Participant]
"""Makes the participant of a run from the settings that the server sent, the client's number and a folder of
the node that belongs to this run alone."""


class ResidentNode:
    """Answers messages, one at a time, for as long as its process lives.

    The state of each stage is written to the node's folder after every step, with the one that the round
    began with. So a node that was killed goes on, and a server that was killed may repeat its last round.

    Args:
        client: this node's number; messages to another are refused.
        folder: where states are kept, one folder per run; nobody else should read it.
        participant_of: makes the participant when a run begins.
    """

    def __init__(self, client: int, folder: Path, participant_of: ParticipantOf) -> None:
        self._client, self._folder, self._participant_of = client, folder, participant_of
        self._run: tuple[str, Participant, Checkpoint] | None = None

    def answer(self, frame: Frame) -> Frame:
        """Return the reply to a message; if the step fails, a reply that says so.

        The reason of an error of airmoe is told to the server; of any other only its kind, as its words might
        hold data.
        """
        try:
            about, message = unpacked(frame)
            return packed({}, self._step(about, message))
        except AirmoeError as error:
            _LOG.warning("a step failed: %s", error)
            return packed({"error": f"{type(error).__name__}: {error}"}, Message())
        except Exception as error:
            _LOG.exception("a step failed")
            return packed({"error": type(error).__name__}, Message())

    def _step(self, about: dict[str, Any], message: Message) -> Message:
        if {name: type(value) for name, value in about.items()} != _ABOUT:
            raise FrameError(f"a message about {sorted(about)}; expected one about {sorted(_ABOUT)}")
        if about["client"] != self._client:
            raise FrameError(f"a message to client {about['client']}; this is client {self._client}")
        participant, checkpoint = self._of_run(about["settings"])
        stage, round_, server = about["stage"], about["round"], about["server"]
        begun, now = _taken_up(checkpoint, stage, round_, server)
        client = participant.client(about["part"])
        state, reply = client.client_step(about["exchange"], now, message)
        row: dict[str, str | int | float] = {"round": round_, "server": server}
        checkpoint.save(stage, {_BEGUN: begun, _NOW: state}, [row])
        return reply

    def _of_run(self, settings: str) -> tuple[Participant, Checkpoint]:
        if self._run is None or self._run[0] != settings:
            fingerprint = hashlib.sha256(settings.encode()).hexdigest()
            folder = self._folder / run_name(settings)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            participant = self._participant_of(settings, self._client, folder)
            self._run = settings, participant, Checkpoint(folder / "states", fingerprint)
        return self._run[1:]


def _taken_up(checkpoint: Checkpoint, stage: str, round_: int, server: str) -> tuple[State, State]:
    """Return the state as the round began, and the state to go on from.

    Where another process of the server asks for the round that was last, it was killed and repeats it.
    """
    saved = checkpoint.load(stage)
    if saved is None:
        return {}, {}
    last, asked_by = int(saved.rows[-1]["round"]), saved.rows[-1]["server"]
    begun, now = saved.groups.get(_BEGUN, {}), saved.groups.get(_NOW, {})
    if round_ == last:
        return begun, now if server == asked_by else begun
    if round_ > last:
        return now, now
    if round_ == 0:  # the server begins the stage anew
        return {}, {}
    raise RunFolderError(f"{stage}: this node has taken part in round {last + 1}; asked for {round_ + 1}")
