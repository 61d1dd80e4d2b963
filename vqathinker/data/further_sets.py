"""What is known of public sets beyond those of VQAThinker's paper. Nothing was published on them for it.

Facts are from the sets' pages and papers as found in November 2026. The scale of most labels could not be read there:
it says "unknown", and such a set is refused until its scale is named.
"""

from __future__ import annotations

from vqathinker.data.public_sets import UNKNOWN, Benchmark

ASK = "not seen: ask its authors"
PAIRS = "no score per clip in the file: preferences between pairs"


def _set(
    name: str,
    title: str,
    domain: str,
    num_videos: int | None,
    labels: str,
    source: str,
    licence: str,
    num_sources: int | None = None,
) -> Benchmark:
    return Benchmark(
        name=name,
        title=title,
        domain=domain,
        num_videos=num_videos,
        native_scale=UNKNOWN,
        label_formats=("a CSV with the columns video, mos and, where clips share one, source",),
        source=source,
        licence=licence,
        published=None,
        labels=labels,
        num_sources=num_sources,
    )


FURTHER_SETS = {
    one.name: one
    for one in (
        _set(
            "beyond8bits",
            "Beyond8Bits",
            "HDR, user-generated, transcoded",
            41419,
            "video_id, mos, sos (about 35 ratings each), resolution, bitrate, split",
            "https://huggingface.co/datasets/shreshthsaini/Beyond8Bits",
            "CC-BY-4.0 on its card",
            5917,
        ),
        _set(
            "chug",
            "CHUG",
            "HDR, user-generated, transcoded",
            5992,
            "MOS of 211,848 ratings",
            "https://huggingface.co/datasets/shreshthsaini/CHUG",
            "CC-BY-SA-4.0 on its card: what is made from it has to be shared alike",
            856,
        ),
        _set(
            "brightvq",
            "BrightVQ",
            "HDR, user-generated, transcoded",
            2100,
            "MOS of 73,794 ratings",
            "https://github.com/brightvqa/BrightVQ",
            "CC-BY-NC-4.0: no commercial use",
            300,
        ),
        _set(
            "hdrsdr_vqa",
            "HDRSDR-VQA",
            "HDR and SDR versions of one content",
            960,
            "JOD from 22,000 pairs",
            "its paper (HDRSDR-VQA)",
            "partly open: see its page",
            54,
        ),
        _set(
            "gamescope",
            "GameScope",
            "gaming; H.264, H.265, AV1",
            4048,
            "MOS of about 37 ratings, attributes",
            "https://rajeshsureddi.github.io/GameScope",
            ASK,
        ),
        _set(
            "live_meta_mcg",
            "LIVE-Meta Mobile Cloud Gaming",
            "mobile cloud gaming",
            600,
            "MOS of 14,400 ratings",
            "LIVE of UT Austin; its page was not seen",
            "by a request form of UT Austin, as far as is known: see its page",
        ),
        _set(
            "kvq",
            "KVQ",
            "short-form, processed",
            4200,
            "MOS, and ranked pairs of clips that are hard to tell apart",
            "https://github.com/lixinustc/KVQ-Challenge-CVPR-NTIRE2024",
            ASK,
            600,
        ),
        _set(
            "taolive",
            "TaoLive (MD-VQA)",
            "live, user-generated, compressed",
            3762,
            "MOS; 418 sources beside the 3,762 compressed clips",
            "https://tianchi.aliyun.com/dataset/148818",
            ASK,
            418,
        ),
        _set(
            "taolive_qoe",
            "TaoLive QoE",
            "live, with stalls and skips",
            1155,
            "retrospective QoE",
            "https://arxiv.org/abs/2409.17596",
            ASK,
            42,
        ),
        _set(
            "lsco",
            "LSCO",
            "live sports, where two resolutions cross over",
            None,
            PAIRS,
            "https://arxiv.org/abs/2504.01190",
            ASK,
        ),
        _set(
            "live_livestream",
            "LIVE Livestream",
            "live streams",
            315,
            "MOS of 12,000 opinions",
            "LIVE of UT Austin; its page was not seen",
            "UT Austin's terms: see its page",
            45,
        ),
        _set(
            "finevd_gc",
            "FineVD-GC (NTIRE 2025 XGC)",
            "user-generated",
            6284,
            "MOS",
            "the NTIRE 2025 XGC challenge; its page was not seen",
            "not seen: see its page",
        ),
        _set(
            "q_eval_video",
            "Q-Eval-Video",
            "AI-generated",
            34029,
            "MOS",
            "https://huggingface.co/datasets/q-future/q-eval-plus",
            "CC-BY-4.0 on its card",
        ),
        _set(
            "aigve_60k",
            "AIGVE-60K (LOVE)",
            "AI-generated, 30 models",
            58500,
            "120,000 MOS, 60,000 question-answer pairs",
            "https://huggingface.co/IntMeGroup",
            "Apache-2.0 on its card",
        ),
        _set(
            "aigvqa_db",
            "AIGVQA-DB",
            "AI-generated",
            36576,
            "370,000 ratings and ranks",
            "https://github.com/IntMeGroup/AIGV-Assessor",
            ASK,
        ),
        _set(
            "videofeedback2",
            "VideoFeedback2",
            "AI-generated, 22 models",
            27168,
            "visual quality, text alignment, physical consistency, and reasons",
            "https://huggingface.co/datasets/TIGER-Lab/VideoFeedback2",
            "Apache-2.0 on its card",
        ),
        _set(
            "mvqa_68k",
            "MVQA-68K",
            "mixed",
            68000,
            "seven dimensions and reasons; promised, not seen",
            "its paper (MVQA-68K)",
            ASK,
        ),
        _set(
            "ultravqa",
            "UltraVQA",
            "user-generated",
            None,
            "five dimensions and reasons; promised, not seen",
            "its paper (UltraVQA)",
            ASK,
        ),
    )
}
"""Name -> set. Each is chosen by its name only: no group holds it, and it is averaged with no other."""
