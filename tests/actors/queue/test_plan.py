"""The plan: every row in exactly one part, in order, under a name that depends on nothing but the plan."""

from __future__ import annotations

import pickle
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actors.messages import SourceFile, Start
from actors.queue.plan import Plan, choose_rows_per_part, part_name


def files(*rows: int) -> tuple[SourceFile, ...]:
    return tuple(SourceFile(f"/in/{i}", f"{i}", "parquet", n, n, "00") for i, n in enumerate(rows))


PLANS = st.builds(
    Plan,
    files=st.lists(st.integers(0, 60), max_size=6).map(lambda rows: files(*rows)),
    rows_per_part=st.integers(1, 25),
    rows_per_batch=st.integers(1, 80),
    limit=st.none() | st.integers(1, 250),
)


# --- every row once ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=300)
@given(PLANS)
@example(Plan((), 5, 7))
@example(Plan(files(0, 0), 5, 7))
@example(Plan(files(10, 10), 5, 7, limit=0))
def test_parts_cover_every_row_once_and_in_order(plan: Plan) -> None:
    parts = [plan.part(index) for index in range(plan.parts)]
    covered = [
        (plan.file_of(part.index), part.offset + i, part.first_row + i) for part in parts for i in range(part.rows)
    ]
    rows = [(file, offset) for file, source in enumerate(plan.files) for offset in range(source.rows)]
    rows = rows[: plan.limit]
    assert covered == [(file, offset, position) for position, (file, offset) in enumerate(rows)]
    assert plan.rows == len(rows)
    assert plan.rows_of(range(plan.parts)) == len(rows)


@settings(deadline=None)
@given(PLANS)
def test_no_part_is_empty_too_long_or_crosses_a_cut(plan: Plan) -> None:
    for index in range(plan.parts):
        part = plan.part(index)
        assert part.index == index
        assert 0 < part.rows <= plan.rows_per_part
        assert part.offset + part.rows <= plan.files[plan.file_of(index)].rows
        first, last = part.first_row, part.first_row + part.rows - 1
        assert first // plan.rows_per_batch == last // plan.rows_per_batch


@settings(deadline=None)
@given(PLANS)
def test_names_are_unique_and_sort_like_the_rows(plan: Plan) -> None:
    names = [plan.part(index).name for index in range(plan.parts)]
    assert names == sorted(set(names))


@settings(deadline=None)
@given(PLANS)
def test_data_batches_add_up_to_the_whole(plan: Plan) -> None:
    slices = [plan.parts_of_batch(number) for number in range(1, plan.batches + 1)]
    assert (
        [index for each in slices for index in each] == list(plan.parts_of_batch(None)) == list(range(plan.parts))
    )
    for number, each in enumerate(slices, 1):
        expected = min(plan.rows_per_batch, plan.rows - (number - 1) * plan.rows_per_batch)
        assert plan.rows_of(each) == expected
        assert plan.part(each[0]).first_row == (number - 1) * plan.rows_per_batch
    assert not len(plan.parts_of_batch(plan.batches + 1))
    assert not len(plan.parts_of_batch(plan.batches + 100))


@settings(deadline=None)
@given(PLANS, st.data())
def test_rows_of_any_parts(plan: Plan, data: st.DataObject) -> None:
    indexes = sorted(data.draw(st.sets(st.integers(0, max(0, plan.parts - 1)), max_size=plan.parts)))
    assert plan.rows_of(np.array(indexes, np.int64)) == sum(plan.part(index).rows for index in indexes)


@settings(deadline=None)
@given(PLANS, st.data())
def test_a_part_is_known_by_its_name_and_by_no_other(plan: Plan, data: st.DataObject) -> None:
    some = data.draw(st.sets(st.sampled_from(range(plan.parts)), max_size=20)) if plan.parts else set()
    there = {plan.part(index).name for index in range(plan.parts)}
    near = st.builds(part_name, st.integers(0, len(plan.files) + 1), st.integers(0, 300) | st.just(10**13))
    others = data.draw(st.sets(near | st.sampled_from(["", "part-000000-000000000000.parquet"]))) - there
    names = [*(plan.part(index).name for index in some), *others]
    assert plan.indexes_of(names).tolist() == sorted(some)


def test_names_do_not_change_with_what_comes_after_or_how_much_is_asked_for() -> None:
    """A limit, a further file and a data batch's size move no part's name: names tell file and row."""
    plan = Plan(files(100, 30), 10, 1000)
    names = {plan.part(i).name for i in range(plan.parts)}
    assert plan.part(0).name == "part-00000-000000000000.parquet"
    assert plan.part(10).name == "part-00001-000000000000.parquet"
    assert plan.part(12).name == "part-00001-000000000020.parquet"
    more = Plan(files(100, 30, 50), 10, 1000)
    less = Plan(files(100, 30), 10, 1000, limit=45)
    assert names < {more.part(i).name for i in range(more.parts)}
    assert names > {less.part(i).name for i in range(less.parts)}


