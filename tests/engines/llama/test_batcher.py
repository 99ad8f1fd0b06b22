"""Who shares the next step: tables and properties over plain integers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.engines.llama.batcher import TILE_TOKENS, Budget, Debt, Plan, Share, may_admit, plan_step

BATCH_TOKENS = 512


@pytest.mark.parametrize(
    ("debts", "budget", "free", "expected"),
    [
        ([], 64, 100, Plan(())),
        ([Debt(1, 1, 9), Debt(2, 1, 9)], 64, 100, Plan((Share(1, 1), Share(2, 1)))),
        ([Debt(1, 500, 0), Debt(2, 1, 9)], 64, 1000, Plan((Share(2, 1), Share(1, 63)))),
        ([Debt(1, 40, 0), Debt(2, 400, 0)], 64, 1000, Plan((Share(1, 40), Share(2, 24)))),
        ([Debt(1, 40, 0), Debt(2, 40, 0), Debt(3, 40, 0)], 64, 1000, Plan((Share(1, 40), Share(2, 40)))),
        ([Debt(1, 127, 0)], 64, 1000, Plan((Share(1, 127),))),
        ([Debt(1, 128, 0)], 64, 1000, Plan((Share(1, 64),))),
        ([Debt(1, 127, 0)], 64, 100, Plan((Share(1, 64),))),
        ([Debt(1, 1, 9), Debt(2, 512, 0)], 512, 1000, Plan((Share(1, 1), Share(2, 511)))),
        ([Debt(1, 500, 0)], 64, 10, Plan((Share(1, 10),))),
        ([Debt(1, 1, 9), Debt(2, 1, 9), Debt(3, 1, 7)], 64, 2, Plan((Share(1, 1), Share(2, 1)), (3,))),
        ([Debt(1, 5, 9), Debt(2, 5, 9)], 64, 0, Plan((Share(1, 5),), (2,))),
    ],
    ids=[
        *("nobody", "singles", "streams-first", "arrival-order", "small-rest", "largest-rest", "large-rest"),
        *("rest-without-room", "rest-beyond-the-batch", "small-room", "preempt-youngest", "no-room-to-prefill"),
    ],
)
def test_a_situation_has_one_plan(debts: list[Debt], budget: int, free: int, expected: Plan) -> None:
    """Streams first, prompts in chunks by arrival and none that leaves a small rest, the youngest gives way."""
    assert plan_step(debts, budget, free, BATCH_TOKENS) == expected


debts = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 200)), min_size=1, max_size=12).map(
    lambda pairs: [Debt(index, owed, held) for index, (owed, held) in enumerate(pairs)]
)


@given(debts, st.integers(1, 256), st.integers(0, 600))
def test_a_plan_stays_within_budget_room_and_debt(all_debts: list[Debt], budget: int, free: int) -> None:
    """No plan computes more than the budget and a small rest, the batch, the room after preemption, or what is owed."""
    batch = min(2 * budget, BATCH_TOKENS)
    plan = plan_step(all_debts, budget, free, batch)
    owed = {debt.key: debt.owed_tokens for debt in all_debts}
    held = {debt.key: debt.held_cells for debt in all_debts}
    assert plan.tokens <= min(batch, free + sum(held[key] for key in plan.preempted))
    assert plan.tokens < budget + TILE_TOKENS
    assert all(0 < share.tokens <= owed[share.key] for share in plan.shares)
    assert len({share.key for share in plan.shares}) == len(plan.shares)
    assert not {share.key for share in plan.shares} & set(plan.preempted)


@given(debts, st.integers(1, 256), st.integers(1, 600))
def test_a_plan_makes_progress_while_there_is_room(all_debts: list[Debt], budget: int, free: int) -> None:
    """With a cell free, somebody computes something, and the oldest is never preempted."""
    plan = plan_step(all_debts, budget, free, BATCH_TOKENS)
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
