"""The roster of a mesh: who belongs to it, where they are, and which experts they may serve.

An authority signs it. A newer one, told by its number, takes the place of an older one: whoever is no longer
in it is out of the mesh.
"""

import json
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import FailFast, Field, ValidationError, model_validator

from airmoe.errors import IdentityError, InvalidInputError
from airmoe.files import read_regular, replaced_file
from airmoe.manifest import Index, LayerNumber, Manifest, ShortHash
from airmoe.mesh.addresses import parse_address
from airmoe.records import Record, refusal

MOST_BYTES = 4 << 20
"""The size of the largest roster that is read."""

MOST_NODES = 1024
"""The most nodes that a roster has."""

_NAME = re.compile(r"node-(0|[1-9][0-9]{0,3})")


def name_of(node: int) -> str:
    """Return the name of a node, which is the common name of its certificate."""
    return f"node-{node}"


def node_named(name: str) -> int | None:
    """Return the node of a name; None if no node has such a name."""
    found = _NAME.fullmatch(name)
    return int(found[1]) if found else None


class Serves(Record):
    """An expert that a node may serve.

    Attributes:
        model: hash of the model.
        layer: number of the layer.
        expert: number of the expert in it.
        hash: of the expert's file, its first 16 hex digits.
    """

    model: ShortHash
    layer: LayerNumber
    expert: Index
    hash: ShortHash


class Member(Record):
    """A node that belongs to the mesh.

    Attributes:
        node: its number; it is called ``node-<number>``.
        addresses: HOST:PORT where it can be reached; none if it is told otherwise, or only asks.
        serves: its experts, of all models that are in use.
        schedules: whether it may decide for others.
    """

    node: Annotated[int, Field(ge=0, lt=MOST_NODES)]
    addresses: Annotated[list[str], Field(max_length=8), FailFast()]
    serves: Annotated[list[Serves], FailFast()]
    schedules: bool = False

    @property
    def name(self) -> str:
        """The common name of its certificate."""
        return name_of(self.node)

    @model_validator(mode="after")
    def _has_addresses(self) -> Self:
        for address in self.addresses:
            parse_address(address, anywhere=True)
        return self


class Roster(Record):
    """Who belongs to a mesh.

    Attributes:
        mesh: name of the mesh.
        number: a newer roster has a higher one.
        members: its nodes, by ascending number.
    """

    format: Literal["airmoe roster 1"] = "airmoe roster 1"
    mesh: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
    number: Annotated[int, Field(ge=1, lt=1 << 63)]
    members: Annotated[list[Member], Field(min_length=1, max_length=MOST_NODES), FailFast()]

    @model_validator(mode="after")
    def _is_in_order(self) -> Self:
        nodes = [member.node for member in self.members]
        if nodes != sorted(set(nodes)):
            raise InvalidInputError("nodes of the members", nodes, "each once, in ascending order")
        return self

    def signed_bytes(self) -> bytes:
        """Return what an authority signs."""
        return _canonical(self.model_dump())

    def member(self, node: int) -> Member | None:
        """Return a node's entry; None if it does not belong to the mesh."""
        return next((member for member in self.members if member.node == node), None)

    @property
    def addresses(self) -> list[str]:
        """Where the members are, in their order."""
        return [address for member in self.members for address in member.addresses]

    def without(self, node: int) -> "Roster":
        """Return the next roster, which a node is no longer in.

        Raises:
            InvalidInputError: it is not in this one, or alone in it.
        """
        if self.member(node) is None:
            known = ", ".join(str(member.node) for member in self.members)
            raise InvalidInputError("node", node, f"one of {known}")
        left = [member for member in self.members if member.node != node]
        if not left:
            raise InvalidInputError("node", node, "one of several: nobody would be left")
        return Roster(mesh=self.mesh, number=self.number + 1, members=left)


class SignedRoster(Record):
    """A roster, and an authority's signature of it (ECDSA with SHA-256, in hex)."""

    roster: Roster
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{16,256}$")]

    def verified(self, authority: x509.Certificate) -> Roster:
        """Return the roster.

        Raises:
            IdentityError: the authority did not sign it.
        """
        _verify(self.signature, self.roster.signed_bytes(), authority)
        return self.roster

    def encoded(self) -> bytes:
        """Return it as it is stored and sent."""
        return (self.model_dump_json(indent=1) + "\n").encode()


def members_of(manifest: Manifest) -> list[Member]:
    """Return an entry for each node of a model: its experts, without addresses."""
    serves: dict[int, list[Serves]] = {node: [] for node in range(manifest.nodes)}
    for layer in manifest.layers:
        for expert, nodes in enumerate(layer.placement):
            each = Serves(
                model=manifest.model_hash, layer=layer.layer, expert=expert, hash=layer.hashes[expert]
            )
            for node in nodes:
                serves[node].append(each)
    return [Member(node=node, addresses=[], serves=experts) for node, experts in serves.items()]


def _canonical(roster: object) -> bytes:
    return json.dumps(roster, sort_keys=True, separators=(",", ":")).encode()


def _verify(signature: str, signed: bytes, authority: x509.Certificate) -> None:
    key = authority.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # see `read_certificate`
    try:
        key.verify(bytes.fromhex(signature), signed, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        raise IdentityError("the roster's signature is not that of the authority") from None


def roster_of_peer(data: bytes, authority: x509.Certificate) -> SignedRoster:
    """Return the roster that a peer sent, which the authority signed.

    The signature is looked at first: to find out what else is wrong may take long.

    Raises:
        IdentityError: it is damaged or too large, or the authority did not sign it.
    """
    _refuse_large(data, "the roster")
    try:
        told = json.loads(data)
    except (ValueError, RecursionError):
        told = None
    signature = told.get("signature") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(signature, str):
        raise IdentityError("the roster is no signed roster")
    _verify(signature, _canonical(told.get("roster")), authority)
    return decode_roster(data, "the roster")


def decode_roster(data: bytes, called: str) -> SignedRoster:
    """Return the roster in some bytes, whose signature nobody has looked at.

    Raises:
        IdentityError: it is damaged or too large.
    """
    _refuse_large(data, called)
    if not data.strip():
        raise IdentityError(f"{called} is empty; expected a signed roster")
    try:
        return SignedRoster.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        why = first["msg"] if first["type"] == "json_invalid" else refusal(error, lambda key: key or "it")
        raise IdentityError(f"{called} is no signed roster: {why}") from None
    except (ValueError, RecursionError) as error:
        raise IdentityError(f"{called} is no signed roster: {error}") from None


def _refuse_large(data: bytes, called: str) -> None:
    if len(data) > MOST_BYTES:
        raise IdentityError(f"{called} has {len(data)} bytes; expected a roster of at most {MOST_BYTES}")


def read_roster(path: Path) -> SignedRoster:
    """Return the roster in a file, whose signature nobody has looked at.

    Raises:
        IdentityError: it is missing, no regular file, damaged or too large.
    """
    try:
        data = read_regular(path, MOST_BYTES + 1)
    except OSError as error:
        raise IdentityError(f"cannot read {path}: {error.strerror}") from None
    return decode_roster(data, str(path))


def write_roster(path: Path, roster: SignedRoster) -> None:
    """Write a roster, atomically."""
    with replaced_file(path) as temporary:
        temporary.write_bytes(roster.encoded())
