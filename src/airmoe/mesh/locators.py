"""Zenoh's names for the ends of a link, as tcp/127.0.0.1:7447."""


def host_and_port(locator: str) -> tuple[str, int] | None:
    """Return host and port of a locator; None where it has none, as that of a Unix socket.

    Examples:
        >>> from airmoe.mesh.locators import host_and_port
        >>> host_and_port("tcp/[::1]:7447")
        ('::1', 7447)
    """
    host, _, port = locator.partition("/")[2].rpartition(":")
    return (host.removeprefix("[").removesuffix("]"), int(port)) if host and port.isdecimal() else None
