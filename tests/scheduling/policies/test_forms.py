"""What errors and help say of the texts of policies."""

from airmoe.scheduling.parsing import JOINT_POLICY_FORMS, POLICY_FORMS


def test_every_policy_has_its_form() -> None:
    assert POLICY_FORMS == (
        "topk:K, random:K, cheapest:K, best-link:K, local, all, wlr:THETA[:COMPUTE_S], "
        "des:IMPORTANCE:MAX_EXPERTS[:Z], jesa:IMPORTANCE:MAX_EXPERTS[:Z[:RESTARTS]] or "
        "homogeneous:Z:MAX_EXPERTS[:RESTARTS]"
    )


def test_joint_policies_are_those_that_allocate_subcarriers() -> None:
    assert (
        JOINT_POLICY_FORMS
        == "jesa:IMPORTANCE:MAX_EXPERTS[:Z[:RESTARTS]] or homogeneous:Z:MAX_EXPERTS[:RESTARTS]"
    )
