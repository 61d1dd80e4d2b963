import json
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from vqathinker.cli import main
from vqathinker.clips import write_video
from vqathinker.data import LabelError, LabelRow, Sample, mos_scale
from vqathinker.data.check import check_data, quick_check, scale_findings
from vqathinker.training.preflight import preflight


def write_clip(path, seed, count=8, size=32):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8))


@pytest.fixture
def folder(tmp_path):
    """Twelve sound clips 0.mp4 ... 11.mp4 and their labels, 1 to 5."""
    for number in range(12):
        write_clip(tmp_path / f"{number}.mp4", number)
    write_labels(tmp_path / "train.csv", {f"{n}.mp4": 1 + n / 3 for n in range(12)})
    return tmp_path


def write_labels(path, labels, **columns):
    """`labels`: name -> MOS; further columns are texts, one a row."""
    lines = [",".join(("video", "mos", *columns))]
    rows = zip(labels.items(), *columns.values(), strict=True)
    lines += [",".join((name, str(mos), *cells)) for (name, mos), *cells in rows]
    path.write_text("\n".join(lines) + "\n")


def ffmpeg(*arguments, frames=None):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y"]
    if frames is not None:
        command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{frames.shape[2]}x{frames.shape[1]}", "-i", "-"]
    command += map(str, arguments)
    subprocess.run(command, input=None if frames is None else frames.tobytes(), check=True)


def rows(*labels):
    return [LabelRow(f"/v/{i}.mp4", f"{i}.mp4", float(mos)) for i, mos in enumerate(labels)]


def told(findings):
    return " | ".join(finding.text() for finding in findings if finding.problem)


def test_a_sound_set_is_fine(folder, capsys):
    assert main(["check-data", str(folder / "train.csv"), "--mos-scale", "linear:1,5"]) == 0
    out = capsys.readouterr().out
    assert "12 clips with labels from 1 to 4.66667" in out and "fine: no problems" in out
    assert "Whether a higher label is better cannot be known" in out and "100 - DMOS" in out
    assert out.count("#") > 10 and "PROBLEM" not in out


