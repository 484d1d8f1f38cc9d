"""One target under Atheris: ``python -m tests.fuzz.fuzzer TARGET [options of libFuzzer]``."""

import logging
import sys

import atheris

with atheris.instrument_imports(include=["airmoe"], enable_loader_override=False):
    from tests.fuzz.targets import TARGETS


def main() -> None:
    logging.getLogger("airmoe").setLevel(logging.CRITICAL)
    name, *options = sys.argv[1:]
    again = f"{sys.executable} -m tests.fuzz.fuzzer {name}"  # how it starts itself to merge
    with TARGETS[name]() as target:
        atheris.Setup([again, *options], target)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
