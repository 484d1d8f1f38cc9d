"""Policies by name, as the command line and configuration files give them."""

from collections.abc import Callable
from functools import partial

from airmoe.errors import InvalidInputError
from airmoe.scheduling.policies.at_source import All, BestLink, Cheapest, Des, Local, RandomK, TopK, Wlr
from airmoe.scheduling.policies.jointly import Homogeneous, Jesa
from airmoe.scheduling.policy import Policy

POLICY_FORMS = (
    "topk:K, random:K, cheapest:K, best-link:K, local, all, wlr:THETA, des:IMPORTANCE:MAX_EXPERTS[:Z], "
    "jesa:IMPORTANCE:MAX_EXPERTS[:Z] or homogeneous:Z:MAX_EXPERTS"
)
"""Every form that `make_policy` reads."""

_Maker = Callable[..., Policy]
_RULES: dict[str, tuple[_Maker, tuple[type, ...], int]] = {
    "topk": (TopK, (int,), 1),
    "cheapest": (Cheapest, (int,), 1),
    "best-link": (BestLink, (int,), 1),
    "local": (Local, (), 0),
    "all": (All, (), 0),
    "wlr": (Wlr, (float, float), 1),
    "des": (Des, (float, int, float), 2),
    "jesa": (Jesa, (float, int, float), 2),
    "homogeneous": (Homogeneous, (float, int), 2),
}
"""Rule to its class, the types of its fields, and how many of them are needed."""


def make_policy(spec: str, seed: int = 0) -> Policy:
    """Return the policy of this name; its `name` is the same text in its shortest form.

    Args:
        spec: one of the forms in `POLICY_FORMS`, e.g. "topk:2" or "des:0.5:2".
        seed: integer >= 0, for policies that draw at random.

    Raises:
        InvalidInputError: an unknown name (the message lists the known ones) or a parameter out of range.
    """
    rule, *fields = spec.split(":")
    rules = _RULES | {"random": (partial(RandomK, seed=seed), (int,), 1)}
    maker, types, needed = rules.get(rule, (None, (), 0))
    if maker is None or not needed <= len(fields) <= len(types):
        raise InvalidInputError("policy", spec, POLICY_FORMS)
    try:
        values = [convert(field) for convert, field in zip(types, fields, strict=False)]
    except ValueError:  # a field that is no number
        raise InvalidInputError("policy", spec, POLICY_FORMS) from None
    return maker(*values)
