"""Collect what users are told, errors, warnings, lines and help texts, into dev/messages.txt, to be read aloud.

python dev/messages.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("vqathinker", "rewards", "perturb", "recipes")
SPEAKING = {"print", "say", "warn", "warning", "info", "error", "write", "add_note", "_write"}
"""Functions and methods whose texts people read."""
KEYWORDS = {"help", "description", "epilog"}


def text_of(node: ast.AST) -> str:
    """The text of a string or f-string, what is put in as {source}; "" of anything else."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(
            part.value if isinstance(part, ast.Constant) else "{" + ast.unparse(part.value) + "}"
            for part in node.values
            if isinstance(part, ast.Constant | ast.FormattedValue)
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return text_of(node.left) + text_of(node.right)
    return ""


def texts(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and text of every message."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield from ((node.lineno, text_of(argument)) for argument in node.exc.args)
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in SPEAKING or name.endswith("Error"):
                yield from ((node.lineno, text_of(argument)) for argument in node.args)
            yield from ((node.lineno, text_of(k.value)) for k in node.keywords if k.arg in KEYWORDS)
        if isinstance(node, ast.Dict):  # metadata={"help": ...}
            pairs = zip(node.keys, node.values, strict=True)
            yield from ((value.lineno, text_of(value)) for key, value in pairs if key and text_of(key) == "help")


def collect() -> list[str]:
    """`FILE: TEXT`, each once, in the order of files and lines."""
    lines: dict[str, None] = {}
    for file in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        found = sorted(texts(ast.parse(file.read_text(encoding="utf-8"))))
        for _, text in found:
            if len(text.split()) > 1:
                lines[f"{file.relative_to(ROOT)}: {' '.join(text.split())}"] = None
    return list(lines)


if __name__ == "__main__":
    (ROOT / "dev" / "messages.txt").write_text("\n".join(collect()) + "\n", encoding="utf-8")
