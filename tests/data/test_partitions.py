import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from airmoe.data import partition
from airmoe.errors import InvalidInputError

Labels = NDArray[np.int64]
SEEDS = st.integers(0, 2**32)


@st.composite
def labelled_sets(draw: st.DrawFn, images_per_class: int = 12) -> Labels:
    """2 to 10 classes of 12 to 20 images each, shuffled; enough for any number of holders below."""
    sizes = draw(st.lists(st.integers(images_per_class, images_per_class + 8), min_size=2, max_size=10))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(draw(SEEDS)).permutation(labels)


def _classes(labels: Labels, indices: NDArray[np.int64]) -> set[int]:
    return {int(label) for label in np.unique(labels[indices])}


WHOLE = st.sampled_from(["iid", "ring", "dirichlet:2"])
"""Partitions that give every image to exactly one client, for any of these numbers of clients."""


@given(labels=labelled_sets(), clients=st.integers(2, 12), scheme=WHOLE, seed=SEEDS)
def test_every_image_falls_on_exactly_one_client(
    labels: Labels, clients: int, scheme: str, seed: int
) -> None:
    parts = partition(labels, clients, scheme, seed=seed)
    assert len(parts) == clients
    assert np.sort(np.concatenate(parts)).tolist() == list(range(len(labels)))


@given(labels=labelled_sets(), clients=st.integers(2, 12), scheme=WHOLE, seed=SEEDS)
def test_parts_are_sorted_int64_and_never_empty(labels: Labels, clients: int, scheme: str, seed: int) -> None:
    for part in partition(labels, clients, scheme, seed=seed):
        assert part.dtype == np.int64
        assert len(part) > 0
        assert (np.diff(part) > 0).all()


@given(labels=labelled_sets(), clients=st.integers(2, 12), scheme=WHOLE, seed=SEEDS)
def test_the_same_seed_gives_the_same_parts(labels: Labels, clients: int, scheme: str, seed: int) -> None:
    once, again = (partition(labels, clients, scheme, seed=seed) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(once, again, strict=True))


@pytest.mark.parametrize("scheme", ["iid", "ring", "dirichlet:0.5"])
def test_another_seed_gives_other_parts(scheme: str) -> None:
    labels = np.arange(200) % 10
    assert (
        partition(labels, 10, scheme, seed=0)[0].tolist() != partition(labels, 10, scheme, seed=1)[0].tolist()
    )


@given(labels=labelled_sets(), clients=st.integers(1, 24), seed=SEEDS)
def test_iid_parts_differ_by_one_image_at_most(labels: Labels, clients: int, seed: int) -> None:
    sizes = [len(part) for part in partition(labels, clients, "iid", seed=seed)]
    assert max(sizes) - min(sizes) <= 1


def test_iid_does_not_follow_the_order_of_the_labels() -> None:
    parts = partition(np.repeat(np.arange(10), 100), 10, "iid", seed=0)
    assert all(len(_classes(np.repeat(np.arange(10), 100), part)) == 10 for part in parts)


def test_ring_of_ten_clients_and_ten_classes_gives_client_i_the_classes_i_and_i_plus_1() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))
    parts = partition(labels, 10, "ring", seed=7)
    for client, part in enumerate(parts):
        counts = np.bincount(labels[part], minlength=10)
        expected = np.zeros(10, dtype=np.int64)
        expected[[client, (client + 1) % 10]] = 250
        assert counts.tolist() == expected.tolist()


def test_ring_of_three_clients_and_ten_classes_gives_each_its_arc_and_the_next() -> None:
    labels = np.arange(100) % 10
    arcs = [{0, 1, 2, 3}, {4, 5, 6}, {7, 8, 9}]
    parts = partition(labels, 3, "ring", seed=0)
    assert [_classes(labels, part) for part in parts] == [
        arcs[0] | arcs[1],
        arcs[1] | arcs[2],
        arcs[2] | arcs[0],
    ]


