"""What is known of the public test sets of VQAThinker (Cao et al., 2025)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Benchmark:
    """What is known of a public set.

    Attributes:
        name: Short name, safe as a file name.
        title: As papers write it.
        domain: "in-domain" (user-generated clips, as LSVQ, the training set) or "ood"; of a set beyond the paper's what
            its clips are.
        num_videos: Clips that the published values are for, or that it has; `None` if it is not known.
        native_scale: Of the labels that VQAThinker was tested with; `UNKNOWN` where it could not be read.
        label_formats: As what labels circulate.
        source: Where to get it.
        licence: A note, no legal advice.
        published: (SRCC, PLCC) of VQAThinker-8B (Cao et al., 2025); `None` where there is none.
        source_pattern: Rule for its file names, see `sources_of`; "" where they do not tell from what a clip was made.
        labels: What its labels are, and in which columns, as far as is known.
        num_sources: From how many sources its clips were made, where several share one.
    """

    name: str
    title: str
    domain: str
    num_videos: int | None
    native_scale: str
    label_formats: tuple[str, ...]
    source: str
    licence: str
    published: tuple[float, float] | None
    source_pattern: str = ""
    labels: str = "MOS"
    num_sources: int | None = None


UNKNOWN = "unknown"
"""A native scale that could not be read: the set needs a `mos_scale`."""
TEST_JSON = "VQAThinker test JSON"
DOVER_TXT = "DOVER / FAST-VQA txt"
LIVE_TERMS = "see the set's page; research use with attribution, on request"
LSVQ_TERMS = (
    "see the set's page; free use with attribution; the clips are from YFCC100M and the Internet Archive. A copy on "
    "Hugging Face is tagged as freely licensed, which it is not: its own card names Facebook and UT Austin as holders"
)

BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "lsvq_test",
            "LSVQ test",
            "in-domain",
            7182,
            "0-100",
            (
                TEST_JSON,
                DOVER_TXT,
                "Q-Align JSON",
                "VQA² JSON",
                "the set's CSV, its test rows, with the columns video and mos",
            ),
            "https://github.com/baidut/PatchVQ",
            LSVQ_TERMS,
            (0.883, 0.880),
        ),
        Benchmark(
            "lsvq_1080p",
            "LSVQ 1080p",
            "in-domain",
            3573,
            "0-100",
            (TEST_JSON, DOVER_TXT, "Q-Align JSON", "the set's CSV, with the columns video and mos"),
            "https://github.com/baidut/PatchVQ",
            LSVQ_TERMS,
            (0.798, 0.834),
        ),
        Benchmark(
            "konvid_1k",
            "KoNViD-1k",
            "in-domain",
            1200,
            "0-100 (1-5 in Q-Align's and the set's own files)",
            (TEST_JSON, DOVER_TXT, "Q-Align JSON"),
            "http://database.mmsp-kn.de/konvid-1k-database.html",
            "see the set's page; research use; the clips are from YFCC100M, each with a Creative Commons licence",
            (0.881, 0.884),
        ),
        Benchmark(
            "live_vqc",
            "LIVE-VQC",
            "in-domain",
            585,
            "0-100",
            (TEST_JSON, DOVER_TXT),
            "https://live.ece.utexas.edu/research/LIVEVQC/index.html",
            LIVE_TERMS,
            (0.808, 0.847),
        ),
        Benchmark(
            "youtube_ugc",
            "YouTube-UGC",
            "in-domain",
            1020,
            "1-5",
            (TEST_JSON, DOVER_TXT),
            "https://media.withyoutube.com",
            "see the set's page; Creative Commons clips; 1,020 of the original 1,380 are still available",
            (0.860, 0.863),
        ),
        Benchmark(
            "live_yt_gaming",
            "LIVE-YT-Gaming",
            "ood",
            600,
            "0-100",
            (TEST_JSON,),
            "https://live.ece.utexas.edu/research/LIVE-YT-Gaming/index.html",
            LIVE_TERMS,
            (0.767, 0.806),
        ),
        Benchmark(
            "cgvds",
            "CGVDS",
            "ood",
            357,
            "about 1.7-6.1",
            (TEST_JSON,),
            "https://github.com/stootaghaj/CGVDS",
            "none stated on the set's page: ask its authors",
            (0.856, 0.845),
            # GTA5_30_30_1280x720_30_4000_h264_nvenc.mp4: game, seconds (take, rate), size, rate, kbit/s, encoder
            r"(?:.*/)?(?P<source>[^/]+?)(?:_\d)?_30s?_(?:\w+_)?\d+x\d+_\d+_\d+_h264_nvenc(?:\.\w+)?",
        ),
        Benchmark(
            "live_yt_hfr",
            "LIVE-YT-HFR",
            "ood",
            480,
            "0-100",
            (TEST_JSON,),
            "https://live.ece.utexas.edu/research/LIVE_YT_HFR/LIVE_YT_HFR/index.html",
            LIVE_TERMS,
            (0.528, 0.610),
            # bobblehead_crf_28_60fps.webm: content, CRF, frame rate
            r"(?:.*/)?(?P<source>[^/]+?)_crf_\d+_\d+fps(?:\.\w+)?",
        ),
        Benchmark(
            "waterloo_ivc_4k",
            "Waterloo-IVC-4K",
            "ood",
            1200,
            "0-100",
            (TEST_JSON,),
            "https://ivc.uwaterloo.ca/database/4KVQA.html",
            "see the set's page; free use with attribution",
            (0.573, 0.624),
            # HEVC/01/960x540_2.mp4, or joined by "_": encoder, content, size, level
            r"(?:.*/)?(?:H264|HEVC|VP9|AVS2|AV1)[/_]0?(?P<source>\d+)[/_](?:\d+x\d+|\d+p)_\d(?:\.\w+)?",
        ),
        Benchmark(
            "vdpve",
            "VDPVE",
            "ood",
            839,
            "0-100",
            (TEST_JSON,),
            "https://github.com/YixuanGao98/VDPVE-VQA-Dataset-for-Perceptual-Video-Enhancement",
            "none stated on the set's page: ask its authors; the 839 clips are its training part",
            (0.706, 0.716),
            # A0023_07.mp4: the video A0023, enhanced by method 07
            r"(?:.*/)?(?P<source>[ABC]\d{4})_\d\d(?:\.\w+)?",
        ),
    )
}
"""Name -> public set, in the paper's order."""

PUBLISHED_OVERALL = {"in-domain": (0.855, 0.866), "ood": (0.661, 0.698)}
"""Domain -> (SRCC, PLCC) of VQAThinker-8B: means of the sets' values, weighted by their numbers of videos."""
