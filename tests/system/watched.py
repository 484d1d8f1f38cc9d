"""A process that is watched: what it leaves in a home folder of its own, and what it sends.

Where the machine allows it, it runs in a network of its own, which has loopback and nothing else, so nothing
it sends gets anywhere. The kernel counts what has no route to take, and UDP, by which names are asked for:
neither C++ nor a thread hides.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_ALONE = ("unshare", "--user", "--map-root-user", "--net")

_WATCH = """
import fcntl, json, socket, struct, subprocess, sys
from pathlib import Path

with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:  # as "ip link set lo up"
    fcntl.ioctl(probe, 0x8914, struct.pack("16sh14x", b"lo", 1))

def counted():
    lines = [line.split() for line in Path("/proc/net/snmp").read_text().splitlines()]
    found = {heads[0] + name: int(count) for heads, counts in zip(lines[::2], lines[1::2])
             for name, count in zip(heads[1:], counts[1:])}
    found |= {name: int(count) for name, count in map(str.split, open("/proc/net/snmp6"))}
    names = "Ip:OutNoRoutes", "Ip6OutNoRoutes", "Udp:OutDatagrams", "Udp6OutDatagrams"
    return {name: found[name] for name in names}

before = counted()
ended = subprocess.run(sys.argv[2:], check=False)
sent = {name: count - before[name] for name, count in counted().items() if count != before[name]}
Path(sys.argv[1]).write_text(json.dumps(sent))
sys.exit(ended.returncode)
"""

_TOLD = ("CI", "ORT_RUNNING_UNIT_TESTS", "TELEMETRY", "UPDATE_CHECK", "SAFETENSORS_CONVERSION", "XDG_")
"""In the names of variables that keep libraries quiet, or their files elsewhere. airmoe sets some itself; a
child of this process, which has loaded airmoe, would inherit them."""


@dataclass(frozen=True)
class Seen:
    """What a process did.

    Attributes:
        left: the files in its home folder.
        sent: how many packets had no route and how many datagrams it sent, by the kernel's names; None where
            it could not be watched.
    """

    left: list[str]
    sent: dict[str, int] | None


@cache
def why_unwatched() -> str | None:
    """Return why no process can have a network of its own here; None if it can."""
    try:
        ended = subprocess.run([*_ALONE, "true"], capture_output=True, text=True, timeout=30, check=False)
    except OSError as error:
        return str(error)
    return ended.stderr.strip() if ended.returncode else None


def watched(home: Path, code: str, *arguments: object, source: Path | None = None) -> Seen:
    """Run Python code as a user with this home folder, from within it, with airmoe from ``source``."""
    home.mkdir(parents=True)
    told = home.parent / f"{home.name}.json"
    environment = {name: value for name, value in os.environ.items() if not any(w in name for w in _TOLD)}
    environment |= {"HOME": str(home), "USER": home.name, "LOGNAME": home.name}
    if source is not None:
        environment["PYTHONPATH"] = str(source)
    around = () if why_unwatched() else (*_ALONE, sys.executable, "-c", _WATCH, str(told))
    ended = subprocess.run(
        [*around, sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    left = sorted(path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file())
    return Seen(left, json.loads(told.read_text(encoding="utf-8")) if around else None)
