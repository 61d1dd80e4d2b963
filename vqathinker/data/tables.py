"""Tables as spreadsheets save them: comma, semicolon or tab, UTF-8 or UTF-16, spaces and empty rows aside."""

from __future__ import annotations

import codecs
import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from vqathinker.data.formats import LabelError, number_of, read_text, repeated

SUFFIXES = (".csv", ".tsv", ".txt")
DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab"}
SPREADSHEETS = (".xlsx", ".xlsm", ".xls", ".ods", ".numbers")
NOTHING = ("", "na", "n/a", "-", "nan")
"""What a cell without a number says, in lower case."""

_DECIMAL_COMMA = re.compile(r"[-+]?[0-9]+,[0-9]+")


@dataclass(frozen=True)
class Table:
    """A table with a header.

    Attributes:
        path: Its file.
        delimiter: What separates its cells: ",", ";" or a tab.
        header: Names of its columns, spaces around them cut.
        rows: Line of the file and the cells by column, of every row that holds something; spaces around cells are cut.
    """

    path: Path
    delimiter: str
    header: tuple[str, ...]
    rows: tuple[tuple[int, dict[str, str]], ...]

    def place(self, line: int) -> str:
        """For messages: `file:line`."""
        return f"{self.path}:{line}"

    def number(self, cell: str) -> float | None:
        """The number in a cell, `None` where it says that there is none; "3,5" is 3.5 unless commas separate cells.

        Raises:
            ValueError: If it is something else, or not finite.
        """
        if cell.lower() in NOTHING:
            return None
        decimal_comma = self.delimiter != "," and _DECIMAL_COMMA.fullmatch(cell)
        return number_of(cell.replace(",", ".") if decimal_comma else cell)

    def is_number(self, cell: str) -> bool:
        """Whether a cell holds a number."""
        try:
            return self.number(cell) is not None
        except ValueError:
            return False


def read_table(path: Path) -> Table:
    """Read a table. What separates its cells is what cuts the header line into the most cells.

    Args:
        path: Text in UTF-8 (with or without BOM) or UTF-16 with BOM; LF or CRLF. Blank rows are passed over.

    Raises:
        LabelError: If it cannot be read, is a spreadsheet's own file, has no row or no second column, or if a row does
            not have the cells that the header names.
    """
    text = _table_text(path)
    first = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(DELIMITERS, key=lambda sign: len(next(csv.reader([first], delimiter=sign), [])))
    lines: list[tuple[int, list[str]]] = []
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True, strict=True)
    try:
        for cells in reader:
            lines.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise LabelError(f"{path}:{reader.line_num}: the row's quotes do not match ({error}); correct them.") from None
    (_, header), *rows = [(line, cells) for line, cells in lines if any(cells)] or [(0, [])]
    while header and not header[-1]:
        header.pop()
    _check_header(path, header)
    if not rows:
        raise LabelError(f"{path}: there are no rows below the header {header}; write one for each clip.")
    cut = tuple((line, _row(f"{path}:{line}", header, cells, delimiter)) for line, cells in rows)
    return Table(path, delimiter, tuple(header), cut)


def _table_text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            start = file.read(2)
        if start == b"PK" or path.suffix.lower() in SPREADSHEETS:
            raise LabelError(f"table {str(path)!r} is a spreadsheet: save it as CSV and pass that file.")
        if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return path.read_text(encoding="utf-16")
        return read_text(path)
    except OSError as error:
        raise LabelError(f"table {str(path)!r} cannot be read ({error.strerror}); check its permissions.") from None
    except UnicodeDecodeError as error:
        raise LabelError(f"table {str(path)!r} is not complete UTF-16 ({error}); save it as UTF-8.") from None


def _check_header(path: Path, header: list[str]) -> None:
    if not header:
        raise LabelError(f"table {str(path)!r} is empty; the first line must be a header.")
    if len(header) == 1:
        raise LabelError(
            f"{path}: the header {header[0][:80]!r} has one column; separate the columns with commas, semicolons or "
            "tabs."
        )
    if "" in header:
        raise LabelError(f"{path}: column {header.index('') + 1} of {header} has no name: name or remove it.")
    if twice := repeated([name.lower() for name in header]):
        raise LabelError(f"{path}: the header {header} names the columns {twice} more than once: rename the others.")


def _row(place: str, header: list[str], cells: list[str], delimiter: str) -> dict[str, str]:
    while len(cells) > len(header) and not cells[-1]:
        cells = cells[:-1]
    if len(cells) != len(header):
        hint = " Numbers with decimal commas need semicolons between the columns." if delimiter == "," else ""
        raise LabelError(
            f"{place}: the row has {len(cells)} cells, the header {len(header)}; give both the same number.{hint}"
        )
    return dict(zip(header, cells, strict=True))
