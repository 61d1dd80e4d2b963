"""Check a built wheel: what it ships under two names, the version's tag, and that it runs where it alone is installed.

python dev/check_wheel.py dist/vqathinker-0.1.0-py3-none-any.whl
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TWICE = ("rewards", "perturb")
"""Packages that are shipped as vqathinker.rewards and vqathinker.perturb too, see vqathinker/_names.py."""
BOTH_NAMES = "import rewards, vqathinker.rewards as ours; assert ours is rewards; rewards.preset('paper')"
TRIED = (["python", "-c", BOTH_NAMES], ["vqathinker", "--version"], ["vqathinker", "--help"])


def unequal(wheel: Path) -> list[str]:
    """Files of `TWICE` that the wheel lacks, or does not hold alike under both names."""
    with zipfile.ZipFile(wheel) as archive:
        held = {name: archive.read(name) for name in archive.namelist()}
    files = [path for name in TWICE for path in (ROOT / name).rglob("*") if path.suffix in (".py", ".typed")]
    names = [path.relative_to(ROOT).as_posix() for path in files]
    return [name for name in names if name not in held or held[name] != held.get(f"vqathinker/{name}")]


def version_errors(version: str, tags: list[str], changelog: str, citation: str) -> list[str]:
    """What breaks the rule on versions (CONTRIBUTING.md, "Releases").

    Args:
        version: The wheel's.
        tags: Tags of the commit; those that do not begin with "v" and a digit are no versions.
        changelog: Text of CHANGELOG.md.
        citation: Text of CITATION.cff.
    """
    errors = []
    if f"\nversion: {version}\n" not in citation:
        errors.append(f"CITATION.cff has another version than the wheel's {version}: write `version: {version}` there")
    released = [tag for tag in tags if tag[:1] == "v" and tag[1:2].isdigit()]
    if wrong := [tag for tag in released if tag != f"v{version}"]:
        errors.append(
            f"the commit is tagged {', '.join(wrong)}, its version is {version}: tag it v{version}, or change "
            "`__version__` in vqathinker/__init__.py before it is tagged"
        )
    if released and f"\n## {version}" not in changelog:
        errors.append(f"the commit is tagged and CHANGELOG.md has no heading `## {version}`: rename `## Unreleased`")
    return errors


def tags_of_head() -> list[str]:
    """Tags of the commit at hand; none outside a repository."""
    done = subprocess.run(["git", "tag", "--points-at", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.split()


def try_in_clean_venv(wheel: Path) -> None:
    """Install the wheel and numpy into a new environment and run `TRIED` there, away from the sources."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        commands = (
            ["python", "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)],
            *TRIED,
        )
        for name, *arguments in commands:
            print("+", name, *arguments, flush=True)
            subprocess.run([Path(folder, "bin", name), *arguments], cwd=folder, check=True)


def main(wheel: Path) -> int:
    """Check all, tell what is wrong."""
    version = wheel.name.split("-")[1]
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("CHANGELOG.md", "CITATION.cff")]
    errors = version_errors(version, tags_of_head(), *texts)
    errors += [f"{name} is missing, or another file as vqathinker/{name}: see setup.cfg" for name in unequal(wheel)]
    for error in errors:
        print(error, file=sys.stderr)
    if not errors:
        try_in_clean_venv(wheel.resolve())
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
