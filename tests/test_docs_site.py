"""The site of mkdocs.yml: each page has its place, each link leads somewhere, on GitHub and on the site."""

import os
import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

SITE = "dev/site"


class Loader(yaml.SafeLoader):
    """Reads mkdocs.yml without the packages that it names."""


Loader.add_multi_constructor("tag:yaml.org,2002:python/", lambda *_: None)


def pages_of(nav):
    """Paths in a `nav`, in order."""
    for entry in nav:
        values = entry.values() if isinstance(entry, dict) else [entry]
        for value in values:
            yield from pages_of(value) if isinstance(value, list) else [value]


@pytest.fixture
def nav(repo):
    return list(pages_of(yaml.load((repo / "mkdocs.yml").read_text(encoding="utf-8"), Loader)["nav"]))


@cache
def prose(page):
    """A page's text without code."""
    text = re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", lambda code: code[0].replace("](", "] ("), text)


@cache
def anchors(page):
    """Those that GitHub gives a page's headings: https://github.com/gjtorikian/html-pipeline, toc_filter.rb."""
    found = []
    for heading in re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        anchor = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        before = sum(re.fullmatch(rf"{re.escape(anchor)}(-\d+)?", other) is not None for other in found)
        found.append(f"{anchor}-{before}" if before else anchor)
    return found


def test_every_page_has_its_place_in_the_navigation(repo, nav):
    pages = {page.relative_to(repo).as_posix() for page in (repo / "docs").rglob("*.md")}
    assert len(pages) >= 20 and len(nav) == len(set(nav))
    assert pages - set(nav) == set(), "have no place in mkdocs.yml"
    assert {"README.md", "CHANGELOG.md", "CONTRIBUTING.md", "dev/LOG.md"} <= set(nav)
    assert [page for page in nav if not (repo / SITE / page).samefile(repo / page)] == []


def test_every_link_leads_somewhere_on_github_and_on_the_site(repo, nav):
    wrong, seen = [], 0
    for page in nav:
        for target in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", prose(repo / page)):
            name, _, anchor = target.partition("#")
            path = os.path.normpath(Path(page).parent / name) if name else page
            seen += 1
            if not (repo / path).is_file() or not (repo / SITE / path).is_file():
                wrong.append(f"{page}: {target} is no file, or has no place in {SITE}")
            elif anchor and anchor not in anchors(repo / path):
                wrong.append(f"{page}: {target} names no heading")
    assert seen > 150 and wrong == []


def test_the_reference_names_what_the_packages_give(repo):
    import vqathinker

    page = (repo / "docs/api/vqathinker.md").read_text(encoding="utf-8")
    named = re.findall(r"^::: vqathinker\.(\w+)$", page, re.MULTILINE)
    assert sorted(named) == sorted(set(vqathinker.__all__) - {"__version__"})


class Page(HTMLParser):
    """The headings' ids, and what a browser loads without a click."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.loaded = set(), []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids.add(attrs.get("id"))
        self.loaded += [attrs.get("src")] if tag != "link" else [attrs.get("href")]


@pytest.mark.engine
def test_the_site_builds_without_a_warning_and_loads_nothing_from_elsewhere(repo, tmp_path):
    for package in ("mkdocs", "material", "mkdocstrings"):
        pytest.importorskip(package, reason=f"{package} is not installed: make install EXTRAS=dev,docs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=repo, capture_output=True, text=True, timeout=600, env=env)
    assert done.returncode == 0 and "WARNING" not in done.stderr, done.stderr[-3000:]
    pages = {path.relative_to(tmp_path).as_posix(): Page(path.read_text()) for path in tmp_path.rglob("*.html")}
    loaded = {url for page in pages.values() for url in page.loaded if url}
    assert len(loaded) > 5 and [url for url in loaded if re.match(r"(https?:)?//", url)] == []
    assert not [path for path in tmp_path.rglob("*.css") if re.search(r"url\(.?https?:", path.read_text())]
    import rewards

    told = {
        name.rpartition(".")[2] for name in pages["docs/api/rewards.html"].ids if name and name.startswith("rewards.")
    }
    assert sorted(set(rewards.__all__) - told) == []
    assert "vqathinker.QualityScorer.score" in pages["docs/api/vqathinker.html"].ids
