import csv

import av
import numpy as np
import pytest
import yaml
from scipy.stats import spearmanr

from vqathinker.clips import ENCODER_OPTIONS, open_clip, write_video
from vqathinker.data import read_labels
from vqathinker.synth import SynthSpec, render_scene
from vqathinker.synth.games import render_game
from vqathinker.synth.ood import (
    CLOUD_HEIGHTS,
    CODEC_HEIGHTS,
    CRF_LEVELS,
    FRAME_RATES,
    LOST,
    OOD_SETS,
    SECONDS,
    OodSpec,
    enhance,
    enhancement_severity,
    frame_rate_severity,
    ladder_severity,
    make_ood_sets,
    write_ladder_clip,
)

SPEC = OodSpec(clips=12, size=72, seed=3)
NAMES = [ood.name for ood in OOD_SETS]
STREAMS = {"libx264": "h264", "libx265": "hevc", "libvpx-vp9": "vp9", "libsvtav1": "av1"}


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return make_ood_sets(tmp_path_factory.mktemp("ood"), SPEC, workers=1, progress=False).parent


def rows(sets, name):
    return read_labels(sets / name / "labels.csv", sets / name / "videos", "identity")


def severity(name, extra):
    """From the parameters of a row, as the documentation says."""
    if name == "synthetic_gaming":
        return 1 - np.prod([1 - float(degree) for degree in extra["severity"].split("+")])
    if name == "synthetic_frame_rate":
        return frame_rate_severity(int(extra["fps"]), int(extra["crf"]))
    if name == "synthetic_enhancement":
        return enhancement_severity(extra["enhancement"], float(extra["flaw"]), float(extra["strength"]))
    return ladder_severity(extra["codec"], int(extra["crf"]), float(extra["relative_height"]))


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def psnr(one, other):
    return 10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean())


def test_the_list_names_every_set_as_synthetic_and_where_it_is(sets):
    entries = yaml.safe_load((sets / "sets.yaml").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in entries] == NAMES and len(NAMES) == 5
    for entry in entries:
        assert entry["name"].startswith("synthetic_") and entry["title"].startswith("Synthetic ")
        assert entry["domain"] == "ood" and entry["synthetic"] is True and entry["num_videos"] == SPEC.clips
        assert len(read_labels(sets / entry["labels"], sets / entry["videos"], "identity")) == SPEC.clips
        assert len(list((sets / entry["videos"]).iterdir())) == SPEC.clips


@pytest.mark.parametrize("name", NAMES)
def test_clips_decode_and_labels_follow_from_the_parameters(sets, name):
    labels = rows(sets, name)
    for row in labels:
        clip = open_clip(row.video)
        frames = clip.frames(range(clip.num_frames))
        assert frames.shape[1:] == (SPEC.size, SPEC.size, 3)
        assert abs(row.mos - (5 - 4 * severity(name, row.extra))) < 0.5
    assert np.std([row.mos for row in labels]) > 0.6
    assert {row.extra["scene"].rpartition("_")[0] for row in labels} == {name}


def test_codec_rate_and_length_are_in_the_files(sets):
    seen = set()
    for name in ("synthetic_cloud_gaming", "synthetic_frame_rate", "synthetic_codecs"):
        for row in rows(sets, name):
            with av.open(row.video) as container:
                stream = container.streams.video[0]
                assert stream.codec_context.codec.canonical_name == STREAMS[row.extra["codec"]]
                fps = int(row.extra.get("fps", 30))
                assert stream.average_rate == fps
                assert "fps" not in row.extra or stream.frames == round(SECONDS * fps)
            seen.add(row.extra["codec"] if name == "synthetic_codecs" else int(row.extra.get("fps", 0)))
    assert seen == {*STREAMS, *FRAME_RATES, 0}


def test_one_spec_gives_the_same_files_whatever_the_workers(sets, tmp_path):
    make_ood_sets(tmp_path, SPEC, workers=3, progress=False)
    assert contents(tmp_path) == contents(sets)


