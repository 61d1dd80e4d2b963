"""`vqathinker.rewards` and `vqathinker.perturb`: `rewards` and `perturb` under names that nothing shadows.

Both are top-level packages, for `import rewards` in anybody's script. But a user's own `rewards.py`, or another package
of this name, may hide them. Where nothing does, both names give the same modules; where something does, ours are loaded
from their files under the longer name.
"""

from __future__ import annotations

import filecmp
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
PREFIX = "vqathinker."
NAMES = ("rewards", "perturb")


class Aliases(MetaPathFinder, Loader):
    """Finds both packages, and modules of them, under the longer name."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Part of importlib's protocol."""
        short = name.removeprefix(PREFIX)
        package = short.partition(".")[0]
        if not name.startswith(PREFIX) or package not in NAMES:
            return None
        if not shadowed(package):
            own = find_spec(short)
            return own and ModuleSpec(
                name, self, origin=own.origin, is_package=own.submodule_search_locations is not None
            )
        if short != package:
            return None  # found in the package's folder
        folder = home(package)
        return spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])

    def create_module(self, spec: ModuleSpec) -> None:
        """Part of importlib's protocol: none is made, `exec_module` finds one."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of the short name in the place of an empty one."""
        sys.modules[module.__name__] = import_module(module.__name__.removeprefix(PREFIX))

    def get_code(self, name: str) -> CodeType | None:
        """Part of runpy's protocol, for `python -m vqathinker.rewards.adapters`."""
        own = find_spec(name.removeprefix(PREFIX))
        return own.loader.get_code(own.name) if own and isinstance(own.loader, InspectLoader) else None


def home(package: str) -> Path:
    """Its folder: in an installation a copy that another package of this name does not overwrite."""
    return HERE / package if (HERE / package).exists() else HERE.parent / package


def shadowed(package: str) -> bool:
    """Whether `import rewards` gives something else than our package, or nothing."""
    loaded = sys.modules.get(package)
    spec = find_spec(package) if loaded is None else loaded.__spec__
    origin = Path("" if spec is None or spec.origin is None else spec.origin)
    return not origin.is_file() or not filecmp.cmp(origin, home(package) / "__init__.py", shallow=False)


if not any(isinstance(finder, Aliases) for finder in sys.meta_path):
    sys.meta_path.insert(0, Aliases())
