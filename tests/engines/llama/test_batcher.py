"""Who shares the next step: tables and properties over plain integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.batcher import Budget, Debt, Passes, Plan, Share, may_admit, plan_step


@pytest.mark.parametrize(
    ("debts", "budget", "free", "expected"),
    [
        ([], 64, 100, Plan(())),
        ([Debt(1, 1, 9), Debt(2, 1, 9)], 64, 100, Plan((Share(1, 1), Share(2, 1)))),
        ([Debt(1, 500, 0), Debt(2, 1, 9)], 64, 1000, Plan((Share(2, 1), Share(1, 63)))),
        ([Debt(1, 40, 0), Debt(2, 40, 0)], 64, 1000, Plan((Share(1, 40), Share(2, 24)))),
        ([Debt(1, 500, 0)], 64, 10, Plan((Share(1, 10),))),
        ([Debt(1, 1, 9), Debt(2, 1, 9), Debt(3, 1, 7)], 64, 2, Plan((Share(1, 1), Share(2, 1)), (3,))),
        ([Debt(1, 5, 9), Debt(2, 5, 9)], 64, 0, Plan((Share(1, 5),), (2,))),
    ],
    ids=["nobody", "singles", "streams-first", "arrival-order", "small-room", "preempt-youngest", "no-room-to-prefill"],
)
def test_a_situation_has_one_plan(debts: list[Debt], budget: int, free: int, expected: Plan) -> None:
    """Streams first, prompts in chunks by arrival, the youngest gives way."""
    assert plan_step(debts, budget, free) == expected


debts = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 200)), min_size=1, max_size=12).map(
    lambda pairs: [Debt(index, owed, held) for index, (owed, held) in enumerate(pairs)]
)


@given(debts, st.integers(1, 256), st.integers(0, 600))
def test_a_plan_stays_within_budget_room_and_debt(all_debts: list[Debt], budget: int, free: int) -> None:
    """No plan computes more than the budget, the room after preemption, or what a sequence owes."""
    plan = plan_step(all_debts, budget, free)
    owed = {debt.key: debt.owed_tokens for debt in all_debts}
    held = {debt.key: debt.held_cells for debt in all_debts}
    assert plan.tokens <= min(budget, free + sum(held[key] for key in plan.preempted))
    assert all(0 < share.tokens <= owed[share.key] for share in plan.shares)
    assert len({share.key for share in plan.shares}) == len(plan.shares)
    assert not {share.key for share in plan.shares} & set(plan.preempted)


@given(debts, st.integers(1, 256), st.integers(1, 600))
def test_a_plan_makes_progress_while_there_is_room(all_debts: list[Debt], budget: int, free: int) -> None:
    """With a cell free, somebody computes something, and the oldest is never preempted."""
    plan = plan_step(all_debts, budget, free)
    assert plan.tokens > 0
    assert all_debts[0].key not in plan.preempted


def test_a_waiting_prompt_starts_when_it_fits_beside_the_running_ones() -> None:
    """Room for the prompt and one more token of everyone; alone, always."""
    assert may_admit(10, running=2, free_cells=13)
    assert not may_admit(10, running=2, free_cells=12)
    assert may_admit(10, running=0, free_cells=0)


def test_the_budget_follows_the_measured_speed_only_beside_streams() -> None:
    """Alone a prompt fills whole batches; beside streams a step lasts about as long as it may."""
    budget = Budget(512, step_seconds=0.1)
    assert budget.tokens(streaming=0) == 512
    assert budget.tokens(streaming=4) == 68
    budget.learn(500, seconds=0.5)
    assert budget.tokens(streaming=4) == 100
    budget.learn(1, seconds=5.0)
    assert budget.tokens(streaming=4) == 100
    assert budget.tokens(streaming=0) == 512


def step(singles: int, piece: int) -> Plan:
    return Plan((*(Share(key, 1) for key in range(singles)), Share(99, piece)))


def choices(passes: Passes, plan: Plan, seconds: dict[bool, float], times: int) -> list[bool]:
    """What was chosen in so many steps that took these seconds apart and together."""
    chosen = []
    for _ in range(times):
        chosen.append(passes.apart(plan))
        passes.learn(plan, chosen[-1], seconds[chosen[-1]])
    return chosen


@pytest.mark.parametrize("faster", [True, False], ids=["apart", "together"])
def test_streams_and_pieces_are_computed_in_the_way_that_was_faster(faster: bool) -> None:
    """After an early look at each, the slower way is only looked at again from time to time."""
    chosen = choices(Passes(), step(8, 100), {faster: 0.1, not faster: 0.2}, 2 + 2 * Passes.EXPLORE_EVERY)
    early = Passes.LOOK_AFTER + 1
    assert set(chosen[:early]) == {True, False}
    assert chosen[early:].count(not faster) == 2


def test_a_way_that_becomes_the_faster_one_is_found() -> None:
    """What was learned long ago does not stay true for ever."""
    passes, plan = Passes(), step(8, 100)
    choices(passes, plan, {True: 0.1, False: 0.2}, 10)
    chosen = choices(passes, plan, {True: 0.2, False: 0.1}, 10 * Passes.EXPLORE_EVERY)
    assert chosen[-Passes.EXPLORE_EVERY :].count(False) >= Passes.EXPLORE_EVERY - 1


def test_each_size_of_step_learns_for_itself() -> None:
    """A piece beside one stream and one beside many are different things."""
    passes = Passes()
    choices(passes, step(1, 60), {True: 0.2, False: 0.1}, 8)
    choices(passes, step(14, 60), {True: 0.1, False: 0.2}, 8)
    assert not passes.apart(step(1, 50))
    assert passes.apart(step(15, 63))


def test_a_new_size_of_step_begins_as_the_one_most_like_it_goes() -> None:
    """The first steps of each size are no experiment where a similar size has been tried."""
    passes = Passes()
    choices(passes, step(8, 100), {True: 0.2, False: 0.1}, 8)
    choices(passes, step(60, 500), {True: 0.1, False: 0.2}, 8)
    assert not passes.apart(step(4, 100))
    assert passes.apart(step(60, 200))


def test_prompts_alone_begin_apart_only_where_each_part_fills_a_tile() -> None:
    """Small prompts that arrive together read the weights once; of large ones the first has its token first."""
    small, large = (Plan(tuple(Share(key, tokens) for key in range(9))) for tokens in (30, 200))
    assert not Passes().apart(small)
    assert Passes().apart(large)


def test_a_step_of_one_part_is_one_pass() -> None:
    """Streams alone, and prompts alone, need no choice."""
    passes = Passes()
    assert not passes.apart(Plan((Share(1, 1), Share(2, 1))))
    assert not passes.apart(Plan((Share(1, 40),)))


def test_the_parts_of_a_step_are_its_streams_and_its_prompts() -> None:
    """Whoever is computed first has its token first; small pieces fill a tile together, and none is left alone."""
    plan = Plan((Share(3, 1), Share(4, 1), Share(1, 40), Share(2, 25)))
    assert plan.parts == ((Share(3, 1), Share(4, 1)), (Share(1, 40), Share(2, 25)))
    assert Plan((Share(1, 100), Share(2, 64), Share(3, 64))).parts == (
        (Share(1, 100),),
        (Share(2, 64),),
        (Share(3, 64),),
    )
    thirties = [Share(key, 30) for key in range(7)]
    assert Plan(tuple(thirties)).parts == (tuple(thirties[:3]), tuple(thirties[3:]))
    assert Plan((Share(9, 1), *thirties[:2])).parts == ((Share(9, 1),), tuple(thirties[:2]))
    assert Plan(()).parts == ()


def test_drafted_tokens_are_part_of_their_stream() -> None:
    """Guesses do not make a stream a prompt."""
    assert len(Plan((Share(1, 5, 4), Share(2, 1))).parts) == 1