def test_what_is_made_is_kept_and_what_is_not_finished_made_again(tmp_path, monkeypatch):
    spec = OodSpec(clips=1, size=72)
    make_ood_sets(tmp_path, spec, progress=False)
    first = contents(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr("vqathinker.synth.ood.write_video", lambda *a: 1 / 0)
        assert make_ood_sets(tmp_path, spec, progress=False) == tmp_path / "sets.yaml"
        assert contents(tmp_path) == first
        with pytest.raises(ZeroDivisionError):
            make_ood_sets(tmp_path, OodSpec(clips=1, size=72, seed=1), progress=False)
    make_ood_sets(tmp_path, spec, progress=False)
    assert contents(tmp_path) == first


@pytest.mark.parametrize(
    ("render", "codec", "heights"),
    [(render_game, "libx264", CLOUD_HEIGHTS), *((render_scene, codec, CODEC_HEIGHTS) for codec in CRF_LEVELS)],
)
def test_severity_on_a_ladder_ranks_like_psnr(render, codec, heights, tmp_path):
    frames = render(np.random.default_rng(5), 8, 96)
    severities, qualities = [], []
    for crf in CRF_LEVELS[codec]:
        for height in heights:
            write_ladder_clip(tmp_path / "x.mp4", frames, codec, crf, height)
            severities.append(ladder_severity(codec, crf, height))
            qualities.append(psnr(open_clip(tmp_path / "x.mp4").frames(range(8)), frames))
    assert spearmanr(severities, qualities).statistic < -0.85


def test_lower_rates_are_worse_and_step_farther(sets):
    severities = [frame_rate_severity(fps, 28) for fps in FRAME_RATES]
    assert severities == sorted(severities, reverse=True) and severities[-1] == 0
    steps = []
    for row in rows(sets, "synthetic_frame_rate")[: len(FRAME_RATES)]:
        clip = open_clip(row.video)
        frames = clip.frames(range(clip.num_frames)).astype(float)
        steps.append(np.abs(np.diff(frames, axis=0)).mean())
    assert steps[0] > 1.3 * steps[-1]


@pytest.mark.parametrize("enhancement", [name for name in LOST if name != "stabilisation"])
def test_the_right_strength_comes_closest(enhancement):
    scene = render_scene(np.random.default_rng(4), 2, 120)
    for flaw in (0.2, 0.6):
        little, right, much = (
            psnr(enhance(scene, 12, enhancement, flaw, strength, np.random.default_rng(0)), scene[:, 12:-12, 12:-12])
            for strength in (0, 1, 2)
        )
        assert right > little and right > much


def test_the_right_strength_holds_a_shaking_picture_still():
    still = np.repeat(render_scene(np.random.default_rng(4), 1, 120), 12, axis=0)

    def shake(strength, seed):
        frames = enhance(still, 12, "stabilisation", 0.4, strength, np.random.default_rng(seed))
        assert frames.shape == (12, 96, 96, 3)
        return np.abs(np.diff(frames[:, 24:-24, 24:-24].astype(int), axis=0)).mean(), (frames[:, 0] == 0).all(-1).any()

    finishes = set()
    for seed in range(6):
        (little, _), (right, border), (much, _) = (shake(strength, seed) for strength in (0, 1, 2))
        assert right == 0 and little > 5 and much > 5
        finishes.add(bool(border))
    assert finishes == {True, False}


def test_games_move_cut_and_go_on():
    one, two = (render_game(np.random.default_rng(seed), 48, 96).astype(int) for seed in (1, 2))
    assert np.array_equal(one[:24], render_game(np.random.default_rng(1), 24, 96))
    assert one.shape == (48, 96, 96, 3) and np.abs(one - two).mean() > 10
    steps = np.abs(np.diff(one, axis=0)).mean(axis=(1, 2, 3))
    assert steps.min() > 0 and steps.max() > 2 * np.median(steps)


def test_encoders_write_one_file_and_a_missing_one_is_named(tmp_path):
    frames = render_scene(np.random.default_rng(1), 6, 48)
    for codec in ENCODER_OPTIONS:
        files = set()
        for _ in range(3):
            write_video(tmp_path / "x.mp4", frames, crf=30, codec=codec)
            files.add((tmp_path / "x.mp4").read_bytes())
        assert len(files) == 1, codec
    with pytest.raises(ValueError, match="codec='libnone'"):
        write_video(tmp_path / "y.mp4", frames, codec="libnone")
    assert [file.name for file in tmp_path.iterdir()] == ["x.mp4"]


def test_label_columns(sets):
    columns = {
        "synthetic_gaming": "video,mos,kind,severity,when,scene",
        "synthetic_cloud_gaming": "video,mos,codec,crf,relative_height,scene",
        "synthetic_frame_rate": "video,mos,codec,crf,fps,scene",
        "synthetic_codecs": "video,mos,codec,crf,relative_height,scene",
        "synthetic_enhancement": "video,mos,enhancement,flaw,strength,scene",
    }
    for name, header in columns.items():
        with (sets / name / "labels.csv").open(encoding="utf-8") as file:
            assert ",".join(next(csv.reader(file))) == header


@pytest.mark.parametrize("bad", [{"clips": 0}, {"size": 70}, {"size": 97}])
def test_bad_specs_are_refused(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        OodSpec(**bad)


def test_no_training_split_can_share_a_scene():
    """Scenes are drawn by the name of their set; those of these sets begin with "ood/"."""
    with pytest.raises(ValueError, match="names must be"):
        SynthSpec(splits={"ood/synthetic_codecs": 1})
