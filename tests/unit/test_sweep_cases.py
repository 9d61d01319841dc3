"""What the sweep runs is made of the product's own steps: a change of these is noticed without a fleet."""

import cases
import pytest


def test_each_case_has_a_name_of_its_own():
    names = [str(case) for case in cases.every()]
    assert len(names) == len(set(names)) > 500


@pytest.mark.parametrize("run", ["migrate", "rollback"])
def test_every_point_of_a_run_is_in_some_case(run):
    assert set(cases.points(run)) == {case.point for case in cases.every() if case.run == run}


def test_what_a_commit_chooses_is_part_of_all_with_all_that_has_ever_failed():
    chosen = cases.chosen("0123456")
    assert set(cases.failed_before()) <= set(chosen) <= set(cases.every())
    assert chosen == cases.chosen("0123456") != cases.chosen("654321")


def test_parts_are_the_whole():
    parts = [case for part in range(1, 4) for case in cases.chosen(f"{part}/3")]
    assert sorted(map(str, parts)) == sorted(map(str, cases.every()))
