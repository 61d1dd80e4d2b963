import base64
import io
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from vqathinker.clips import ClipError, seen_of, write_video
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


@pytest.mark.parametrize(("height", "width", "scale"), [(96, 120, 1), (384, 480, 2)])
def test_a_line_goes_around_what_the_policy_sees(height, width, scale, tmp_path):
    write_video(tmp_path / "a.mp4", np.zeros((2, height, width, 3), np.uint8), 8)

    def picture(seen):
        Report("x", clips=[ShownClip("x", str(tmp_path / "a.mp4"), {}, 2, seen)]).write(tmp_path / "r.html")
        html = (tmp_path / "r.html").read_text(encoding="utf-8")
        [data] = re.findall(r"data:image/png;base64,([^\"]+)", html)
        return html, np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))).max(-1) > 128

    html, lit = picture(lambda w, h: seen_of(w, h, 64, "center_crop"))
    assert f"The policy sees the central 64x64 of {width}x{height}," in html and ": the framed part." in html
    left, right = round((width - 64) / 2 / scale), round((width + 64) / 2 / scale)
    top, bottom = round((height - 64) / 2 / scale), round((height + 64) / 2 / scale)
    expected = np.zeros((round(height / scale), round(width / scale)), bool)
    thick = round(height / scale / 96)
    expected[top - thick : bottom + thick, left - thick : right + thick] = True
    expected[top:bottom, left:right] = False
    assert np.array_equal(lit, np.concatenate([expected, expected], axis=1))  # once in each of both frames
    for whole in (None, lambda w, h: seen_of(w, h, 64, "resize")):
        html, lit = picture(whole)
        assert "The policy sees" not in html and not lit.any()


def test_a_missing_clip_is_named(tmp_path):
    with pytest.raises(ClipError, match=r"gone\.mp4"):
        Report("x", clips=[ShownClip("x", str(tmp_path / "gone.mp4"), {})]).write(tmp_path / "r.html")
