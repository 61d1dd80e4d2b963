"""BRISQUE as a baseline; runs where the extra `baselines` is installed."""

import csv
import math

import pytest
from PIL import Image

pytest.importorskip("brisque")
from benchmarks import baselines


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_brisque_scores_harder_compressed_pictures_lower(tmp_path, monkeypatch, capsys):
    from skimage import data

    qualities = (90, 40, 20, 8)
    for quality in qualities:
        Image.fromarray(data.astronaut()[:256, :256]).save(tmp_path / f"{quality}.jpg", quality=quality)
    Image.new("RGB", (64, 64), (128, 128, 128)).save(tmp_path / "flat.png")
    names = [*(f"{quality}.jpg" for quality in qualities), "flat.png"]
    rows = [f"{name},one,{place},{5 - place}" for place, name in enumerate(names)]
    (tmp_path / "m.csv").write_text("video,source,crf,mos\n" + "\n".join(rows) + "\n")
    out = tmp_path / "scores.csv"
    monkeypatch.setattr("sys.argv", ["baselines", str(tmp_path / "m.csv"), "--frames", "1", "--out", str(out)])
    baselines.main()
    with out.open(newline="") as file:
        scores = [float(row["score"]) for row in csv.DictReader(file)]
    assert scores[:4] == sorted(scores[:4], reverse=True) and -100 < scores[3] < scores[0] - 20
    assert math.isnan(scores[4])
    text = capsys.readouterr().out
    assert "SRCC with the labels: 1.000, 4 of 5 clips" in text and "| all " in text
    # 6 pairs of the four in the right order, 4 with the picture that has no score
    assert [cell.strip() for cell in text.split("| all ")[1].split("|")[1:6]] == ["6", "0", "0", "4", "0.000"]
