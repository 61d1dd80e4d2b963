"""Ladders: real encodes of tiny clips, measured by the FFmpeg of imageio-ffmpeg."""

import csv
import itertools
import json
import subprocess

import av
import imageio_ffmpeg
import numpy as np
import pytest

from vqathinker.cli import main
from vqathinker.clips import ClipError, open_clip, write_video
from vqathinker.data import mos_scale, read_labels
from vqathinker.evaluation.flip_rate import ladder_pairs, read_manifest
from vqathinker.synth import LadderSpec, make_ladders, render_scene, vmaf
from vqathinker.synth.ladder_sources import find_sources
from vqathinker.synth.vmaf import check_model, measure

SMALL = {"num_frames": 4, "size": 64, "crfs": (20, 50)}


def rows_of(file):
    with file.open() as handle:
        return list(csv.DictReader(handle))


def stored(path):
    """Luma and size of all frames as stored."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.stack([frame.to_ndarray()[: frame.height, : frame.width] for frame in frames]).astype(float)


def psnr(a, b):
    return np.mean(10 * np.log10(255**2 / ((a - b) ** 2).mean((1, 2))))


@pytest.fixture(scope="module")
def clip():
    """(4, 72, 128, 3)."""
    return render_scene(np.random.default_rng(1), 4, 128)[:, :72]


@pytest.fixture(scope="module")
def own(tmp_path_factory, clip):
    """A folder of five clips that show the same: upright, turned by a tag, upside down in the file, of odd size, 4:4:4
    without loss."""
    folder = tmp_path_factory.mktemp("own")
    write_video(folder / "upright.mp4", clip, 25, 1)
    turn = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-display_rotation:v:0", "90"]
    turn += ["-i", str(folder / "upright.mp4"), "-c", "copy", str(folder / "turned.mp4")]
    subprocess.run(turn, check=True)
    write_video(folder / "portrait.mp4", np.rot90(clip, 1, (1, 2)), 25, 1)
    write_video(folder / "lossless.mkv", clip, 25, 1, "ffv1", "yuv444p")
    with av.open(str(folder / "odd.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 127, 71, "bgr0"
        for frame in clip[:, :71, :127]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())
    return folder


@pytest.fixture(scope="module")
def made(own, tmp_path_factory):
    """Ladders of these clips."""
    out = tmp_path_factory.mktemp("ladders") / "out"
    command = ["synth", "--ladder", "--out", str(out), "--source", str(own), "--crf", "35,20", "--heights", "source,48"]
    assert main([*command, "--splits", "train=3,val=1,test=1"]) == 0
    return out


def test_five_own_clips_make_a_labelled_set_whose_splits_share_no_source(made, own):
    tables = {split: rows_of(made / f"{split}.csv") for split in ("train", "val", "test")}
    sources = [{row["source"] for row in rows} for rows in tables.values()]
    assert [len(one) for one in sources] == [3, 1, 1] and len(set.union(*sources)) == 5
    columns = "video,mos,vmaf,psnr,ssim,source,scene,codec,crf,width,height,height_asked,ladder,rank"
    rows = [row for rows in tables.values() for row in rows]
    assert {",".join(row) for row in rows} == {columns} and len(rows) == 20
    for row in rows:
        assert float(row["mos"]) == pytest.approx(1 + 4 * float(row["vmaf"]) / 100, abs=1e-4)
        assert float(row["rank"]) == float(row["crf"])
        assert row["ladder"] == f"{row['source']}/h264/{row['width']}x{row['height']}"
        assert row["scene"] == row["source"] and int(row["height_asked"]) == (48 if "48" in row["ladder"] else 0)
        assert stored(made / row["video"]).shape == (4, int(row["height"]), int(row["width"]))
    sizes = {row["source"]: set() for row in rows}
    for row in rows:
        sizes[row["source"]].add((int(row["width"]), int(row["height"])))
    assert sizes["upright"] == sizes["turned"] == {(128, 72), (86, 48)}
    assert sizes["portrait"] == {(72, 128), (48, 86)} and sizes["odd"] == {(126, 70), (86, 48)}
    labels = read_labels(made / "train.csv", made, "identity")
    assert [label.mos for label in labels] == [float(row["mos"]) for row in tables["train"]]
    pairs = ladder_pairs(read_manifest(made / "train.csv"))  # a table is a manifest: one pair for each size
    assert len(pairs) == 6 and all(mild.ladder == hard.ladder and mild.crf == 20 for mild, hard in pairs)


def test_psnr_is_that_of_the_frames_and_turning_changes_nothing(made, own):
    found = {row["video"]: row for split in ("train", "val", "test") for row in rows_of(made / f"{split}.csv")}
    assert stored(own / "upright.mp4").shape == (4, 72, 128)
    for name in ("upright", "turned", "portrait"):
        source = stored(own / f"{name}.mp4")
        size = "72x128" if name == "portrait" else "128x72"
        for crf in (20, 35):
            row = found[f"videos/{name}/h264_{size}_crf{crf}.mp4"]
            assert float(row["psnr"]) == pytest.approx(psnr(source, stored(made / row["video"])), abs=0.05)
    for crf in (20, 35):
        upright, turned, portrait, odd, lossless = (
            found[f"videos/{name}/h264_{size}_crf{crf}.mp4"]
            for name, size in zip(
                ("upright", "turned", "portrait", "odd", "lossless"),
                ("128x72", "128x72", "72x128", "126x70", "128x72"),
                strict=True,
            )
        )
        assert [turned[name] for name in ("vmaf", "psnr", "ssim")] == [upright[n] for n in ("vmaf", "psnr", "ssim")]
        for other in (portrait, odd, lossless):  # other bits, and VMAF is not quite the same of turned pictures
            assert float(other["vmaf"]) == pytest.approx(float(upright["vmaf"]), abs=8), other
            assert float(other["psnr"]) == pytest.approx(float(upright["psnr"]), abs=1), other
        assert open_clip(made / turned["video"]).notes == open_clip(own / "turned.mp4").notes != ()
    small = [float(found[f"videos/upright/h264_{size}_crf20.mp4"]["vmaf"]) for size in ("86x48", "128x72")]
    assert 50 < small[0] < small[1] - 5 < 95


def test_what_made_the_ladders_is_told_beside_them(made):
    about = json.loads((made / "ladder.json").read_text())
    assert about["finished"] and about["scale"] == "vmaf:0,100" and about["spec"]["crfs"] == {"h264": [20, 35]}
    encoder = about["encodes"]["codecs"]["h264"]
    assert encoder["encoder"] == "libx264" and encoder["options"]["preset"] == "veryfast"
    assert about["measured_by"]["model"] == "vmaf_v0.6.1" and "ffmpeg version" in about["measured_by"]["ffmpeg"]
    found = about["found"]
    assert found["encodes"] == 20 and found["ladders"] == found["falling"] == 10 and found["srcc"] == [-1, -1]
    assert found["vmaf_of_itself"][0] > 95 and found["sources"]["odd"]["frames"] == 4


def test_a_run_goes_on_and_notices_what_has_changed(tmp_path, caplog):
    spec = LadderSpec({"train": 1, "test": 1}, codecs=("h264", "vp9"), **SMALL)
    files = make_ladders(tmp_path, spec, progress=False)
    before = {name: file.read_text() for name, file in files.items()}
    rungs = sorted((tmp_path / "videos").rglob("*.mp4"))
    assert len(rungs) == 8 and len(list((tmp_path / "sources").glob("*.mp4"))) == 2
    times = {rung: rung.stat().st_mtime_ns for rung in rungs}
    (tmp_path / "train.csv").unlink()  # as if it had been killed: one encode missing, another's label, a partial file
    record = tmp_path / "videos/train_00000/rungs.json"
    known = json.loads(record.read_text())
    del known["measured"]["h264_64x64_crf20.mp4"]
    record.write_text(json.dumps(known))
    (tmp_path / "videos/train_00000/vp9_64x64_crf50.mp4").unlink()
    (tmp_path / "videos/train_00000/.1-h264.mp4").touch()
    make_ladders(tmp_path, spec, progress=False)
    assert {name: file.read_text() for name, file in files.items()} == before
    changed = [rung.name for rung in rungs if rung.stat().st_mtime_ns != times[rung]]
    assert changed == ["vp9_64x64_crf50.mp4"] and not list((tmp_path / "videos").rglob(".*"))
    fewer = LadderSpec({"train": 1, "test": 1}, **SMALL)
    with pytest.raises(
        ValueError, match=r"holds ladders with codecs \['h264', 'vp9'\] and not \['h264'\], crfs .*--force"
    ):
        make_ladders(tmp_path, fewer, progress=False)
    make_ladders(tmp_path, fewer, progress=False, force=True)
    left = sorted((tmp_path / "videos").rglob("*.mp4"))
    assert len(left) == 4 and all(rung.stat().st_mtime_ns == times[rung] for rung in left)
    assert "has changed" not in caplog.text
    make_ladders(tmp_path, LadderSpec({"train": 1}, seed=1, **SMALL), progress=False, force=True)
    assert "train_00000.mp4 has changed, or what encodes it: its encodes are made anew." in caplog.text
    assert [row["source"] for row in rows_of(tmp_path / "train.csv")] == ["train_00000"] * 2
    assert not (tmp_path / "videos/test_00000").exists()


def test_drawn_scenes_fall_with_every_rung_of_every_codec(tmp_path):
    spec = LadderSpec({"train": 1}, codecs=("h264", "hevc", "vp9", "av1"), num_frames=4, size=64, crfs=(20, 35, 50))
    rows = rows_of(make_ladders(tmp_path, spec, progress=False)["train"])
    scores = {codec: [float(row["vmaf"]) for row in rows if row["codec"] == codec] for codec in spec.codecs}
    assert all(a > b for own in scores.values() for a, b in itertools.pairwise(own)) and len(rows) == 12
    default = LadderSpec(codecs=("h264", "vp9", "av1"))
    assert default.crfs_of("h264") == tuple(range(18, 52, 3))
    assert default.crfs_of("vp9") == (28, 33, 38, 43, 48, 53, 58, 63)  # c = 0, 1/11, ... of CRF_SCALES, up to its end
    assert default.crfs_of("av1")[0] == 22 and default.crfs_of("av1")[-1] == 63


def test_encodes_do_not_repeat_the_frame_types_of_their_source(clip, tmp_path):
    """Every frame of FFV1 is a key frame."""
    write_video(tmp_path / "own/a.mkv", clip, 25, 1, "ffv1")
    spec = LadderSpec({"train": 1}, source=str(tmp_path / "own"), codecs=("h264", "vp9"), crfs=(30, 40))
    for row in rows_of(make_ladders(tmp_path / "out", spec, progress=False)["train"]):
        with av.open(str(tmp_path / "out" / row["video"])) as container:
            packets = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
        assert packets == [True, False, False, False], row["codec"]


def test_what_cannot_be_measured_is_refused_with_what_can(own, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"'vmaf_v1.0.16_3d0h' gives no score for frames of 64x64.*vmaf_v0.6.1neg'"):
        make_ladders(tmp_path / "a", LadderSpec({"train": 1}, vmaf_model="vmaf_v1.0.16_3d0h", **SMALL))
    check_model("vmaf_v1.0.16_3d0h", (256, 256))
    with pytest.raises(ValueError, match=r"scores from 0 to 110: choose one that ends at 100"):
        check_model("vmaf_v1.0.16_3d0h_2160", (64, 64))
    with pytest.raises(ClipError, match="FFmpeg compared 4 frames and its source has 5"):
        measure(own / "upright.mp4", own / "upright.mp4", (128, 72), 5)
    assert not (tmp_path / "a").exists()
    monkeypatch.setattr(vmaf, "ffmpeg", lambda: "true")  # a program that knows no filter
    with pytest.raises(ValueError, match="true has no filter libvmaf: install imageio-ffmpeg"):
        check_model("vmaf_v0.6.1", (66, 66))


def test_specs_and_folders_that_cannot_be_are_refused(own, tmp_path, capsys, caplog):
    for wrong, message in (
        ({"crfs": (20, 52)}, "from 0 to 51, the largest of h264"),
        ({"crfs": (20, 64), "codecs": ("av1",)}, "from 0 to 63, the largest of av1"),
        ({"codecs": ("vvc",)}, r"codecs \['vvc'\]"),
        ({"codecs": ()}, "codecs is empty"),
        ({"crfs": (30,)}, r"crfs=\[30\]: a ladder needs at least two"),
        ({"heights": (33,)}, r"heights=\[33\]: give different shorter sides"),
        ({"size": 63}, "an even side of 32 pixels or more"),
    ):
        with pytest.raises(ValueError, match=message):
            LadderSpec(**wrong)
    with pytest.raises(ValueError, match=r"heights=\[72\]: \['odd'\] are smaller"):
        make_ladders(tmp_path / "a", LadderSpec({"train": 1}, source=str(own), heights=(72,)))
    assert "1 source is smaller than 72: no encodes of that height of odd." in caplog.text
    with pytest.raises(ClipError, match="5 scenes"):
        make_ladders(tmp_path / "a", LadderSpec({name: 1 for name in "abcdef"}, source=str(own)))
    with pytest.raises(ValueError, match="lie in one another: encodes would be taken for sources"):
        make_ladders(own / "out", LadderSpec({"train": 1}, source=str(own)))
    (tmp_path / "b").mkdir()
    (tmp_path / "b/train.csv").touch()
    with pytest.raises(ValueError, match=r"already holds train\.csv: choose another folder"):
        make_ladders(tmp_path / "b", LadderSpec({"train": 1}))
    for arguments, message in (
        (
            ["--ladder", "--source", str(own), "--size", "64"],
            "--size with --ladder --source: clips are encoded as they",
        ),
        (["--ladder", "--source", str(own), "--seed", "5"], "--seed with --ladder --source"),
        (["--ladder", "--heights", "sources"], "--heights 'sources': write whole numbers or source"),
        (["--ladder", "--codec="], "codecs ['']"),
        (["--ladder", "--ood", "3"], "ladders have neither"),
        (["--crf", "20,30"], "--crf without --ladder"),
        (["--ladder", "--crf", "20,x"], "--crf '20,x': write whole numbers"),
    ):
        assert main(["synth", "--out", str(tmp_path / "c"), *arguments]) == 2
        assert message in capsys.readouterr().err


def test_clips_that_come_or_go_are_refused_before_anything_is_deleted(tmp_path):
    own, out = tmp_path / "own", tmp_path / "out"
    frames = render_scene(np.random.default_rng(1), 2, 64)
    for name in ("a", "b"):
        write_video(own / f"{name}.mp4", frames, 25, 1)
    spec = LadderSpec({"train": 1}, source=str(own), crfs=(20, 50))
    make_ladders(out, spec, 1, progress=False)
    rungs = sorted(out.rglob("*.mp4"))
    (own / "b.mp4").rename(own / "c.mp4")
    with pytest.raises(ValueError, match=r"1 source missing \(b\); 1 source new \(c\): bring .*--force"):
        make_ladders(out, spec, 1, progress=False)
    assert sorted(out.rglob("*.mp4")) == rungs and len(rungs) == 4
    (own / "c.mp4").unlink()
    make_ladders(out, spec, 1, progress=False, force=True)
    assert sorted(out.rglob("*.mp4")) == rungs[:2] and {row["source"] for row in rows_of(out / "train.csv")} == {"a"}
    write_video(own / "small.mp4", frames[:, :16, :16], 25, 1)
    with pytest.raises(ValueError, match=r"small\.mp4: 16x16 is too small for every VMAF model: both sides must be 32"):
        make_ladders(tmp_path / "other", spec)
    (own / "a\\b.mp4").write_bytes((own / "a.mp4").read_bytes())
    with pytest.raises(ValueError, match="1 name cannot stand in a table of encodes"):
        make_ladders(tmp_path / "other", spec)
    (out / "ladder.json").write_text("[]")
    with pytest.raises(ValueError, match=r"ladder\.json is not of `vqathinker synth --ladder`"):
        make_ladders(out, spec)


def test_clips_of_one_folder_are_one_scene(own, tmp_path):
    for name in ("match/one", "match/two", "park_clean"):
        (tmp_path / "own/match").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"own/{name}.mp4").write_bytes((own / "upright.mp4").read_bytes())
    spec = LadderSpec({"train": 1, "test": 1}, source=str(tmp_path / "own"), heights=(72,))
    found = find_sources(tmp_path / "out", spec)
    assert {source.name: source.scene for source in found} == {
        **{"match_one": "match", "match_two": "match", "park_clean": "park"},
    }
    assert {tuple(source.heights.items()) for source in found} == {(((128, 72), 72),)}  # asked for, if its own


def test_vmaf_is_a_scale_of_its_own_name():
    scale = mos_scale("vmaf:0,100")
    assert (scale(0), scale(62.5), scale(100), scale.name) == (1, 3.5, 5, "vmaf:0,100")
    with pytest.raises(ValueError, match=r"MOS 100\.5 does not fit the scale 'vmaf:0,100', which takes 0 to 100"):
        scale(100.5)
