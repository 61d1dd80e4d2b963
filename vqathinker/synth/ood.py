"""Five synthetic out-of-distribution test sets, in the manner of the real ones, for machines that have none of them.

Every label is `pseudo_mos` of a severity s in [0, 1] that follows from how the clip was made, by a formula per set. It
tells how much was done to a clip, is no opinion of people, and says nothing about scores on the real sets.
"""

from __future__ import annotations

import json
import math
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image, ImageFilter

from vqathinker.clips import open_clip, write_video
from vqathinker.synth.build import is_made, run_jobs, write_labels
from vqathinker.synth.codecs import CRF_SCALES
from vqathinker.synth.distortions import CLEAN_CRF, blur, distort, pseudo_mos, source_length, split_severity
from vqathinker.synth.games import render_game
from vqathinker.synth.scenes import render_scene

GENERATOR = 1
"""Raised whenever the same spec begins to give other clips, so that old sets are not taken for new ones."""
NUM_FRAMES, FPS = 24, 30
"""Of every clip but those of `synthetic_frame_rate`."""
FLAWS = ("rescale", "blur", "banding", "stutter", "frame_drop")
"""What recording does to a clip of `synthetic_gaming` before it is compressed."""
GAMING_VERSIONS = 4
"""Clips per scene of `synthetic_gaming`; the other sets have one for each value that changes fastest."""
CRF_LEVELS = {
    "libx264": (18, 28, 38, 48),
    "libx265": (18, 28, 38, 48),
    "libvpx-vp9": (28, 40, 52, 63),
    "libsvtav1": (22, 36, 50, 63),
}
"""Encoder -> CRFs of `synthetic_codecs`."""
CODEC_HEIGHTS = (1.0, 1 / 2, 1 / 4)
"""Relative to the display, as 2160, 1080 and 540 lines."""
CLOUD_CRFS = (18, 24, 30, 36, 42, 48)
CLOUD_HEIGHTS = (1.0, 2 / 3, 4 / 9)
"""Relative to the display, as 1080, 720 and 480 lines."""
STORED_CRF = 4
"""Of a clip that was decoded, enlarged and is stored: next to no loss."""
FRAME_RATES = (24, 30, 60, 82, 98, 120)
FRAME_RATE_CRFS = (28, 37, 46, 55, 63)
SECONDS = 0.5
"""Length of the clips of `synthetic_frame_rate`."""
LOST = {"brightness": 0.1, "contrast": 0.1, "colour": 0.1, "deblurring": 0.5, "stabilisation": 0.2}
"""Enhancement -> share of the flaw that it cannot undo: rounded grey levels, lost detail, the frame's border."""
STOPS = 3
"""Halvings of brightness, contrast or colour that are the full flaw."""


@dataclass(frozen=True)
class OodSpec:
    """What to make.

    Args:
        clips: Clips per set.
        size: Side of the display in pixels, even; a quarter of it is the least that is encoded.
        seed: Decides everything.

    Raises:
        ValueError: If a number is out of range.
    """

    clips: int = 60
    size: int = 96
    seed: int = 0

    def __post_init__(self) -> None:
        if self.clips < 1 or self.size < 72 or self.size % 2:
            raise ValueError(f"{self}: need clips >= 1 and an even size >= 72.")

    def to_json(self) -> str:
        """The spec as text."""
        return json.dumps({"ood_generator": GENERATOR} | asdict(self), indent=1)


def make_ood_sets(folder: str | Path, spec: OodSpec = OodSpec(), workers: int = 2, progress: bool = True) -> Path:
    """Render, distort, encode and label, unless the folder holds exactly these sets already.

    Args:
        folder: Gets `NAME/videos/*.mp4` and `NAME/labels.csv` per set of `OOD_SETS`, with the columns video (relative
            to `NAME/videos`), mos, the parameters that the set's severity follows from, and scene.
        spec: What to make. The same spec always gives the same files.
        workers: Clips made at a time.
        progress: Show a progress bar.

    Returns:
        `folder/sets.yaml`, the list of the sets as `vqathinker.data.find_benchmarks` takes it. `spec.json` is written
        last: where it stands, the sets are complete.

    Raises:
        ValueError: If FFmpeg lacks an encoder.
    """
    folder = Path(folder)
    if is_made(folder, spec):
        return folder / "sets.yaml"
    (folder / "spec.json").unlink(missing_ok=True)
    for ood in OOD_SETS:
        shutil.rmtree(folder / ood.name, ignore_errors=True)
    jobs = [(folder, spec, ood, index) for ood in OOD_SETS for index in range(spec.clips)]
    rows: dict[str, list[dict]] = {ood.name: [] for ood in OOD_SETS}
    for (_, _, ood, _), row in zip(jobs, run_jobs(_make_clip, jobs, workers, progress), strict=True):
        rows[ood.name].append(row)
    for name, lines in rows.items():
        write_labels(folder / name / "labels.csv", lines)
    entries = [ood.entry(spec.clips) for ood in OOD_SETS]
    (folder / "sets.yaml").write_text(yaml.safe_dump(entries, sort_keys=False), encoding="utf-8")
    (folder / "spec.json").write_text(spec.to_json(), encoding="utf-8")
    return folder / "sets.yaml"


