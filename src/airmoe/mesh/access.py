"""Who may do what on a mesh, in the words of Zenoh's access control: nothing, but for what the roster says.

Only what comes in counts: a hostile peer has no rules of its own. A name is the common name of a certificate.
"""

from typing import Any

from airmoe.mesh.keys import asked_key, expert_key, link_key, reports_key, roster_key
from airmoe.mesh.roster import Member, Roster

_SERVES = ["declare_queryable", "declare_subscriber", "liveliness_token", "reply"]
_LOOKS = ["declare_liveliness_subscriber", "liveliness_query"]


def access_control(roster: Roster) -> dict[str, Any]:
    """Return the value of Zenoh's setting ``access_control`` for the members of a mesh.

    A member serves its own experts under its own name, and asks under its own name. All may see who is alive.
    """
    everything = f"airmoe/{roster.mesh}/**"
    rules: list[dict[str, Any]] = [
        _rule("looks", _LOOKS, [everything]),
        _rule("goes out", [*_SERVES, *_LOOKS, "query", "put", "delete"], [everything], flow="egress"),
    ]
    policies = [
        {"rules": ["looks", "goes out"], "subjects": [member.name for member in roster.members]},
    ]
    for member in roster.members:
        own = [
            _rule(f"{member.name} asks", ["query", "put"], _asks(roster.mesh, member)),
            _rule(f"{member.name} serves", _SERVES, _serves(roster.mesh, member)),
        ]
        rules += own
        policies.append({"rules": [rule["id"] for rule in own], "subjects": [member.name]})
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": [{"id": member.name, "cert_common_names": [member.name]} for member in roster.members],
        "policies": policies,
    }


def _serves(mesh: str, member: Member) -> list[str]:
    keys = [
        expert_key(mesh, each.model, each.layer, each.expert, member.node) + "/**" for each in member.serves
    ]
    if member.schedules:
        keys.append(f"airmoe/{mesh}/*/*/scheduler/{member.node}/**")
    own = roster_key(mesh, member.node), link_key(mesh, member.node), f"{reports_key(mesh)}/{member.node}"
    return [*keys, *(f"{key}/**" for key in own)]


def _asks(mesh: str, member: Member) -> list[str]:
    """Return what a member asks: a node for an expert or as a scheduler of a layer, for its roster, for
    nothing but an answer, or how it is.
    """
    what = "*/*/*/*", "roster/*", "link/*", "report/*/*"
    return [asked_key(f"airmoe/{mesh}/{each}", member.name) for each in what]


def _rule(name: str, messages: list[str], keys: list[str], flow: str = "ingress") -> dict[str, Any]:
    return {"id": name, "permission": "allow", "flows": [flow], "messages": messages, "key_exprs": keys}
