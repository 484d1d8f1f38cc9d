"""The resident process takes the messages of its SuperNode, in place of a new process for each.

A SuperNode in Flower's isolation mode "process" hands its tasks to whoever asks for them at its runtime
interface and proves that it knows the node's secret. Stock Flower starts a process for each task, which loads
the code that the run brought along. Here the task is answered by `ResidentNode`, and that code is never run.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

import httpx
from flwr.app import Message as FlowerMessage
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.heartbeat import HeartbeatSender, make_task_heartbeat_fn_http
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.retry import make_simple_http_retry_invoker
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

from airmoe.federated.flower.content import framed, recorded
from airmoe.federated.flower.node import ResidentNode

_LOG = logging.getLogger(__name__)

POLL_S: Final = 0.25
"""How long lies between two questions to the SuperNode."""

_ACQUIRE = frozenset({"/flwr.proto.Runtime/AcquireTask"})


def serve_tasks(address: str, secret: bytes, node: ResidentNode, goes_on: Callable[[], bool]) -> None:
    """Answer the messages of a SuperNode until ``goes_on`` says no.

    Args:
        address: of the SuperNode's runtime interface, a loopback address.
        secret: the one that the SuperNode was started with.
        node: answers.
        goes_on: asked between two messages.
    """
    asking = RuntimeHttpClient.from_server_address(
        address,
        insecure=True,  # loopback: no TLS inside the node
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=_ACQUIRE),
        ],
    )
    turn = threading.Lock()
    wanted = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
    try:
        while goes_on():
            try:
                given = asking.AcquireTask(wanted)
                if given.HasField("task") and given.token:
                    # A thread, for a message whose SuperLink died is never whole, and Flower waits for it.
                    threading.Thread(target=_do, args=(address, given.token, node, turn), daemon=True).start()
                    continue
            except httpx.TransportError:
                pass  # it has not begun to listen, or it is ending
            except httpx.HTTPError as error:
                _LOG.warning("The SuperNode gives no task: %s", error)
            time.sleep(POLL_S)
    finally:
        asking.close()


def _do(address: str, token: str, node: ResidentNode, turn: threading.Lock) -> None:
    client = RuntimeHttpClient.from_server_address(
        address,
        insecure=True,
        root_certificates=None,
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="flwr-clientapp"),
            RuntimeTokenHttpInterceptor(token),
        ],
        retry_invoker=make_simple_http_retry_invoker(),
    )
    heartbeat = HeartbeatSender(make_task_heartbeat_fn_http(client))
    heartbeat.start()
    try:
        message, context, _run, _code = pull_task_input(client)
        with turn:
            answer = node.answer(framed(message.content))
        reply = FlowerMessage(recorded(answer), reply_to=message)
        push_message(client, reply, context)
        push_task_output(client, context, SubStatus.COMPLETED, "")
    except Exception as error:
        _LOG.exception("a message was not answered")
        push_task_output(client, None, SubStatus.FAILED, type(error).__name__)
    finally:
        heartbeat.stop()
        client.close()
