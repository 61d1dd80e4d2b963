"""`python -m rewards.adapters NAME`: the path of an adapter, and the line of configuration that takes it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = sorted(path.stem for path in HERE.glob("[a-z]*.py") if path.stem not in ("core", "errors"))
USAGE = "python -m rewards.adapters NAME"


def described(name: str) -> str:
    """The path of an adapter's file, and what the file says about itself: indented are the lines of configuration.

    `{path}` in its docstring is the file's path. The file is read, not imported: its framework need not be installed.
    """
    path = HERE / f"{name}.py"
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return f"{path}\n\n{text.replace('{path}', str(path))}"


def main(arguments: list[str]) -> int:
    """Print what belongs to one name; the names without one. Returns the exit code."""
    if len(arguments) == 1 and arguments[0] in NAMES:
        sys.stdout.write(described(arguments[0]) + "\n")  # at once: `| head -n 1` closes the pipe
        return 0
    if arguments in ([], ["-h"], ["--help"]):
        print(f"{USAGE}, NAME one of {', '.join(NAMES)}: prints the path and the line of configuration.")
        return 0
    print(f"{USAGE}: {' '.join(arguments)!r} must be one of {', '.join(NAMES)}.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
