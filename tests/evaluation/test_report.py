import re
import shutil
import subprocess

import pytest

from vqathinker.clips import ClipError
from vqathinker.evaluation.plots import plot_scatter
from vqathinker.evaluation.report import Report, ShownClip, Table

EVIL = "<think><script>document.title='owned'</script><img src=x onerror=alert(1)></think><answer>3.20</answer>"


@pytest.fixture
def page(tmp_path, train_rows):
    plot_scatter({"after": ([1, 2], [1, 2])}, tmp_path / "a.png")
    Report(
        "Page <1>",
        {"command": "python x.py --seed 0"},
        [Table("Scores", ["phase", "srcc"], [["sft", 0.81234], ["grpo", None], ["x", float("nan")]], "a note")],
        {"Scatter": tmp_path / "a.png"},
        [ShownClip("clip & label", train_rows[0].video, {"before: 3.20": EVIL, "after: no score": "no answer"})],
    ).write(tmp_path / "report.html")
    return tmp_path / "report.html"


def test_the_page_is_self_contained_and_escaped(page):
    html = page.read_text(encoding="utf-8")
    assert "<script" not in html and "&lt;script&gt;" in html and "<img src=x" not in html
    assert "Page &lt;1&gt;" in html and "clip &amp; label" in html
    assert "0.812" in html and html.count("<td>-</td>") == 2
    assert "before: 3.20" in html and "after: no score" in html
    assert html.count("data:image/png;base64,") == 2 and html.count("data:video/mp4;base64,") == 1
    assert not re.search(r"(src|href)=\"(?!data:)", html)


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_a_real_browser_shows_it(page, tmp_path):
    browser = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}/profile"]
    shot = tmp_path / "shot.png"
    subprocess.run(
        [*browser, "--window-size=1200,1400", f"--screenshot={shot}", page.as_uri()], check=True, timeout=120
    )
    assert shot.stat().st_size > 10_000
    dom = subprocess.run(
        [*browser, "--dump-dom", page.as_uri()], check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert "<title>Page &lt;1&gt;</title>" in dom  # the script in the reasoning did not run


def test_large_and_unplayable_clips_are_shown_by_their_frames(tmp_path, train_rows):
    shutil.copy(train_rows[0].video, tmp_path / "a.mkv")
    clip = ShownClip("x", str(tmp_path / "a.mkv"), {"a: 4.20": "<answer>4.2</answer>"})
    Report("x", clips=[clip]).write(tmp_path / "r.html")
    html = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "<video" not in html and "data:image/png" in html and "a: 4.20" in html


def test_a_missing_clip_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"gone\.mp4"):
        Report("x", clips=[ShownClip("x", str(tmp_path / "gone.mp4"), {})]).write(tmp_path / "r.html")
