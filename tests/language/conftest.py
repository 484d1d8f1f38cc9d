"""Two made-up languages over the same letters."""

import numpy as np
import pytest

from airmoe.language import Domain, Texts


def language(letters: bytes, seed: int) -> tuple[bytes, ...]:
    """Documents in which each letter is followed by one of two: easy to learn, and other in each domain."""
    random = np.random.default_rng(seed)
    follows = {letter: random.choice(list(letters), 2) for letter in letters}
    documents = []
    for _ in range(12):
        text = [letters[0]]
        for _ in range(600):
            text.append(int(random.choice(follows[text[-1]])))
        documents.append(bytes(text))
    return tuple(documents)


@pytest.fixture(scope="session")
def texts() -> Texts:
    """The same letters, but what follows a letter depends on the domain."""
    domains = []
    for number, name in enumerate(("one", "two")):
        documents = language(b"abcdefgh", number)
        domains.append(Domain(name, documents[:8], documents[8:9], documents[9:]))
    return Texts("letters", tuple(domains))