def ladder_severity(codec: str, crf: int, relative_height: float) -> float:
    """Severity of a ladder's clip: 1 - (1 - c) h with the compression c of `CRF_SCALES` and the relative height h.

    Args:
        codec: FFmpeg encoder, a key of `CRF_SCALES`.
        crf: Constant rate factor.
        relative_height: Coded height over the display's, in (0, 1].
    """
    zero, span = CRF_SCALES[codec]
    return 1 - (1 - min(max((crf - zero) / span, 0), 1)) * relative_height


def frame_rate_severity(fps: float, crf: int) -> float:
    """Severity at a frame rate: 1 - (1 - c) (1 - r) with the compression c of VP9 and r = 0.75 log(120 / fps) / log(5).

    Args:
        fps: Frames per second, 24 to 120.
        crf: Constant rate factor.
    """
    slow = 0.75 * math.log(120 / fps) / math.log(5)
    return 1 - (1 - ladder_severity("libvpx-vp9", crf, 1)) * (1 - slow)


def enhancement_severity(enhancement: str, flaw: float, strength: float) -> float:
    """Severity after an enhancement: u (l + (1 - l) |1 - g|), so best at g = 1 and as bad at g = 2 as without it.

    Args:
        enhancement: A key of `LOST`, whose value is l.
        flaw: What was wrong before, u in [0, 1].
        strength: Share of the flaw that is worked against, g in [0, 2]; above 1 it is overdone.
    """
    lost = LOST[enhancement]
    return flaw * (lost + (1 - lost) * abs(1 - strength))


def _make_clip(job: tuple) -> dict:
    """One clip: its scene from (seed, set, scene), the rest from (seed, set, clip), as in the training sets."""
    folder, spec, ood, index = job
    scene, version = divmod(index, ood.versions)
    identity = zlib.crc32(f"ood/{ood.name}".encode())  # no split can have this name, so none shares a scene
    scene_rng = np.random.default_rng([spec.seed, identity, 0, scene, 0])
    rng = np.random.default_rng([spec.seed, identity, 1, scene, version])
    video = f"{index:05d}.mp4"
    clip = _Clip(folder / ood.name / "videos" / video, spec.size, scene, version, scene_rng, rng)
    severity, parameters = ood.make(clip)
    return {"video": video, "mos": pseudo_mos(severity, rng)} | parameters | {"scene": f"{ood.name}_{scene:05d}"}


@dataclass(frozen=True)
class _Clip:
    """A clip to be made.

    Attributes:
        path: Where it goes.
        size: Side of the display in pixels.
        scene: Index of its scene.
        version: Index among the clips of its scene.
        scene_rng: Decides the scene.
        rng: Decides the rest.
    """

    path: Path
    size: int
    scene: int
    version: int
    scene_rng: np.random.Generator
    rng: np.random.Generator


@dataclass(frozen=True)
class OodSet:
    """One of the sets.

    Attributes:
        name: Of its folder.
        title: For tables.
        versions: Clips per scene.
        make: Makes a clip; returns its severity and its parameters for the label file.
    """

    name: str
    title: str
    versions: int
    make: Callable[[_Clip], tuple[float, dict]]

    def entry(self, num_videos: int) -> dict:
        """The set in `sets.yaml`."""
        paths = {"labels": f"{self.name}/labels.csv", "videos": f"{self.name}/videos"}
        kind = {"domain": "ood", "synthetic": True}
        return {"name": self.name, "title": self.title} | paths | {"num_videos": num_videos} | kind


