"""Seeding again gives the draws of MONAI."""

from __future__ import annotations

import copy
import pickle

import numpy as np
from monai.transforms import Randomizable

from pssr2_monai.randomness import Seeded


def test_draws_are_those_of_monai() -> None:
    ours, theirs = Seeded(), Randomizable()
    for seed in (0, 7, 2**32 - 1, 2**32 + 5, np.uint32(9)):
        for _ in range(2):
            expected = theirs.set_random_state(seed=seed).R.uniform(size=700)
            np.testing.assert_array_equal(ours.set_random_state(seed=seed).R.uniform(size=700), expected)


def test_a_shared_state_is_shared_and_not_seeded_afterwards() -> None:
    state = np.random.RandomState(3)
    ours = Seeded().set_random_state(state=state)
    assert ours.R is state
    before = state.get_state()[1].copy()
    ours.set_random_state(seed=1)
    np.testing.assert_array_equal(state.get_state()[1], before)


def test_copies_draw_for_themselves() -> None:
    ours = Seeded().set_random_state(seed=1)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        first = other.set_random_state(seed=2).R.uniform()
        np.testing.assert_array_equal(ours.set_random_state(seed=1).R.uniform(), np.random.RandomState(1).uniform())
        assert first == np.random.RandomState(2).uniform()
    unseeded = {Seeded().set_random_state().R.uniform() for _ in range(3)}
    assert len(unseeded) == 3