def test_a_lease_is_consecutive_parts_with_their_file() -> None:
    plan = Plan(files(25, 40), 10, 1000)
    lease = plan.lease(3, 3)
    assert lease.file == plan.files[1]
    assert [(part.index, part.offset, part.first_row) for part in lease.parts] == [
        (3, 0, 25),
        (4, 10, 35),
        (5, 20, 45),
    ]


# --- where reading starts ---------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    rows=st.integers(1, 200),
    rows_per_part=st.integers(1, 30),
    points=st.sets(st.integers(1, 199), max_size=20),
)
def test_reading_starts_at_the_last_checkpoint_before_the_part(
    rows: int, rows_per_part: int, points: set[int]
) -> None:
    checkpoints = [Start(0, 0, 3), *(Start(row, row + 2, row * 10 + 3) for row in sorted(points) if row < rows)]
    table = np.array([astuple(each) for each in checkpoints], np.int64)
    plan = Plan(files(rows), rows_per_part, 50, None, (table,))
    for index in range(plan.parts):
        part = plan.part(index)
        assert part.start == [each for each in checkpoints if each.row <= part.offset][-1]


def test_files_with_and_without_checkpoints_side_by_side() -> None:
    none = np.zeros((0, 4), np.int64)
    plan = Plan(files(20, 20), 10, 1000, None, (none, np.array([(0, 0, 0, 0), (10, 12, 777, 5)], np.int64)))
    assert [plan.part(i).start for i in range(4)] == [Start(), Start(), Start(), Start(10, 12, 777, 5)]


# --- size -------------------------------------------------------------------------------------------------------


def test_a_billion_rows_in_a_thousand_files_are_a_small_plan() -> None:
    plan = Plan(files(*[1_000_000] * 1000), 16384, 1_000_000)
    last = plan.part(plan.parts - 1)
    assert plan.rows == last.first_row + last.rows == 1_000_000_000
    assert plan.rows_of(range(plan.parts)) == plan.rows
    assert plan.batches == 1000
    assert len(pickle.dumps(plan)) < 2_000_000


@settings(deadline=None)
@given(PLANS, st.sampled_from([10, 10**6, 10**9]))
def test_a_plan_of_many_more_rows_is_no_larger(plan: Plan, times: int) -> None:
    """All counts times the same: the same parts, so many times as long, at the same cost."""
    larger = Plan(
        files(*(file.rows * times for file in plan.files)),
        plan.rows_per_part * times,
        plan.rows_per_batch * times,
        plan.limit and plan.limit * times,
    )
    for index in range(plan.parts):
        small, large = plan.part(index), larger.part(index)
        assert (large.offset, large.first_row, large.rows) == tuple(
            times * value for value in (small.offset, small.first_row, small.rows)
        )
    assert (larger.parts, larger.batches) == (plan.parts, plan.batches)
    numbers = 3 + 2 * len(plan.files)
    assert len(pickle.dumps(larger)) <= len(pickle.dumps(plan)) + 8 * numbers


def test_a_plan_survives_pickling() -> None:
    plan = Plan(files(25, 0, 40), 10, 35, 60)
    before = [plan.part(index) for index in range(plan.parts)]
    again = pickle.loads(pickle.dumps(plan))
    assert [again.part(index) for index in range(again.parts)] == before


# --- rows in a part ---------------------------------------------------------------------------------------------


@given(rows=st.integers(0, 10**12), dim=st.integers(1, 8192), element=st.sampled_from([2, 4]))
def test_rows_per_part_are_a_power_of_two_within_bounds(rows: int, dim: int, element: int) -> None:
    chosen = choose_rows_per_part(rows, dim * element)
    assert chosen.bit_count() == 1
    assert 512 <= chosen <= 16384
    assert chosen * dim * element <= 32 << 20
    if chosen > 512:
        assert rows // chosen >= 32, "enough parts for a pool to share"


@pytest.mark.parametrize(
    ("rows", "dim", "expected"),
    [(10**9, 256, 16384), (10**9, 768, 8192), (10**9, 4096, 2048), (100_000, 768, 2048), (10, 768, 512)],
)
def test_rows_per_part_of_usual_corpora(rows: int, dim: int, expected: int) -> None:
    assert choose_rows_per_part(rows, dim * 4) == expected