def test_ring_of_more_clients_than_classes_goes_round_the_classes_again() -> None:
    labels = np.arange(90) % 3
    parts = partition(labels, 5, "ring", seed=0)
    assert [_classes(labels, part) for part in parts] == [{0, 1}, {1, 2}, {0, 2}, {0, 1}, {1, 2}]


@given(labels=labelled_sets(), seed=SEEDS, data=st.data())
def test_ring_puts_every_class_at_exactly_two_clients(labels: Labels, seed: int, data: st.DataObject) -> None:
    classes = int(labels.max()) + 1
    clients = data.draw(st.integers(2, classes))
    held = [_classes(labels, part) for part in partition(labels, clients, "ring", seed=seed)]
    assert [sum(label in classes_held for classes_held in held) for label in range(classes)] == [2] * classes


@given(labels=labelled_sets(), clients=st.integers(2, 12), seed=SEEDS)
def test_ring_splits_each_class_evenly_between_its_holders(labels: Labels, clients: int, seed: int) -> None:
    parts = partition(labels, clients, "ring", seed=seed)
    for label in range(int(labels.max()) + 1):
        shares = [share for part in parts if (share := int((labels[part] == label).sum()))]
        assert max(shares) - min(shares) <= 1


@settings(max_examples=30)
@given(labels=labelled_sets(), clients=st.integers(2, 12), seed=SEEDS)
def test_ring_goes_by_the_order_of_the_labels_not_by_their_values(
    labels: Labels, clients: int, seed: int
) -> None:
    plain = partition(labels, clients, "ring", seed=seed)
    spread = partition(labels * 7 - 3, clients, "ring", seed=seed)
    assert all(np.array_equal(a, b) for a, b in zip(plain, spread, strict=True))


def test_an_unknown_scheme_is_refused_with_the_known_ones() -> None:
    said = "scheme is 'circle'; expected iid, ring, disjoint, dirichlet:ALPHA or lists:FILE"
    with pytest.raises(InvalidInputError, match=said):
        partition(np.arange(10), 2, "circle", seed=0)


@pytest.mark.parametrize(("scheme", "clients", "fewest"), [("iid", 0, 1), ("ring", 1, 2), ("ring", -3, 2)])
def test_too_few_clients_are_refused(scheme: str, clients: int, fewest: int) -> None:
    with pytest.raises(InvalidInputError, match=f"clients is {clients}; expected {fewest} to 20"):
        partition(np.arange(20) % 2, clients, scheme, seed=0)


@pytest.mark.parametrize("clients", [2.5, "2", True, None])
def test_a_number_of_clients_that_is_no_integer_is_refused(clients: object) -> None:
    with pytest.raises(InvalidInputError, match=f"clients is {clients!r}; expected 1 to 20"):
        partition(np.arange(20) % 2, clients, "iid", seed=0)


@pytest.mark.parametrize("scheme", ["iid", "ring", "disjoint", "dirichlet:1"])
def test_more_clients_than_images_are_refused(scheme: str) -> None:
    with pytest.raises(InvalidInputError, match=r"clients is 21; expected . to 20 \(the number of training"):
        partition(np.arange(20) % 2, 21, scheme, seed=0)


@pytest.mark.parametrize("images_C", [[4, 4, 4, 4], [30, 5, 30], [9, 2], [3, 7, 8, 12, 5]])
def test_too_many_clients_for_a_ring_are_told_how_many_are_not(images_C: list[int]) -> None:
    labels = np.repeat(np.arange(len(images_C)), images_C)
    for clients in range(2, len(labels) + 1):
        try:
            partition(labels, clients, "ring", seed=0)
        except InvalidInputError as error:
            said = f"clients is {clients}; expected at most ([0-9]+), or the partition iid"
            (most,) = re.findall(said, str(error))
            assert int(most) < clients
            partition(labels, int(most), "ring", seed=0)
            with pytest.raises(InvalidInputError):
                partition(labels, int(most) + 1, "ring", seed=0)


def test_a_class_of_one_image_fits_into_no_ring() -> None:
    labels = np.array([0] * 30 + [1] * 30 + [2])
    said = r"expected 2 training images at least in every class, or .* class 2 \(1\) are shared by 2 clients"
    with pytest.raises(InvalidInputError, match=said):
        partition(labels, 3, "ring", seed=0)


def test_a_class_is_called_by_its_name_where_one_is_given() -> None:
    with pytest.raises(InvalidInputError, match=r"images of class hare \(1\) are shared by 2 clients"):
        partition(np.array([0, 0, 1]), 2, "ring", seed=0, class_names=("fox", "hare"))


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="seed is -1"):
        partition(np.arange(10), 2, "iid", seed=-1)


@pytest.mark.parametrize("labels", [np.zeros((3, 2), dtype=np.int64), np.zeros(4)])
def test_labels_must_be_one_integer_per_image(labels: Labels) -> None:
    with pytest.raises(InvalidInputError, match=r"labels is .*; expected integers of shape \(T,\)"):
        partition(labels, 2, "iid", seed=0)


@given(labels=labelled_sets(), seed=SEEDS, data=st.data())
def test_disjoint_gives_every_class_to_one_client_and_every_client_neighbouring_classes(
    labels: Labels, seed: int, data: st.DataObject
) -> None:
    classes = int(labels.max()) + 1
    clients = data.draw(st.integers(1, classes))
    held = [sorted(_classes(labels, part)) for part in partition(labels, clients, "disjoint", seed=seed)]
    assert [label for classes_held in held for label in classes_held] == list(range(classes))
    assert max(map(len, held)) - min(map(len, held)) <= 1


def test_disjoint_of_five_clients_and_ten_classes_gives_each_two() -> None:
    labels = np.arange(100) % 10
    parts = partition(labels, 5, "disjoint", seed=0)
    assert [_classes(labels, part) for part in parts] == [{0, 1}, {2, 3}, {4, 5}, {6, 7}, {8, 9}]
    assert [len(part) for part in parts] == [20] * 5


def test_disjoint_serves_no_more_clients_than_classes() -> None:
    with pytest.raises(InvalidInputError, match="clients is 11; expected at most 10, or the partition iid"):
        partition(np.arange(100) % 10, 11, "disjoint", seed=0)


def shares(alpha: float, seed: int) -> NDArray[np.float64]:
    """The share of each of 200 classes that each of 5 clients has."""
    labels = np.repeat(np.arange(200), 400)
    parts = partition(labels, 5, f"dirichlet:{alpha}", seed=seed)
    return np.array([np.bincount(labels[part], minlength=200) / 400 for part in parts]).T


@pytest.mark.parametrize("alpha", [0.1, 0.5, 1.0, 10.0])
def test_dirichlet_shares_have_the_mean_and_the_variance_of_the_distribution(alpha: float) -> None:
    share_CN = shares(alpha, seed=3)
    assert share_CN.mean(axis=0) == pytest.approx([0.2] * 5, abs=0.06)
    variance = 0.2 * 0.8 / (5 * alpha + 1)  # of Beta(alpha, 4 alpha)
    assert share_CN.var(axis=0).mean() == pytest.approx(variance, rel=0.15)


def test_dirichlet_draws_again_until_every_client_has_an_image() -> None:
    labels = np.arange(40) % 2
    for seed in range(50):
        assert min(map(len, partition(labels, 6, "dirichlet:0.3", seed=seed))) > 0


def test_a_concentration_that_leaves_clients_without_an_image_is_refused() -> None:
    said = (
        r"clients is 10; expected fewer, or a larger alpha: in 1000 draws of dirichlet:0.001 a client got no"
    )
    with pytest.raises(InvalidInputError, match=said):
        partition(np.arange(100) % 2, 10, "dirichlet:0.001", seed=0)


@pytest.mark.parametrize("alpha", ["0", "-1", "inf", "nan", "much", ""])
def test_a_concentration_is_a_finite_number_above_0(alpha: str) -> None:
    with pytest.raises(InvalidInputError, match=r"scheme is|alpha is"):
        partition(np.arange(100) % 2, 2, f"dirichlet:{alpha}", seed=0)
