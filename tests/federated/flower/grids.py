"""A Grid whose nodes answer in this process, each after its own time, by a clock that only waiting moves."""

from collections.abc import Callable, Iterable
from typing import Any

from flwr.app import Error, Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from airmoe.federated.flower.attendance import name_of_client
from airmoe.federated.flower.content import framed, recorded
from airmoe.federated.flower.frame import Frame

Answer = Callable[[Frame], Frame]


class ClockedGrid(Grid):
    """Args: by client, what answers; ``after_s`` says by client how long it takes, infinity for never."""

    def __init__(self, answers: dict[int, Answer], after_s: dict[int, float] | None = None) -> None:
        self.answers, self.after_s = answers, after_s or {}
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = (
            1,
            1,
            1,
        )  # as a ServerApp's process has
        self.time_s = 0.0
        self.errors: set[int] = set()
        self.pushed: list[tuple[int, float]] = []
        self.exchanges: list[tuple[int, str]] = []
        self._replies: dict[str, tuple[float, Message]] = {}

    def now(self) -> float:
        return self.time_s

    def sleep(self, wait_s: float) -> None:
        self.time_s += wait_s

    def get_nodes(self) -> Iterable[NodeInfo]:
        return [
            NodeInfo(
                node_id=1000 + client,
                name=name_of_client(client),
                last_activated_at="2026-01-01",
                online_until=self.time_s + 60.0,
            )
            for client in self.answers
        ]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        ids = []
        for message in messages:
            client = message.metadata.dst_node_id - 1000
            self.pushed.append((client, message.metadata.ttl))
            self.exchanges.append((client, message.metadata.group_id))
            message.metadata.__dict__["_message_id"] = f"{len(self.pushed)}"
            ids.append(message.metadata.message_id)
            content: RecordDict | Error = (
                Error(code=3, reason="out of memory")
                if client in self.errors
                else recorded(self.answers[client](framed(message.content)))
            )
            arrives_s = self.time_s + self.after_s.get(client, 0.0)
            self._replies[ids[-1]] = arrives_s, Message(content, reply_to=message)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        there = [each for each in message_ids if self._replies[each][0] <= self.time_s]
        return [self._replies.pop(each)[1] for each in there]

    def get_node_ids(self) -> Iterable[int]:
        raise NotImplementedError

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Any:
        raise NotImplementedError

    def create_message(self, *args: Any, **kwargs: Any) -> Message:
        raise NotImplementedError

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError
