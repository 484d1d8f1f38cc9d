"""A SuperLink whose interfaces are closed to strangers.

Flower serves three interfaces at one port. Each is closed here by what Flower itself provides:

    fleet     to nodes         only keys that were registered, by signature; with an identity, only members of
                               the roster, by certificate and signature
    control   to its owner     the token: Flower calls it a login; without it, whoever has the authority's
                               certificate could register keys and start runs
    runtime   to runs          handing out work needs the executor's secret, everything else the work's own
                               token; in Flower's default, whoever reaches the port could take a run over
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from airmoe.errors import InvalidInputError
from airmoe.federated.flower.keys import EXECUTOR_SECRET, TOKEN, read_secret
from airmoe.federated.flower.members import MembersOnly, registering
from airmoe.federated.flower.quiet import be_quiet, environment
from airmoe.federated.flower.shown import Shown, keep_renewed

_LOG = logging.getLogger(__name__)

LOOKS_EVERY_S, ENDS_WITHIN_S = 0.5, 5
"""How often it looks whether what starts runs is alive, and how long that, and open requests, take to end."""


def run_superlink(
    shown: Shown, folder: Path, host: str, port: int, ready: Callable[[], object] = lambda: None
) -> None:
    """Run a SuperLink until the process is told to end.

    Args:
        shown: certificates and secrets; see `shown_by_keys` and `shown_by_identity`.
        folder: where it keeps which nodes are registered; nobody else should read it.
        host: the address to listen at.
        port: the port.
        ready: called once it listens.

    Raises:
        RunFolderError: a secret is missing, or others may read it.
        InvalidInputError: Flower is installed in a folder with a space in its name.
    """
    refuse_place_with_space()
    token, secret = read_secret(shown.secrets / TOKEN), read_secret(shown.secrets / EXECUTOR_SECRET)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    be_quiet(folder / "home")

    import uvicorn
    from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
    from flwr.superlink.config_loader import SuperLinkLifespanConfig
    from flwr.superlink.main import create_app

    logging.getLogger("flwr").propagate = False  # it writes its log itself
    authority, certificate, key = str(shown.authority), str(shown.certificate), str(shown.key)
    config = SuperLinkLifespanConfig(
        host=host,
        port=port,
        insecure=False,
        certificates=(
            shown.authority.read_bytes(),
            shown.certificate.read_bytes(),
            shown.key.read_bytes(),
        ),
        ssl_ca_certfile=authority,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        enable_supernode_auth=True,
        authn_plugin=_login(token),
        isolation="process",  # Flower's other mode hands runs out without asking for the secret
        superexec_auth_secret=secret,
        database=str(folder / "superlink.db"),
        simulation=False,
        runtime_dependency_install=False,
        control_address="",  # older interfaces, not started
        fleet_api_type="grpc-rere",
        fleet_api_address=None,
        health_server_address=None,
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
    )
    app = create_app(config, SuperLinkLifespan)
    if shown.members is not None:
        app.add_middleware(MembersOnly, members=shown.members, register=registering(app))
    reached = f"[{shown.reached}]" if ":" in shown.reached else shown.reached
    words = [
        "flower-superexec",
        *("--runtime-api-address", f"{reached}:{port}"),
        *("--root-certificates", authority),
        *("--superexec-auth-secret-file", str(shown.secrets / EXECUTOR_SECRET)),
        *("--parent-pid", str(os.getpid())),
    ]
    ends = threading.Event()
    keeper = threading.Thread(target=_keep_running, args=(words, environment(folder / "home"), ends))
    announcer = threading.Thread(target=_announce, args=(shown.reached, port, ready, ends), daemon=True)
    server = uvicorn.Config(
        app,
        host=host,
        port=port,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=ENDS_WITHIN_S,
    )
    server.load()
    renewer = threading.Thread(target=keep_renewed, args=(server.ssl, shown, ends), daemon=True)
    keeper.start()
    announcer.start()
    if shown.members is not None:
        renewer.start()
    try:
        uvicorn.Server(server).run()
    finally:
        ends.set()
        keeper.join()


def _keep_running(words: list[str], environment_: dict[str, str], ends: threading.Event) -> None:
    """Run what starts runs, anew if it dies: without it no run would ever begin."""
    executor = subprocess.Popen(words, env=environment_)
    while not ends.wait(LOOKS_EVERY_S):
        if executor.poll() is not None:
            _LOG.warning("Flower's executor of runs ended with status %s; started anew", executor.returncode)
            executor = subprocess.Popen(words, env=environment_)
    executor.terminate()
    try:
        executor.wait(ENDS_WITHIN_S)
    except subprocess.TimeoutExpired:
        executor.kill()
        executor.wait()


def _announce(host: str, port: int, ready: Callable[[], object], ends: threading.Event) -> None:
    while not ends.wait(LOOKS_EVERY_S):
        with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1.0):
            ready()
            return


def refuse_place_with_space() -> None:
    """Refuse to run where Flower 1.41 would make no tables: it takes a space for the end of a path.

    Raises:
        InvalidInputError: Flower is installed in a folder with a space in its name.
    """
    import flwr

    place = str(Path(flwr.__file__).parent)
    if any(letter.isspace() for letter in place):
        raise InvalidInputError(
            "folder of Flower", place, "one without a space: Flower keeps no nodes otherwise"
        )


def _login(token: bytes):  # type: ignore[no-untyped-def]
    """Return what lets the control interface ask for the token."""
    from flwr.common.constant import ACCESS_TOKEN_KEY, NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
    from flwr.supercore.auth.typing import AccountInfo
    from flwr.superlink.auth_plugin import NoOpControlAuthnPlugin

    expected = hashlib.sha256(token).digest()

    class TokenLogin(NoOpControlAuthnPlugin):  # type: ignore[misc]
        def validate_tokens_in_metadata(
            self, metadata: Sequence[tuple[str, str | bytes]]
        ) -> tuple[bool, AccountInfo | None]:
            given = dict(metadata).get(ACCESS_TOKEN_KEY, "")
            digest = hashlib.sha256(given.encode() if isinstance(given, str) else given).digest()
            if not hmac.compare_digest(digest, expected):
                return False, None
            return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)

        def refresh_tokens(self, metadata: Sequence[tuple[str, str | bytes]]) -> tuple[None, None]:
            return None, None

    return TokenLogin()
