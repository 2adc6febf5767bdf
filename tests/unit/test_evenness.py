"""Which connections move so that all workers have about as many."""

from hypothesis import given
from hypothesis import strategies as st

from clusterd.master.sockets.rebalancing import PAUSE_SECONDS, Move, Rebalancing, plan


@given(st.lists(st.integers(0, 10_000), min_size=2, max_size=40))
def test_afterwards_no_two_differ_by_more_than_one(counts: list[int]) -> None:
    after = dict(enumerate(counts))
    moves = plan(after)
    for move in moves:
        assert move.connections > 0
        after[move.giver] -= move.connections
        after[move.taker] += move.connections
    assert sum(after.values()) == sum(counts)
    assert max(after.values()) - min(after.values()) <= 1
    assert not {move.giver for move in moves} & {move.taker for move in moves}
    assert len(moves) < len(counts)


def test_a_new_worker_gets_its_share() -> None:
    assert plan({1: 15, 2: 15, 3: 0}) == [Move(1, 3, 5), Move(2, 3, 5)]


def test_nothing_moves_while_all_have_about_as_many_or_something_is_on_its_way() -> None:
    rebalancing = Rebalancing()
    assert rebalancing.moves({1: 1, 2: 0}, 100.0) == []
    assert rebalancing.moves({1: 100, 2: 80}, 100.0) == []
    assert rebalancing.moves({1: 7}, 100.0) == []
    assert rebalancing.moves({1: 2, 2: 0}, 100.0) == [Move(1, 2, 1)]
    assert rebalancing.moves({1: 9, 2: 0}, 100.0 + PAUSE_SECONDS / 2) == []
    assert rebalancing.moves({1: 9, 2: 0}, 100.0 + PAUSE_SECONDS) == [Move(1, 2, 4)]
