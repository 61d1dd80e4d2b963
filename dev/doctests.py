"""A griffe extension for the site (mkdocs.yml): doctests of docstrings are shown as code."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^( *)>>> .*?(?=\n\s*\n|\Z)", re.MULTILINE | re.DOTALL)


class Doctests(griffe.Extension):
    """Markdown takes `>>>` for a quotation inside a quotation, and `x[0][1]` in it for a link."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Part of griffe's protocol: called with each module, class and function."""
        if obj.docstring:
            obj.docstring.value = DOCTEST.sub(r"\1```pycon\n\g<0>\n\1```", obj.docstring.value)
