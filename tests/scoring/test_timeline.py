"""Score over time: which frames each window shows, and what is said of what cannot be judged."""

import json
import math
import shutil
import subprocess

import av
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from vqathinker.cli import main
from vqathinker.clips import open_clip, write_video
from vqathinker.policy.spans import load_spans
from vqathinker.rollout import Completion
from vqathinker.scoring import QualityScore, QualityScorer
from vqathinker.scoring.timeline import ScoredWindow, Timeline, score_timeline, timeline_record, window_bounds
from vqathinker.synth.distortions import noise
from vqathinker.synth.scenes import render_scene

RATE = 12


@pytest.fixture(scope="module")
def half(tmp_path_factory):
    """A clip of 5 s whose frames differ from one another; there is noise on those from 2.5 s on."""
    rng = np.random.default_rng(3)
    clean = render_scene(rng, 60, 96)
    path = tmp_path_factory.mktemp("timeline") / "half.mp4"
    write_video(path, np.concatenate([clean[:30], noise(clean[30:], 0.9, rng).frames]), fps=RATE, crf=8)
    return path


def decoded(path):
    """All frames of a file, one after another, as PyAV itself gives them."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_windows_are_evenly_spaced_and_the_last_one_ends_with_the_clip():
    assert window_bounds(4.0, 2.0, 1.0) == [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0)]
    assert window_bounds(4.5, 2.0, 1.0) == [(0.0, 2.0), (1.0, 3.0), (2.0, 4.0), (2.5, 4.5)]
    assert window_bounds(2.0, 2.0, 1.0) == [(0.0, 2.0)]
    assert window_bounds(0.75, 2.0, 1.0) == [(0.0, 0.75)]
    assert len(window_bounds(0.3, 0.1, 0.1)) == 3  # 3 times 0.1 is above 0.3


@pytest.mark.parametrize(("fit", "run"), [("center_crop", 1), ("stretch", 4)])
def test_a_window_shows_its_own_frames_to_the_pixel(half, processor, fit, run):
    processor.fit, processor.motion_run_length = fit, run
    frames, spans = decoded(half), [(0, 24), (12, 36), (24, 48), (36, 60)]
    assert len(frames) == 60 and len({frame.tobytes() for frame in frames}) == 60
    parts = [part for part, reason in load_spans(processor, open_clip(half), spans) if not reason]
    for part, (first, stop) in zip(parts, spans, strict=True):
        alone = processor.from_array(frames[first:stop])
        assert (part.frames == alone.frames).all() and (part.motion_frames == alone.motion_frames).all()
        for number, shown in zip(part.indices.tolist(), part.frames.numpy(), strict=True):
            assert first <= number < stop
            if fit == "center_crop":
                assert (shown.transpose(1, 2, 0) == frames[number, 16:80, 16:80]).all()  # its central 64x64


def test_scores_follow_the_frames_of_each_window(half, policy, processor):
    scorer, frames = QualityScorer(policy, processor, readout="levels", batch_size=2), decoded(half)
    found = score_timeline(scorer, half)
    assert [(one.start, one.end, one.first, one.stop) for one in found.windows] == [
        *((0, 2, 0, 24), (1, 3, 12, 36), (2, 4, 24, 48), (3, 5, 36, 60)),
    ]
    alone = [scorer.score(frames[one.first : one.stop]) for one in found.windows]
    assert found.scores == [one.score for one in alone] and len(set(found.scores)) == 4
    assert found.duration == 5.0 and found.status == "ok"
    shown = [list(one.result.frames) for one in found.windows]
    assert shown[2] == [24 + place for place in alone[2].frames]


def test_windows_of_a_file_of_variable_rate_go_by_time(half, tmp_path, policy, processor):
    """From frame 24, at 2 s, on each frame is shown three times as long: 12 frames take 3 s."""
    path = tmp_path / "slow.mkv"
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", half, "-frames:v", "36", "-fps_mode", "vfr"]
    command += ["-vf", "setpts='if(lt(N,24),N,24+(N-24)*3)/(12*TB)'", "-enc_time_base", "1/1000", path]
    subprocess.run(list(map(str, command)), check=True)
    found = score_timeline(QualityScorer(policy, processor, readout="levels"), path, 1.5, 1.5)
    assert [(one.first, one.stop) for one in found.windows][:3] == [(0, 18), (18, 28), (28, 34)]
    assert [one.result.status for one in found.windows][:3] == ["ok", "ok", "ok"]


def test_what_cannot_be_judged_says_why(half, tmp_path, policy, processor):
    scorer = QualityScorer(policy, processor, readout="levels")
    found = score_timeline(scorer, half, 0.25, 0.25)  # 3 frames each; the policy looks at 6
    assert len(found.windows) == 20 and {one.result.status for one in found.windows} == {"too_few_frames"}
    assert found.status == "too_few_frames" and all(map(math.isnan, found.scores))
    assert found.windows[0].error == "3 of the 6 frames that the policy looks at: use longer windows"
    write_video(tmp_path / "short.mp4", decoded(half)[:9], fps=RATE)
    [only] = score_timeline(scorer, tmp_path / "short.mp4").windows
    assert (only.start, only.end, only.first, only.stop, only.result.status) == (0.0, 0.75, 0, 9, "ok")
    (tmp_path / "broken.mp4").write_bytes(half.read_bytes()[:400])
    broken = score_timeline(scorer, tmp_path / "broken.mp4")
    assert broken.status == "unreadable" and broken.error and not broken.windows
    assert json.loads(json.dumps(timeline_record(broken), allow_nan=False))["duration"] is None
    for wrong in ((0, 0), (1, 2), (math.inf, 1), (1, math.nan)):
        with pytest.raises(ValueError, match="need 0 < step <= window"):
            score_timeline(scorer, half, *wrong)
    with pytest.raises(ValueError, match=r"step=0.01 is shorter than a frame of .* \(0.0833 s\)"):
        score_timeline(scorer, half, 1, 0.01)


def test_a_frame_that_does_not_decode_loses_its_window_and_those_behind_it(half, tmp_path, processor):
    path = tmp_path / "damaged.mp4"
    write_video(path, decoded(half), fps=RATE, codec="libx264")
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    start, size = places[40]
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    found = list(load_spans(processor, open_clip(path), [(0, 24), (12, 36), (24, 48), (36, 60)]))
    assert [(part is not None, reason.split(" (")[0]) for part, reason in found] == [
        *((True, ""), (True, ""), (False, "damaged after frame 37"), (False, "damaged after frame 37")),
    ]


ANSWERS = (
    "<think>I weigh sharpness and motion. The quality is good.</think><answer>4.20</answer>",
    "<think>I see strong noise and slight blur.</think><answer>2.50</answer>",
    "<think>There is severe noise.</think><answer>1.25</answer>",
    "<think>There is noise.</think>",
)


def test_the_command_names_faults_and_writes_a_plot_and_json(half, base, processor, tmp_path, monkeypatch, capsys):
    class Judge:
        """A stand-in for the engine: what it says of the first, the second ... window is known."""

        def generate(self, prompts, n, sampling, seeds=None):
            return [[Completion(processor.tokenizer(text)["input_ids"])] for text in ANSWERS[: len(prompts)]]

    monkeypatch.setattr("vqathinker.scoring.scorer.make_engine", lambda *settings: Judge())
    command = ["timeline", str(half), "--model", str(base), "--device", "cpu", "--out", str(tmp_path)]
    assert main([*command, "--explain"]) == 1  # a window has no score
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "0.0-2.0 s  4.20  ok",
        "    I weigh sharpness and motion. The quality is good.",
        "1.0-3.0 s  2.50  ok  strong noise, slight blur",
        "    I see strong noise and slight blur.",
        "2.0-4.0 s  1.25  ok  severe noise",
        "    There is severe noise.",
        "3.0-5.0 s  nan   no_answer  noise  <think>There is noise.</think>",
        "    There is noise.",
    ]
    assert "4 windows over 5.0 s: 3 scored, 1 not" in err
    whole = json.loads((tmp_path / "half.mp4.json").read_text())
    assert [one["score"] for one in whole["windows"]] == [4.2, 2.5, 1.25, None]
    assert [one["faults"] for one in whole["windows"]][1:] == [
        *({"blur": "slight", "noise": "strong"}, {"noise": "severe"}, {"noise": ""}),
    ]
    assert whole["windows"][2]["key_frames"][0] >= 24 and whole["settings"]["checkpoint"] == str(base)
    with Image.open(tmp_path / "half.mp4.png") as picture:
        assert picture.format == "PNG" and picture.width > 800
    assert main([*command, "--window", "9"]) == 0
    assert "the clip is shorter than a window of 9 s: all of it is one window" in capsys.readouterr().err
    (tmp_path / "other").mkdir()
    other = str(shutil.copy(half, tmp_path / "other" / "half.mp4"))
    capsys.readouterr()
    assert main(["timeline", other, *command[2:]]) == 2
    assert f"half.mp4.json' is the timeline of '{half}': name another folder" in capsys.readouterr().err


def test_a_title_is_not_read_as_a_formula(half, tmp_path):
    from vqathinker.evaluation.plots import plot_timeline, pyplot

    window, before = ScoredWindow(0.0, 2.0, 0, 24, QualityScore("", 3.0, 0.0, "ok")), pyplot().get_fignums()
    plot_timeline(Timeline("$a_b_c$.mp4", 2.0, 1.0, 5.0, (window,)), tmp_path / "a.png")
    with pytest.raises(FileNotFoundError):
        plot_timeline(Timeline("a.mp4", 2.0, 1.0, 5.0, (window,)), tmp_path / "gone" / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000 and pyplot().get_fignums() == before
