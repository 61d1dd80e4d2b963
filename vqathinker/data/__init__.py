"""Label and question files, ladders, tables of ratings, MOS scales, splits, test sets, samples, dataset of clips."""

from vqathinker.data.benchmarks import Absent, BenchmarkSet, find_benchmarks, label_table
from vqathinker.data.dataset import clip_dataset
from vqathinker.data.formats import READERS, RawRow, lines_of
from vqathinker.data.labels import LabelError, LabelRow, distortions_of, read_labels
from vqathinker.data.ladders import read_ladders
from vqathinker.data.levels import level_samples
from vqathinker.data.loader import ClipLoader
from vqathinker.data.pairs import pairs_of
from vqathinker.data.public_sets import BENCHMARKS, PUBLISHED_OVERALL, Benchmark
from vqathinker.data.questions import read_questions
from vqathinker.data.ratings import RatedClip, Ratings, read_ratings, write_labels
from vqathinker.data.sample import Sample, score_samples
from vqathinker.data.scales import NATIVE, MosScale, mos_scale
from vqathinker.data.sources import Sources, sources_of
from vqathinker.data.splits import Split, split_by_source
from vqathinker.data.traces import trace

__all__ = [
    "BENCHMARKS",
    "NATIVE",
    "PUBLISHED_OVERALL",
    "READERS",
    "Absent",
    "Benchmark",
    "BenchmarkSet",
    "ClipLoader",
    "LabelError",
    "LabelRow",
    "MosScale",
    "RatedClip",
    "Ratings",
    "RawRow",
    "Sample",
    "Sources",
    "Split",
    "clip_dataset",
    "distortions_of",
    "find_benchmarks",
    "label_table",
    "level_samples",
    "lines_of",
    "mos_scale",
    "pairs_of",
    "read_labels",
    "read_ladders",
    "read_questions",
    "read_ratings",
    "score_samples",
    "sources_of",
    "split_by_source",
    "trace",
    "write_labels",
]
