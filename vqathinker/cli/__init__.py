"""The `vqathinker` command."""

from __future__ import annotations

import sys

from vqathinker import __version__, missing_extra
from vqathinker.arguments import Parser
from vqathinker.cli import (
    asking,
    calibrating,
    chat,
    comparing,
    data,
    evaluating,
    fitting,
    ladder,
    scoring,
    synth,
    timeline,
    training,
)

ABOUT = "Judge video quality with a multimodal LLM, and train one to do it."
EXTRAS = {"train": "train", "fit": "train", "chat": "chat"}
"""Command -> extra that it needs beside the packages of `score`."""
EPILOG = """examples:
  vqathinker score clips/ --csv scores.csv
  vqathinker eval --labels test.csv --videos clips/ --model models/mine
See `vqathinker COMMAND --help` for more on each command."""


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: Arguments, default `sys.argv[1:]`.

    Returns:
        Exit code: 0; 1 where something could not be scored or answered, or a policy or a data set is not sane; or 2
        when the input is wrong, with one line that says what.
    """
    options = make_parser().parse_args(argv)
    try:
        return options.run(options) or 0
    except ModuleNotFoundError as error:
        known = missing_extra(error, EXTRAS.get(options.command, "score"))
        print(f"vqathinker {options.command}: {known}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"vqathinker {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"vqathinker {options.command}: stopped", file=sys.stderr)
        return 130


def make_parser() -> Parser:
    """The parser of all commands; of each it keeps, as `run`, the function that runs it."""
    parser = Parser(prog="vqathinker", description=ABOUT, epilog=EPILOG)
    parser.add_argument("--version", action="version", version=f"vqathinker {__version__}")
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, prog="vqathinker", title="commands"
    )
    for group in (
        scoring,
        calibrating,
        timeline,
        chat,
        comparing,
        evaluating,
        asking,
        ladder,
        data,
        fitting,
        training,
        synth,
    ):
        group.add_commands(commands)
    return parser
