"""Policies by name, as the command line and configuration files give them."""

from airmoe.errors import InvalidInputError
from airmoe.scheduling.policies.at_source import All, BestLink, Cheapest, Des, Local, RandomK, TopK, Wlr
from airmoe.scheduling.policies.jointly import Homogeneous, Jesa
from airmoe.scheduling.policy import Policy
from airmoe.spec_text import SpecTexts

_KNOWN = TopK, RandomK, Cheapest, BestLink, Local, All, Wlr, Des, Jesa, Homogeneous
_POLICIES = SpecTexts[Policy]("policy", _KNOWN)

POLICY_FORMS = str(_POLICIES)
"""Every form that `make_policy` reads."""

JOINT_POLICIES = SpecTexts[Policy]("policy", [policy for policy in _KNOWN if policy.joint])
"""The joint policies, which a scheduler decides by."""

JOINT_POLICY_FORMS = str(JOINT_POLICIES)
"""Every form of theirs."""


def make_policy(spec: str, seed: int = 0) -> Policy:
    """Return the policy of this name; its `name` is the same text in its shortest form.

    Args:
        spec: one of the forms in `POLICY_FORMS`, e.g. "topk:2" or "des:0.5:2".
        seed: integer >= 0, for policies that draw at random.

    Raises:
        InvalidInputError: an unknown name (the message lists the known ones) or a parameter out of range.

    Examples:
        >>> from airmoe.scheduling import make_policy
        >>> make_policy("topk:2")
        TopK(k=2)
        >>> make_policy("des:0.5:2:1.0").name
        'des:0.5:2'
    """
    return _POLICIES.read(spec, seed=seed)


def as_policy(policy: Policy | str) -> Policy:
    """Return a policy as it is, and the one that a text names; see `make_policy`.

    Raises:
        InvalidInputError: neither a policy nor a text that names one.
    """
    if isinstance(policy, str):
        return make_policy(policy)
    if isinstance(policy, type) or not all(hasattr(policy, name) for name in ("name", "joint", "route")):
        expected = "a policy (name, joint and route), or a text such as 'topk:1': " + POLICY_FORMS
        raise InvalidInputError("policy", repr(policy), expected)
    return policy
