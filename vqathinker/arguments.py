"""The parser of commands and recipes: `-` and `_` are one, nothing is guessed, typos are answered with what is near."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from vqathinker.wording import did_you_mean

OTHERS = argparse.Action([], "options", nargs="*", metavar="OPTION")
"""Stands in the usage for all options that may be left out."""
METAVARS = {"int": "N", "float": "X", "str": "TEXT", "Path": "PATH", "string_to_bool": "true|false"}
OPTION = re.compile(r"\A--[A-Za-z][\w-]*(?==|\Z)")


class Help(argparse.RawDescriptionHelpFormatter):
    """Usage in one line, short names of values, and each default once."""

    def __init__(self, prog: str, **settings: Any) -> None:
        settings.setdefault("max_help_position", 34)
        super().__init__(prog, **settings)

    def add_usage(self, usage: Any, actions: Iterable[Any], groups: Iterable[Any], prefix: str | None = None) -> None:
        """What must be given; the list below has the rest."""
        either = [action for group in groups if group.required for action in group._group_actions]
        needed = [a for a in actions if a.required or not a.option_strings or a in either]
        super().add_usage(usage, [*needed, OTHERS], groups, prefix)

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        known = METAVARS.get(getattr(action.type, "__name__", ""))
        return known or super()._get_default_metavar_for_optional(action)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        several = action.nargs == argparse.ONE_OR_MORE  # argparse's own is twice as long
        return f"{action.metavar or default_metavar} ..." if several else super()._format_args(action, default_metavar)

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        is_option = action.option_strings and action.nargs != 0
        if not is_option or "default" in text.lower() or action.default in (None, "", [], argparse.SUPPRESS):
            return text
        text = re.sub(r"(?<!\.)\.\Z", "", text)
        return f"{text}; default %(default)s" if text else "default %(default)s"


class Parser(argparse.ArgumentParser):
    """Takes `--some_option` for `--some-option`, no abbreviations, and says what an unknown name may have meant."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        settings.setdefault("formatter_class", Help)
        settings.setdefault("allow_abbrev", False)
        super().__init__(*args, **settings)

    def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, but what is unknown ends in an error, with the usage of this very command."""
        args = dashed(sys.argv[1:] if args is None else args)
        handing_on = [action for action in self._actions if action.nargs in (argparse.PARSER, argparse.REMAINDER)]
        if not handing_on:
            self.refuse_options(args)
        elif handing_on[0].choices:
            self._refuse_commands(args, list(handing_on[0].choices))
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(f"unknown argument {rest[0]!r}: see --help.")
        return found, rest

    def _refuse_commands(self, args: Iterable[str], known: Sequence[str]) -> None:
        name = next((arg for arg in args if not arg.startswith("-")), None)
        if name is not None and name not in known:
            self.error(f"unknown command {name}: {did_you_mean(name, known)}")

    def refuse_options(self, args: Iterable[str]) -> None:
        """End with an error for an unknown option, before argparse misses what a misspelt one would have given.

        Args:
            args: With `-` in the names of options.
        """
        for arg in args:
            if arg == "--":
                return
            name = arg.partition("=")[0]
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                known = [other for other in self._option_string_actions if "_" not in other]
                self.error(f"unknown option {name}: {did_you_mean(name, known)}")


def dashed(args: Iterable[str]) -> list[str]:
    """Arguments with `-` for `_` in the names of options; values, and all behind a `--`, stay as they are."""
    args = list(args)
    end = args.index("--") if "--" in args else len(args)
    return [OPTION.sub(lambda name: name[0].replace("_", "-"), arg) for arg in args[:end]] + args[end:]


def add_command(
    commands: argparse._SubParsersAction, name: str, text: str, examples: Sequence[str], note: str = "", **settings: Any
) -> argparse.ArgumentParser:
    """Register a command of `vqathinker`.

    Args:
        commands: Those of the main parser.
        name: What is typed.
        text: What it does, for the list of commands and its own help.
        examples: What can be typed behind the name.
        note: What its help says last, in lines of up to 98 characters.
        settings: Of the parser.
    """
    lines = ["examples:", *(f"  vqathinker {name} {example}" for example in examples), *([note] if note else [])]
    return commands.add_parser(name, help=text, description=text, epilog="\n".join(lines), **settings)
