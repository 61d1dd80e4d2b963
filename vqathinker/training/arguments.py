"""What the recipes read from the command line and a YAML file: their own options, and those of TRL behind these."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml
from trl import TrlParser

from vqathinker.arguments import Parser, dashed
from vqathinker.wording import did_you_mean

COMMON = (
    *("output_dir", "max_steps", "num_train_epochs", "learning_rate", "per_device_train_batch_size"),
    *("num_generations", "steps_per_generation", "max_completion_length", "beta", "temperature", "use_vllm", "seed"),
    *("logging_steps", "save_steps", "eval_steps", "report_to", "frame_cache", "resume_from_checkpoint"),
)
"""Options of the configuration that the short help shows, where the configuration has them."""
SELDOM = {
    *("lora_dropout", "lora_modules_to_save", "use_rslora", "bnb_4bit_quant_type", "use_bnb_nested_quant"),
    *("order_min_difference", "pairs_tau", "pairs_min_rank", "val_pairs", "compare_weight", "score_head"),
    "val_rotations",
    *("ask", "level_words"),
    *("unfreeze", "overwrite_output_dir"),
}
"""Options of a recipe that it does not show."""
FRAME = ("help", "help_all", "config")


class RecipeParser(Parser, TrlParser):
    """TRL's parser, whose help is in sections, which knows no key or option that is not used, and takes `""` for an
    empty list.

    Args:
        arguments: Dataclass of the recipe's own options.
        config: Dataclass of the trainer's.
        everything: Whether the help shows all of the latter.
        settings: Of the parser.
    """

    def __init__(self, arguments: type, config: type, everything: bool = False, **settings: Any) -> None:
        super().__init__((arguments, config), **settings)
        self.add_argument("--config", metavar="FILE.yaml", help="options by name; the command line overrides them")
        self.add_argument(
            "--help-all", action="help", help="show all options, including TRL's and transformers', and exit"
        )
        own = {option.name for option in fields(arguments)} - SELDOM
        self.sections = {"options": FRAME, "options of this recipe": own, "options of the training": COMMON}
        if everything:
            shown = {*FRAME, *own, *COMMON}
            self.sections["other options, TRL's and transformers'"] = {action.dest for action in self._actions} - shown
        for action in self._actions:
            action.option_strings = [name for name in action.option_strings if "_" not in name]
            if not everything:  # the first sentence is enough
                action.help = re.split(r"\.\s+(?=[A-Z])", action.help or "")[0]

    def format_help(self) -> str:
        """The sections, in the order of their options."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for title, names in self.sections.items():
            formatter.start_section(title)
            formatter.add_arguments([action for action in self._actions if action.dest in names])
            formatter.end_section()
        formatter.add_text(self.epilog)
        return formatter.format_help()

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        """As argparse's; of an option whose default is a list, `""` alone is the empty list, which else only a YAML
        file could name."""
        if arg_strings == [""] and action.nargs == argparse.ONE_OR_MORE and isinstance(action.default, list):
            return []
        return super()._get_values(action, arg_strings)

    def set_defaults_with_config(self, **settings: Any) -> list[str]:
        """What a YAML file says, with `-` or `_`."""
        return super().set_defaults_with_config(**{key.replace("-", "_"): value for key, value in settings.items()})

    def check_config(self, file: str) -> None:
        """End with an error for a file that is not there, is no YAML mapping, or has a key that is no option's."""
        try:
            settings = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            self.error(f"--config {file} cannot be read: {' '.join(str(error).split())}")
        if not isinstance(settings, dict):
            self.error(f"--config {file}: must be a mapping of options, such as max_steps: 100.")
        known = {action.dest for action in self._actions} - {*FRAME}
        seen = set()
        for key in settings:
            name = str(key).replace("-", "_")
            if name not in known | {"env"}:
                self.error(f"unknown key {key} in {file}: {did_you_mean(name, sorted(known))}")
            if name in seen:
                self.error(f"{file} has {name} twice, with - and with _. Keep one of them.")
            seen.add(name)


def lacks_config(argv: Sequence[str], arguments: type, config: type) -> bool:
    """Whether a recipe's command line names no YAML file, and does not ask for help either.

    An unknown option ends the process already here, before anything is made for a run that would end so.

    Args:
        argv: The command line.
        arguments: See `parse_recipe`.
        config: See `parse_recipe`.
    """
    argv = dashed(argv)
    RecipeParser(arguments, config).refuse_options(argv)
    return not any(arg.partition("=")[0] in ("--config", "--help", "--help-all", "-h") for arg in argv)


def parse_recipe(argv: Sequence[str], arguments: type, config: type, description: str | None = None) -> tuple[Any, Any]:
    """A recipe's own options and the trainer's, from the command line and the file that `--config` names.

    The command line goes before the file. `-` and `_` are one. What is unknown, here or there, ends the process with
    one line that names the nearest option, and exit code 2.

    Args:
        argv: The command line.
        arguments: Dataclass of the recipe's own options.
        config: Dataclass of the trainer's, `VQAGRPOConfig` or `VQASFTConfig`.
        description: What the recipe does, with examples, for `--help`.

    Returns:
        An object of each.

    Raises:
        ValueError: If a setting breaks a rule of either class.
    """
    argv = dashed(argv)
    parser = RecipeParser(arguments, config, "--help-all" in argv, description=description)
    first = argparse.ArgumentParser(parser.prog, argparse.SUPPRESS, add_help=False, allow_abbrev=False)
    first.add_argument("--config")
    found, rest = first.parse_known_args(argv)  # TRL's parser takes no --config=FILE
    if found.config is not None:
        parser.check_config(found.config)
        rest = ["--config", found.config, *rest]
    own, of_training, *_ = parser.parse_args_and_config(rest)
    return own, of_training