def _gaming(clip: _Clip) -> tuple[float, dict]:
    """Game-like screens, flawed by recording and compressed for upload.

    1 - s = (1 - a) (1 - b) with the severities a of one of `FLAWS` and b of `compression`, those of `distort`.
    """
    severity = (clip.version + clip.rng.random()) / GAMING_VERSIONS  # stratified, as in the training sets
    kinds = (str(clip.rng.choice(FLAWS)), "compression")
    degrees = dict(zip(kinds, split_severity(severity, clip.rng), strict=True))
    frames = render_game(clip.scene_rng, source_length(degrees, NUM_FRAMES), clip.size)
    distorted = distort(frames, degrees, clip.rng)
    write_video(clip.path, distorted.frames, FPS, distorted.crf)
    return severity, {
        "kind": "+".join(degrees),
        "severity": "+".join(f"{degree:.4f}" for degree in degrees.values()),
        "when": distorted.when,
    }


def _cloud_gaming(clip: _Clip) -> tuple[float, dict]:
    """Game-like screens, pristine, at every CRF of `CLOUD_CRFS` and a relative height that changes from CRF to CRF.

    s is `ladder_severity`.
    """
    frames = render_game(clip.scene_rng, NUM_FRAMES, clip.size)
    crf, height = CLOUD_CRFS[clip.version], CLOUD_HEIGHTS[(clip.scene + clip.version) % len(CLOUD_HEIGHTS)]
    return _ladder(clip, frames, "libx264", crf, height)


def _codecs(clip: _Clip) -> tuple[float, dict]:
    """The scenes of the training sets' kind, with every encoder at a CRF and a relative height that change.

    s is `ladder_severity`.
    """
    frames = render_scene(clip.scene_rng, NUM_FRAMES, clip.size)
    codec = list(CRF_LEVELS)[clip.version]
    turn, place = divmod(clip.scene, len(CODEC_HEIGHTS))
    height = CODEC_HEIGHTS[(place + clip.version) % len(CODEC_HEIGHTS)]
    levels = CRF_LEVELS[codec]
    return _ladder(clip, frames, codec, levels[(turn + clip.version) % len(levels)], height)


def _ladder(clip: _Clip, frames: np.ndarray, codec: str, crf: int, height: float) -> tuple[float, dict]:
    write_ladder_clip(clip.path, frames, codec, crf, height)
    parameters = {"codec": codec, "crf": crf, "relative_height": f"{height:.3f}"}
    return ladder_severity(codec, crf, height), parameters


def _frame_rate(clip: _Clip) -> tuple[float, dict]:
    """One scene at 120 frames per second and, by leaving out frames, at every lower rate, with VP9 at changing CRFs.

    s is `frame_rate_severity`. All rates last equally long; a policy sees a lower one only in the larger steps from one
    frame to the next.
    """
    fps = FRAME_RATES[clip.version]
    crf = FRAME_RATE_CRFS[(clip.scene + clip.version) % len(FRAME_RATE_CRFS)]
    fastest = max(FRAME_RATES)
    frames = render_scene(clip.scene_rng, round(SECONDS * fastest), clip.size)
    shown = np.arange(round(SECONDS * fps)) * fastest // fps
    write_video(clip.path, frames[shown], fps, crf, "libvpx-vp9")
    return frame_rate_severity(fps, crf), {"codec": "libvpx-vp9", "crf": crf, "fps": fps}


def _enhancement(clip: _Clip) -> tuple[float, dict]:
    """Scenes of the training sets' kind, flawed and then enhanced: too little, rightly, or too much.

    s is `enhancement_severity`.
    """
    enhancement = list(LOST)[clip.version]
    flaw, strength = float(clip.rng.uniform(0.1, 1)), float(clip.rng.uniform(0, 2))
    margin = clip.size // 8
    scene = render_scene(clip.scene_rng, NUM_FRAMES, clip.size + 2 * margin)
    write_video(clip.path, enhance(scene, margin, enhancement, flaw, strength, clip.rng), FPS, CLEAN_CRF)
    parameters = {"enhancement": enhancement, "flaw": f"{flaw:.4f}", "strength": f"{strength:.4f}"}
    return enhancement_severity(enhancement, flaw, strength), parameters


