"""The `vqathinker` command."""

from __future__ import annotations

import argparse
import sys

from vqathinker import __version__, missing_extra
from vqathinker.cli import asking, data, evaluating, fitting, scoring, training


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: Arguments, default `sys.argv[1:]`.

    Returns:
        Exit code: 0; 1 where something could not be scored or answered, or a policy or a data set is not sane; or 2
        when the input is wrong, with one line that says what.
    """
    parser = argparse.ArgumentParser(prog="vqathinker", description=__doc__)
    parser.add_argument("--version", action="version", version=f"vqathinker {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    scoring.add_commands(commands)
    evaluating.add_commands(commands)
    asking.add_commands(commands)
    data.add_commands(commands)
    fitting.add_commands(commands)
    training.add_commands(commands)
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "train":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    try:
        return options.run(options) or 0
    except ModuleNotFoundError as error:
        known = missing_extra(error, "train" if options.command in ("train", "fit") else "score")
        print(f"vqathinker {options.command}: {known}", file=sys.stderr)
        return 2
    except (ValueError, OSError, ImportError) as error:
        print(f"vqathinker {options.command}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"vqathinker {options.command}: stopped", file=sys.stderr)
        return 130
