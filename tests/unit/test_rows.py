"""Rows of csv files as typed objects: whatever they hold is read back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bserkit.errors import BserkitError
from bserkit.rows import column, read_rows, write_rows

# Text that a csv file can hold: any but half characters, which are no UTF-8, and the nothing that ends C's text.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
NUMBERS = st.floats(allow_nan=False)


@dataclass(frozen=True)
class Told:
    name: str = column("A name.", older="called")
    count: int = column("A number.")
    right: bool = column("A yes or no.")
    weight: float | None = column("A number, or none.")
    who: tuple[str, ...] = column("Several names.", older="speakers")
    shares: Mapping[str, float] = column("One a key.", begin="share_")
    later: str = column("What older files lack.", default="nothing")


ROWS = st.lists(
    st.builds(
        Told,
        name=TEXT,
        count=st.integers(),
        right=st.booleans(),
        weight=st.none() | NUMBERS,
        who=st.lists(TEXT, max_size=3).map(tuple),
        shares=st.dictionaries(TEXT, NUMBERS, max_size=3),
        later=TEXT,
    ),
    max_size=4,
)


@given(ROWS)
def test_rows_are_read_back_as_they_were_written(rows):
    assert read_rows(Told, write_rows(Told, rows)) == rows


ONE = Told("a", 1, True, None, ("ann lee", "bob"), {"name": 0.5})


def test_a_key_may_be_called_as_a_column_is():
    text = write_rows(Told, [ONE])
    assert text.splitlines()[0] == "name,count,right,weight,who,later,share_name"
    assert read_rows(Told, text) == [ONE]


def test_older_files_are_read_by_their_older_columns():
    older = "called,count,right,weight,speakers\nb,2,0,,ann bob\n"
    assert read_rows(Told, older) == [Told("b", 2, False, None, ("ann", "bob"), {}, "nothing")]


def test_no_rows_leave_a_header():
    assert write_rows(Told, []) == "name,count,right,weight,who,later\n"
    assert read_rows(Told, write_rows(Told, [])) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,count\na,1\n", "there is no column 'right', but name, count"),
        ("", "there is no column 'name'"),
        (write_rows(Told, [replace(ONE, count=1)]).replace("a,1", "a,one"), "line 2: invalid literal"),
    ],
)
def test_a_damaged_file_is_an_error_that_says_where(text, said):
    with pytest.raises(BserkitError, match=said):
        read_rows(Told, text)
