"""Text for people."""

import pytest

from diffrelax.results.tables import aligned_table, counted, harmless, markdown_table


@pytest.mark.parametrize(
    ("n", "what", "said"),
    [
        (1, "geometry", "1 geometry"),
        (2, "geometry", "2 geometries"),
        (0, "gradient call", "0 gradient calls"),
        (1, "gradient call", "1 gradient call"),
    ],
)
def test_counts_have_the_right_number(n: int, what: str, said: str) -> None:
    assert counted(n, what) == said


def test_a_formula_in_a_cell_of_csv_is_text() -> None:
    assert [*map(harmless, ("=1+1", "@SUM(A1)", "-x", "-1.5", "CCO", 3))] == [
        "'=1+1", "'@SUM(A1)", "'-x", "-1.5", "CCO", 3,
    ]  # fmt: skip


def test_a_cell_of_two_lines_leaves_its_row_whole() -> None:
    rows = [("name", "energy"), ("two\nlines", "-1.0"), ("b", "-20.0")]
    assert aligned_table(rows).splitlines() == [
        "name       energy",
        "two lines    -1.0",
        "b           -20.0",
    ]
    assert markdown_table(rows[0], rows[1:]).splitlines()[2] == "| two lines | -1.0 |"
