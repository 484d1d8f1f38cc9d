"""What a file says of the machine, the user and the program that wrote it."""

import base64
import re
import socket
import sys
from pathlib import Path

import airmoe

_ALWAYS = ("/home/", "/Users/", "site-packages", 'File "', "Traceback", ", in forward")


def traces_of_a_machine(folder: Path, *words: str) -> list[str]:
    """Every file in a folder that holds, or is named after, one of these words or what is of this machine."""
    own = [socket.gethostname(), str(Path.home()) + "/", str(Path(airmoe.__file__).parent), sys.prefix]
    sought = [word for word in (*_ALWAYS, *own, *words) if len(word) > 4]
    found = []
    for path in sorted(folder.rglob("*")):
        content = str(path.relative_to(folder)).encode()
        if path.is_file():
            raw = path.read_bytes()
            pictures = re.findall(rb";base64,([A-Za-z0-9+/=]+)", raw)
            content = b"\n".join([content, raw, *map(base64.b64decode, pictures)])
        found += [
            f"{path.relative_to(folder)}: {word}"
            for word in sought
            if word.lower().encode() in content.lower()
        ]
    return found