def enhance(
    scene: np.ndarray, margin: int, enhancement: str, flaw: float, strength: float, rng: np.random.Generator
) -> np.ndarray:
    """Put a flaw into a pristine scene and work against it.

    brightness, contrast, colour: lowered by 2 ** (3 flaw), raised by 2 ** (3 flaw strength).
    deblurring: blurred as by the training sets' `blur`; an unsharp mask of the same radius and of 150 strength ** 2 %,
    which at 1 is close to the least squared error and at 2 makes outlines ring.
    stabilisation: see `_stabilise`.

    Args:
        scene: (N, S + 2 margin, S + 2 margin, 3) uint8.
        margin: Pixels around the picture that a shaking camera reaches into.
        enhancement: A key of `LOST`.
        flaw: In [0, 1].
        strength: In [0, 2].
        rng: For the shake.

    Returns:
        (N, S, S, 3) uint8.
    """
    if enhancement == "stabilisation":
        return _stabilise(scene, margin, flaw, strength, rng)
    frames = scene[:, margin:-margin, margin:-margin]
    if enhancement == "deblurring":
        mask = ImageFilter.UnsharpMask(0.2 + 3 * flaw, round(150 * strength**2), threshold=0)
        soft = blur(frames, flaw, rng).frames
        return np.stack([np.asarray(Image.fromarray(frame).filter(mask)) for frame in soft])
    return _tone(_tone(frames, enhancement, -STOPS * flaw), enhancement, STOPS * flaw * strength)


def _tone(frames: np.ndarray, what: str, stops: float) -> np.ndarray:
    """Frames whose distance from black, from the clip's mean or from grey grows by 2 ** stops."""
    pivots = {"brightness": 0.0, "contrast": frames.mean(), "colour": frames.mean(axis=3, keepdims=True)}
    pivot = pivots[what]
    return np.clip(np.round(pivot + (frames - pivot) * 2**stops), 0, 255).astype(np.uint8)


def _stabilise(scene: np.ndarray, margin: int, flaw: float, strength: float, rng: np.random.Generator) -> np.ndarray:
    """A camera that shakes by up to the margin, and frames moved against it.

    What a moved frame leaves empty stays black, or is cropped away and the rest enlarged, whichever falls to the clip.
    """
    size = scene.shape[1] - 2 * margin
    shake = np.clip(np.round(rng.normal(0, 0.05 * size * flaw, (len(scene), 2))), -margin, margin).astype(int)
    moves = np.round(strength * shake).astype(int)
    edge = int(np.abs(moves).max())
    frames = np.zeros_like(scene[:, :size, :size])
    for frame, source, at, move in zip(frames, scene, margin + shake, moves, strict=True):
        shaky = np.pad(source[at[0] : at[0] + size, at[1] : at[1] + size], ((edge, edge), (edge, edge), (0, 0)))
        frame[:] = shaky[edge - move[0] :, edge - move[1] :][:size, :size]
    cropped = edge > 0 and rng.random() < 0.5
    return _resize(frames[:, edge:-edge, edge:-edge], size) if cropped else frames


def write_ladder_clip(path: Path, frames: np.ndarray, codec: str, crf: int, relative_height: float) -> None:
    """Encode frames at a relative height and, if that is below 1, enlarge what comes out and store it.

    Whoever rates a ladder sees it fill the display. A file of the coded size would not tell: a policy that takes the
    central pixels as they are would see more of the scene in them instead of less detail.

    Args:
        path: Written by the same encoder at either height.
        frames: (N, S, S, 3) uint8.
        codec: FFmpeg encoder.
        crf: Constant rate factor.
        relative_height: Coded height over the display's, in (0, 1].
    """
    size = frames.shape[1]
    coded = 2 * round(relative_height * size / 2)
    if coded == size:
        write_video(path, frames, FPS, crf, codec)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_video(f"{folder}/coded.mp4", _resize(frames, coded), FPS, crf, codec)
        decoded = open_clip(f"{folder}/coded.mp4").frames(range(len(frames)))
    write_video(path, _resize(decoded, size), FPS, STORED_CRF, codec)


def _resize(frames: np.ndarray, side: int) -> np.ndarray:
    how = Image.Resampling.BICUBIC
    return np.stack([np.asarray(Image.fromarray(frame).resize((side, side), how)) for frame in frames])


OOD_SETS = (
    OodSet("synthetic_gaming", "Synthetic gaming (mirrors LIVE-YT-Gaming)", GAMING_VERSIONS, _gaming),
    OodSet("synthetic_cloud_gaming", "Synthetic cloud gaming (mirrors CGVDS)", len(CLOUD_CRFS), _cloud_gaming),
    OodSet("synthetic_frame_rate", "Synthetic frame rates (mirrors LIVE-YT-HFR)", len(FRAME_RATES), _frame_rate),
    OodSet("synthetic_codecs", "Synthetic codecs (mirrors Waterloo-IVC-4K)", len(CRF_LEVELS), _codecs),
    OodSet("synthetic_enhancement", "Synthetic enhancement (mirrors VDPVE)", len(LOST), _enhancement),
)
"""In the order of the real sets in `vqathinker.data.BENCHMARKS`."""
