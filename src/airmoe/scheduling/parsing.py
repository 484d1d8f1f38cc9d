"""Policies by name, as the command line and configuration files give them."""

from airmoe.errors import InvalidInputError
from airmoe.scheduling.policies import All, Des, Local, RandomK, TopK
from airmoe.scheduling.policy import Policy

_FORMS = "topk:K, random:K, local, all, or des:IMPORTANCE:MAX_EXPERTS[:Z], e.g. topk:2 or des:0.5:2"


def make_policy(spec: str, seed: int = 0) -> Policy:
    """Return the policy of this name; its `name` is the same text in its shortest form.

    Args:
        spec: "topk:K", "random:K", "local", "all" or "des:IMPORTANCE:MAX_EXPERTS[:Z]".
        seed: integer >= 0, for policies that draw at random.

    Raises:
        InvalidInputError: an unknown name (the message lists the known ones) or a parameter out of range.
    """
    name, *fields = spec.split(":")
    try:
        match name, fields:
            case "topk", [k]:
                return TopK(int(k))
            case "random", [k]:
                return RandomK(int(k), seed)
            case "local", []:
                return Local()
            case "all", []:
                return All()
            case "des", [importance, max_experts]:
                return Des(float(importance), int(max_experts))
            case "des", [importance, max_experts, z]:
                return Des(float(importance), int(max_experts), float(z))
    except InvalidInputError:
        raise
    except ValueError:
        pass  # a field that is no number: the same message as for an unknown name
    raise InvalidInputError("policy", spec, _FORMS)
