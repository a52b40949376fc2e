"""The tables that people write: every line is a row, an empty line or an error that names it."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bserkit import UsageError
from bserkit.corpora.table_file import read_cells, read_table

NEEDED = ("path", "label")


@pytest.fixture
def table(tmp_path):
    def write(text, encoding="utf-8", name="list.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return path

    return write


def test_rows_have_line_numbers_and_the_columns(table):
    path = table("note,Path,LABEL\n\nx,a.wav, joy \n  \ny,b.wav,fear\n")
    assert read_table(path, NEEDED, ["start"]) == [
        (3, {"path": "a.wav", "label": "joy", "start": ""}),
        (5, {"path": "b.wav", "label": "fear", "start": ""}),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_that_finds_columns(table, delimiter):
    others = "".join({",", ";", "\t", "|"} - {delimiter})
    path = table(f"path{delimiter}note{others}more{delimiter}label\na.wav{delimiter}x{delimiter}joy, mild; or so\n")
    if delimiter in ",;":
        path = table(f"path{delimiter}note{others}more{delimiter}label\na{delimiter}x{delimiter}joy\n")
    assert [cells["label"][:3] for _, cells in read_table(path, NEEDED)] == ["joy"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_encodings_of_spreadsheets_are_read(table, encoding):
    path = table("path\tlabel\na.wav\tcolère\n", encoding)
    assert read_table(path, NEEDED) == [(2, {"path": "a.wav", "label": "colère"})]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("path,label\nä,joy\n".encode("latin-1"), r"is not UTF-8 text \(.* at byte 11\)\. Save it as UTF-8"),
        ("path,label\n".encode("utf-16-le"), r"is not UTF-8 text \(it holds zero bytes\)"),
    ],
)
def test_other_encodings_are_refused(table, content, reason):
    with pytest.raises(UsageError, match=f"The folds file .*list.csv {reason}"):
        read_table(table(content), NEEDED, what="The folds file")


def test_a_table_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"none\.csv cannot be read: No such file"):
        read_table(tmp_path / "none.csv", NEEDED)


def test_line_end_lookalikes_end_no_line(table):
    path = table("path,note,label\r\na.wav,one\u2028two\x0bthree\x85,joy\r\n")
    assert read_table(path, NEEDED) == [(2, {"path": "a.wav", "label": "joy"})]


def test_a_column_named_twice_is_refused(table):
    with pytest.raises(UsageError, match=r"names the column label 2 times, as its columns 2, 4; only one"):
        read_table(table("path,label,note,Label\na.wav,joy,,1\n"), NEEDED)
    assert read_table(table("path,label,note,note\na.wav,joy,,1\n"), NEEDED)


@pytest.mark.parametrize("row", ["b.wav,well, no,joy", "b.wav,joy", "b.wav,well, no,"])
def test_a_row_that_may_be_shifted_is_refused(table, row):
    path = table(f"path,note,label\na.wav,yes,joy\n{row}\nc.wav,yes,joy\n{row}\n")
    with pytest.raises(UsageError) as caught:
        read_table(path, NEEDED)
    cells = f"{row.count(',') + 1} cells"
    assert f"line 3: it has {cells}, the header 3. So it is with 1 more line, such as line 5." in str(caught.value)
    assert "A text that holds a comma goes in double quotes" in str(caught.value)


def test_a_quoted_cell_may_hold_anything(table):
    path = table('path,note,label\n"a, b.wav","so, ""no""\nshe said\n\n""never"" or so",joy\nc.wav,"",fear\n')
    assert read_table(path, (*NEEDED, "note")) == [
        (2, {"path": "a, b.wav", "label": "joy", "note": 'so, "no"\nshe said\n\n"never" or so'}),
        (6, {"path": "c.wav", "label": "fear", "note": ""}),
    ]


@pytest.mark.parametrize("delimiter", ["\t", ","])
@pytest.mark.parametrize("strays", [(2,), (2, 3), (2, 4), (3, 5), (5,)])
def test_a_stray_quotation_mark_swallows_no_row(table, delimiter, strays):
    lines = [["path", "note", "label"]]
    lines += [[f"{n}.wav", '"so he said' if n in strays else "fine", "joy"] for n in range(2, 6)]
    path = table("\n".join(map(delimiter.join, lines)))
    assert [(number, cells["path"]) for number, cells in read_table(path, NEEDED)] == [
        (n, f"{n}.wav") for n in range(2, 6)
    ]


def test_a_mark_that_ends_a_later_row_swallows_none(table):
    path = table('path,note,label\na.wav,"so he,joy\nb.wav,fine,fear\nc.wav,said",sad\n')
    assert [cells["label"] for _, cells in read_table(path, NEEDED)] == ["joy", "fear", "sad"]


@pytest.mark.parametrize("row", ['a.wav,yes,"joy', '"a.wav,yes,joy', 'a.wav,"well, yes,joy', 'a.wav,yes,"joy" x'])
def test_an_open_quote_in_a_read_column_is_refused(table, row):
    with pytest.raises(UsageError, match="line 3: a quotation mark opens a cell and is not closed"):
        read_table(table(f"path,note,label\nb.wav,yes,joy\n{row}\nc.wav,yes,joy\n"), NEEDED)


def test_a_table_without_known_columns_gives_cells(table):
    assert read_cells(table('1;"a;b";x\n2;"c";y\n')) == [["1", "a;b", "x"], ["2", "c", "y"]]
    assert read_cells(table("")) == []
    with pytest.raises(UsageError, match="line 2: it has 2 cells, the header 3"):
        read_cells(table("1;2;3\n4;5\n"))


TEXT = st.text(st.sampled_from("ab ,;\t|\"'é\u2028"), max_size=6)


@given(st.lists(st.tuples(TEXT, TEXT), max_size=6), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"]))
def test_what_a_csv_writer_writes_is_read_back(tmp_path_factory, rows, delimiter, line_end):
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator=line_end)
    writer.writerows([("path", "label", "note"), *((f"{n}.wav", *row) for n, row in enumerate(rows))])
    path = tmp_path_factory.getbasetemp() / "written.csv"
    path.write_bytes(buffer.getvalue().encode())
    expected = [(n + 2, f"{n}.wav", label.strip(), note.strip()) for n, (label, note) in enumerate(rows)]
    found = [(number, *cells.values()) for number, cells in read_table(path, ("path", "label", "note"))]
    assert found == expected


@given(st.lists(st.text(st.sampled_from('ab,"'), max_size=12), max_size=8))
def test_every_line_is_a_row_or_the_table_is_refused(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "random.csv"
    path.write_text("\n".join(["path,note,label", *lines]))
    try:
        rows = read_table(path, NEEDED)
    except UsageError:
        return
    numbers = [number for number, _ in rows]
    # Lines that are missing are empty, or go on with a quoted cell and could not be rows.
    for number, line in enumerate(lines, start=2):
        assert number in numbers or not line or line.count(",") != 2 or '"' in line
