"""What is written down of the software and the machine that computed something.

Packages are told by their versions, also those that came under another name or without metadata.
"""

import os
import platform
import sys
from importlib import metadata


def version_of(distribution: str, module: str | None = None) -> str:
    """Return the version of a package, to be written down beside what it computed.

    Args:
        distribution: the name under which it is usually installed.
        module: the name by which it is imported; left out, the same.

    Returns:
        its version; "NAME VERSION" where another distribution brings the module, such as a build of
        ONNX Runtime for GPUs; the module's ``__version__`` or "unknown" where none does.

    Examples:
        >>> from airmoe.versions import version_of
        >>> version_of("no-such-package")
        'unknown'
    """
    module = module or distribution
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        pass
    for other in metadata.packages_distributions().get(module, ()):
        return f"{other} {metadata.version(other)}"
    return str(getattr(sys.modules.get(module), "__version__", "unknown"))


def kind_of_host() -> dict[str, str | int | None]:
    """Return the kind of this machine: architecture, operating system and cores, and nothing of it alone."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"machine": platform.machine(), "system": platform.system(), "cores": cores}