def test_a_set_without_a_scale_does_not_end_fine(folder, capsys):
    assert main(["check-data", str(folder / "train.csv")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no problems but the scale, without which nothing trains"


def test_clips_that_training_would_stumble_over_are_told_with_count_examples_and_fix(folder, capsys):
    (folder / "0.mp4").unlink()
    (folder / "1.mp4").write_bytes(b"no video")
    write_clip(folder / "2.mp4", 2, count=3)
    (folder / "3.mp4").write_bytes((folder / "4.mp4").read_bytes())
    out = folder / "page"
    assert main(["check-data", str(folder / "train.csv"), "--mos-scale", "linear:1,5", "--out", str(out)]) == 1
    shown = capsys.readouterr().out
    assert "PROBLEM  1 of 12 files is missing: 0.mp4. Add the file, or remove its row." in shown
    assert "1 clip cannot be read: 1.mp4 (no readable video" in shown
    assert "1 clip has fewer than 6 frames: 2.mp4 (3)" in shown
    assert "1 clip appears under two or more names: 3.mp4 = 4.mp4 (label 2 and 2.33333)" in shown
    assert "4 problems that training would run into" in shown
    page = (out / "report.html").read_text()
    assert "is missing" in page and "linear:1,5" in page
    assert len((out / "clips.csv").read_text().splitlines()) == 13
    assert (out / "labels.png").exists() and "data:image/png" in page


def test_a_file_that_fails_in_another_way_does_not_end_the_check(folder, monkeypatch):
    def odd(path):
        raise MemoryError("too large")

    monkeypatch.setattr("vqathinker.data.check_clips.open_clip", odd)
    result = check_data(folder / "train.csv", folder, "linear:1,5")
    assert "12 clips cannot be read: 0.mp4 (MemoryError: too large)" in told(result.findings)


def test_the_same_pictures_in_another_container_are_the_same_content(folder):
    ffmpeg("-i", folder / "4.mp4", "-c", "copy", folder / "copy.mkv")
    write_labels(folder / "train.csv", {"4.mp4": 3, "copy.mkv": 3, "5.mp4": 2})
    assert "4.mp4 = copy.mkv (label 3)" in told(check_data(folder / "train.csv", folder, "linear:1,5").findings)


def test_what_is_done_to_frames_is_a_note_and_no_problem(folder):
    hdr = ("-c:v", "libx265", "-pix_fmt", "yuv420p10le", "-color_trc", "smpte2084", "-color_primaries", "bt2020")
    hdr += ("-colorspace", "bt2020nc", "-x265-params", "log-level=error:colorprim=bt2020:transfer=smpte2084")
    frames = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    ffmpeg(*hdr, folder / "hdr.mp4", frames=frames)
    interlaced = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-flags", "+ildct+ilme", "-x264-params", "tff=1")
    ffmpeg(*interlaced, folder / "interlaced.mp4", frames=frames)
    write_labels(folder / "train.csv", {"hdr.mp4": 3, "interlaced.mp4": 2, "1.mp4": 4})
    result = check_data(folder / "train.csv", folder, "linear:1,5")
    notes = [finding.text() for finding in result.findings]
    assert not result.problems
    assert any("1 HDR clip is noted as 'PQ to BT.709': hdr.mp4" in note for note in notes)
    assert any("1 interlaced clip is noted as 'deinterlaced': interlaced.mp4" in note for note in notes)


@pytest.mark.parametrize(
    ("labels", "scale", "message"),
    [
        (
            [20, 60, 80],
            "identity",
            "3 labels are outside the scale 'identity', which takes scores, 1 to 5 (0 to 5 is accepted, as for",
        ),
        ([20, 60, 80], "identity", "as on 0-100"),
        ([-1.5, 0.2, 2], "linear:1,5", "as on no usual scale"),
        (
            [1 + i / 4 for i in range(12)],
            "linear:0,100",
            "like those of another scale. The labels run from 1 to 3.75, as on 1-5",
        ),
        ([i / 12 for i in range(12)], "identity", "as on 0-1"),
        ([1 + i / 3 for i in range(12)], "linear:1,10", "as on 1-5"),
        ([3] * 12, "identity", "All labels are 3"),
    ],
)
def test_labels_that_are_on_another_scale_are_told(labels, scale, message):
    assert message in told(scale_findings(rows(*labels), mos_scale(scale)))


@pytest.mark.parametrize(
    ("labels", "scale"),
    [
        ([1, 2, 3], "linear:0,100"),  # too few to tell
        (range(12), "linear:0,12"),
        ([20 + i for i in range(30)], "div20"),
        ([1 + i / 3 for i in range(12)], "identity"),
        ([1 + i / 3 for i in range(12)], "linear:1,7"),
    ],
)
def test_labels_that_fit_their_scale_are_no_problem(labels, scale):
    assert told(scale_findings(rows(*labels), mos_scale(scale))) == ""


def test_without_a_scale_the_labels_are_described():
    [finding] = scale_findings(rows(20, 90), None)
    assert not finding.problem and "20 to 90, as on 0-100. Name their scale: 'linear:LO,HI'" in finding.text()


def test_rows_are_told_together_where_training_stops_at_the_first(folder):
    text = "video,mos\n0.mp4,3\n0.mp4,3\n1.mp4,4\n1.mp4,2\n2.mp4,bad\n../x.mp4,3\n"
    (folder / "train.csv").write_text(text)
    result = check_data(folder / "train.csv", folder, "linear:1,5")
    problems = told(result.findings)
    assert "2 rows of" in problems and "train.csv:6: label 'bad'" in problems and "leaves the video root" in problems
    assert "1 video of" in problems and "1.mp4 (4 and 2)" in problems
    assert any("repeating a video with its label: 0.mp4" in finding.text() for finding in result.findings)
    (folder / "train.csv").write_text("name,mos\n0.mp4,3\n")
    [finding] = check_data(folder / "train.csv", folder).problems
    assert finding.text() == (
        f"{folder / 'train.csv'}: no column video; the columns are name, mos. Rename them, or name yours with "
        "--video-column and --mos-column (video_column, mos_column in Python and YAML). Training refuses the file."
    )
    with pytest.raises(LabelError, match="does not exist"):
        check_data(folder / "none.csv", folder)


def test_one_finding_is_told_of_one_and_of_many(folder):
    wrong = "is not a number: write digits with a decimal point, like 3.75"
    (folder / "train.csv").write_text("video,mos\n0.mp4,3\n1.mp4,x\n")
    table = folder / "train.csv"
    [one] = check_data(table, folder, "linear:1,5").problems
    assert one.text() == (
        f"1 row of {table} cannot be read: {table}:3: label 'x' {wrong}. Correct or remove it; training refuses the "
        "file."
    )
    table.write_text("video,mos\n0.mp4,3\n" + "".join(f"{n}.mp4,x\n" for n in range(1, 6)))
    [many] = check_data(table, folder, "linear:1,5").problems
    assert many.text().startswith(f"5 rows of {table} cannot be read: {table}:3: label 'x' {wrong}, {table}:4: ")
    assert many.text().endswith(f"'x' {wrong}, ... Correct or remove them; training refuses the file.")


def test_rows_before_the_one_that_ends_the_reading_are_checked(folder):
    (folder / "train.csv").write_text("video,mos\n0.mp4,3\n1.mp4\n")
    result = check_data(folder / "train.csv", folder, "linear:1,5")
    assert [row.video_id for row in result.rows] == ["0.mp4"]
    [finding] = result.problems
    assert finding.text() == (
        f"{folder / 'train.csv'}:3: the row must have 2 fields like the header. Training refuses the file."
    )


def test_swapped_columns_are_told_once(folder, capsys):
    (folder / "train.csv").write_text("video,mos\n" + "".join(f"{1 + n / 3:.1f},{n}.mp4\n" for n in range(12)))
    assert main(["check-data", str(folder / "train.csv"), "--mos-scale", "linear:1,5"]) == 1
    out = capsys.readouterr().out
    assert out.count("PROBLEM") == 1
    assert (
        "train.csv: the columns look swapped: 'video' holds numbers ('1.0'), 'mos' holds none ('0.mp4'). Give each its "
        "right name. Training refuses the file.\n"
    ) in out


def test_splits_that_share_clips_or_sources_are_told(folder):
    write_labels(folder / "train.csv", {f"{n}.mp4": 3 + n / 9 for n in range(6)}, scene=["a", "a", "sea", "", "", "x"])
    write_labels(folder / "test.csv", {f"{n}.mp4": 3 + n / 9 for n in range(5, 9)}, scene=["sea", "b", "", "y"])
    result = check_data(folder / "train.csv", folder, "linear:1,5", [folder / "test.csv"])
    problems = told(result.findings)
    assert f"1 clip is in {folder / 'test.csv'} too: 5.mp4" in problems
    assert f"1 source is in {folder / 'test.csv'} too, by column 'scene': sea" in problems
    assert len(result.probes) == 9
    write_labels(folder / "test.csv", {f"{n}.mp4": 10 * n for n in range(6, 12)})
    result = check_data(folder / "train.csv", folder, "linear:1,5", [folder / "test.csv"])
    assert (
        f"6 labels are outside the scale 'linear:1,5', which takes 1 to 5 (in {folder / 'test.csv'}): 6.mp4 (60)"
        in (told(result.findings))
    )


def test_sources_come_from_names_by_rule_and_are_never_guessed(folder):
    for name, number in (("a_1.mp4", 0), ("a_2.mp4", 1), ("b_1.mp4", 2)):
        (folder / name).write_bytes((folder / f"{number}.mp4").read_bytes())
    write_labels(folder / "train.csv", {"a_1.mp4": 3, "b_1.mp4": 2})
    write_labels(folder / "test.csv", {"a_2.mp4": 3})
    arguments = (folder / "train.csv", folder, "linear:1,5", [folder / "test.csv"])
    result = check_data(*arguments, source=(None, r"(?P<source>\w)_\d\.mp4"))
    assert "too, by file names: a." in told(result.findings)
    result = check_data(*arguments)
    assert not result.problems and any("Cannot tell which sources" in f.text() for f in result.findings)
    for source, message in (((None, "("), "not a regular expression"), ((None, "a"), "no group 'source'")):
        with pytest.raises(ValueError, match=message):
            check_data(*arguments, source=source)
    with pytest.raises(ValueError, match="source column 'talk' is in none of the files"):
        check_data(*arguments, source=("talk", ""))


def test_the_quick_form_decodes_nothing(folder, caplog, monkeypatch):
    monkeypatch.setattr("vqathinker.data.check_clips.open_clip", lambda path: pytest.fail("decoded"))
    clips = [str(folder / f"{n}.mp4") for n in range(12)]
    samples = [Sample(clip, "score", (clip,), target={"mos": 1 + n / 3}) for n, clip in enumerate(clips)] * 2
    assert preflight(samples[2:], mos_scale="identity") == "data: 12 clips, all there; labels fit their scale"
    asked = [Sample("q", "choice", (clips[0],), "Sharp?", {"options": ("Yes", "No"), "answer": "A"})]
    assert preflight(asked).startswith("data: 1 clip, all there")
    (folder / "3.mp4").unlink()
    assert preflight(samples, samples[:1], "linear:1,5").startswith("data: 2 problems")
    assert "1 of 12 files is missing" in caplog.text and "1 clip is in the validation set too" in caplog.text


def test_the_quick_form_takes_labels_back_to_their_scale(folder):
    scale = mos_scale("linear:0,100")
    scored = [LabelRow(str(folder / f"{n}.mp4"), f"{n}", scale(1 + n / 3)) for n in range(12)]
    assert "as on 1-5" in told(quick_check(scored, scale="linear:0,100"))
    ends = [LabelRow(str(folder / f"{n}.mp4"), f"{n}", scale(100 * n / 11)) for n in range(12)]
    assert quick_check(ends, scale="linear:0,100") == []


def test_training_label_files_are_checked_too(folder):
    record = {"image": ["0.mp4"], "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": 3.5}]}
    (folder / "train.jsonl").write_text(json.dumps(record))
    assert not check_data(folder / "train.jsonl", folder, "identity").problems


def test_wrong_arguments_end_in_one_line(folder, capsys):
    for arguments, message in (
        (["--mos-scale", "5"], "mos scale '5' is unknown"),
        (["--frames", "0"], "must be at least 1"),
        (["--videos", "/nope"], "is not a folder"),
        (["--source-names", "lsvq_test"], "do not show their sources"),
    ):
        assert main(["check-data", str(folder / "train.csv"), *arguments]) == 2
        assert message in capsys.readouterr().err
