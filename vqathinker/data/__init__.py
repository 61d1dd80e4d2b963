"""Label and question files, ladders, tables of ratings, MOS scales, splits, test sets, samples, dataset of clips."""

from vqathinker.data.benchmarks import Absent, BenchmarkSet, find_benchmarks, label_table
from vqathinker.data.dataset import clip_dataset
from vqathinker.data.formats import READERS, RawRow, lines_of
from vqathinker.data.further_sets import FURTHER_SETS
from vqathinker.data.labels import LabelError, LabelRow, distortions_of, read_labels, stalls_of
from vqathinker.data.ladders import read_ladders
from vqathinker.data.levels import level_samples
from vqathinker.data.loader import ClipLoader
from vqathinker.data.pairs import pairs_of
from vqathinker.data.public_sets import BENCHMARKS, PUBLISHED_OVERALL, Benchmark
from vqathinker.data.question_sets import QUESTION_SETS, QuestionSet
from vqathinker.data.questions import read_questions
from vqathinker.data.ratings import RatedClip, Ratings, read_ratings, write_labels
from vqathinker.data.sample import Sample, score_samples
from vqathinker.data.scales import NATIVE, MosScale, mos_scale
from vqathinker.data.sources import Sources, sources_of
from vqathinker.data.splits import Split, split_by_source
from vqathinker.data.stalls import Stalls, parse_stalls, read_events
from vqathinker.data.traces import trace

__all__ = [
    "BENCHMARKS",
    "FURTHER_SETS",
    "NATIVE",
    "PUBLISHED_OVERALL",
    "QUESTION_SETS",
    "READERS",
    "Absent",
    "Benchmark",
    "BenchmarkSet",
    "ClipLoader",
    "LabelError",
    "LabelRow",
    "MosScale",
    "QuestionSet",
    "RatedClip",
    "Ratings",
    "RawRow",
    "Sample",
    "Sources",
    "Split",
    "Stalls",
    "clip_dataset",
    "distortions_of",
    "find_benchmarks",
    "label_table",
    "level_samples",
    "lines_of",
    "mos_scale",
    "pairs_of",
    "parse_stalls",
    "read_events",
    "read_labels",
    "read_ladders",
    "read_questions",
    "read_ratings",
    "score_samples",
    "sources_of",
    "split_by_source",
    "stalls_of",
    "trace",
    "write_labels",
]
