"""Clips in order of quality: by their scores, and by comparisons of those whose scores tell no difference."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from accelerate.utils import gather_object
from tqdm.auto import tqdm

from vqathinker.data import ClipLoader
from vqathinker.metrics.ranking import Pair, abilities_of, most_comparisons, tournament
from vqathinker.policy import ClipInput
from vqathinker.scoring.asking import check_lengths
from vqathinker.scoring.comparing import QualityComparison, compare_pairs, pair_sample
from vqathinker.scoring.duration import Estimate
from vqathinker.scoring.provenance import fingerprint, settings_of
from vqathinker.scoring.scorer import QualityScorer, process_state
from vqathinker.scoring.table import DIGITS, score_files, stamp
from vqathinker.tasks import find_task
from vqathinker.writing import finite, write_whole

BY = ("score", "compare")
"""`score`: clips are scored, and those whose scores tie are compared. `compare`: comparisons alone."""
OF_SCORES = ("readout", "samples", "prompt_hash", "temperature", "top_p", "top_k", "seed")
"""Settings that no comparison depends on: its answers are greedy, to a question of its own."""
STEP = 0.01
"""Scores this close tie: answers have two decimals."""


@dataclass(frozen=True)
class RankedClip:
    """A clip among others. NaN where there is no such number.

    Attributes:
        video: Path.
        rank: From 1, the best; clips that nothing tells apart share one. `None` where nothing is known of the clip.
        ability: Log-odds of being preferred, among the clips of its `group`, see `metrics.ranking.Abilities`.
        low: Low end of its 90 % interval.
        high: High end.
        score: In score units.
        spread: Of the score, see `QualityScore`.
        comparisons: How many of its comparisons were answered.
        group: Clips that comparisons join have one number, from 1 in the order of their best ranks. Between groups only
            scores tell the order: without scores, nothing does.
        status: `"ok"`, or why there is no rank: as `QualityScore`'s, or `"not_compared"`.
        error: Why the clip cannot be read, else "".
    """

    video: str
    rank: int | None = None
    ability: float = math.nan
    low: float = math.nan
    high: float = math.nan
    score: float = math.nan
    spread: float = math.nan
    comparisons: int = 0
    group: int = 0
    status: str = "ok"
    error: str = ""


@dataclass(frozen=True)
class Ranking:
    """Clips, the best first, then those without a rank.

    Attributes:
        clips: All of them.
        compared: Pairs that were asked about.
        answered: Pairs with an answer in both orders.
        inconsistent: Of these, how many name another clip when they are swapped.
    """

    clips: tuple[RankedClip, ...]
    compared: int
    answered: int
    inconsistent: int

    @property
    def groups(self) -> int:
        """Of clips that comparisons join, alone ones included."""
        return len({clip.group for clip in self.clips if clip.rank is not None})


def rank_files(
    scorer: QualityScorer,
    videos: Sequence[str | Path],
    by: str = "score",
    folder: str | Path | None = None,
    progress: bool = True,
) -> Ranking:
    """Rank files; under `accelerate launch` the processes share the work, and all of them must call this.

    By `"score"`, clips are scored and sorted. Neighbours whose scores lie no further apart than `STEP`, or than the
    scores' spreads together (root of the sum of squares) where the read-out tells them, are in one group. By
    `"compare"`, all clips are one group. Each group is ordered by a tournament (`metrics.ranking.tournament`), which
    begins with what is close in score.

    Args:
        scorer: Scores and compares.
        videos: Paths.
        by: One of `BY`.
        folder: Where scores and comparisons are kept, a second run goes on with them; `None` keeps none.
        progress: Show a progress bar, and tell about how long it will take.

    Raises:
        ValueError: If `by` is neither, a file in the folder is none of ours, or the prompt of two clips is longer than
            the engine takes.
    """
    if by not in BY:
        raise ValueError(f"by={by!r}: must be one of {BY}.")
    names = list(dict.fromkeys(map(str, videos)))
    check_lengths(scorer, [pair_sample(*names[:2])] if len(names) > 1 else [])  # before hours of scoring
    known, lost = (_scored if by == "score" else _readable)(scorer, names, folder, progress)
    known.sort(key=lambda clip: -clip.score if by == "score" else 0)
    groups = tied(known) if by == "score" else [0] * len(known)
    comparisons = Comparisons(scorer, folder)
    total = sum(map(most_comparisons, Counter(groups).values()))
    with comparisons.shown(total, progress):
        pairs, preferences = tournament(
            lambda chosen: comparisons([(known[i].video, known[j].video) for i, j in chosen]),
            len(known),
            [clip.score for clip in known] if by == "score" else None,
            groups,
        )
    ranked = _ordered(known, groups, pairs, preferences, by == "score")
    answered = [found for found in comparisons.asked if not math.isnan(found["preference"])]
    inconsistent = sum(not found["consistent"] for found in answered)
    return Ranking((*ranked, *lost), len(comparisons.asked), len(answered), inconsistent)


def tied(clips: Sequence[RankedClip]) -> list[int]:
    """Number of each clip's group, from 0; clips sorted by score, see `rank_files`."""
    groups = [0] * len(clips)
    for place in range(1, len(clips)):
        one, other = clips[place - 1], clips[place]
        spreads = [spread for spread in (one.spread, other.spread) if not math.isnan(spread)]
        apart = one.score - other.score > max(STEP, math.hypot(*spreads)) + 1e-9
        groups[place] = groups[place - 1] + apart
    return groups


Found = tuple[list[RankedClip], list[RankedClip]]
"""Clips that can be ranked, and the others."""


def _scored(scorer: QualityScorer, videos: Sequence[str], folder: str | Path | None, progress: bool) -> Found:
    made_with = fingerprint(settings_of(scorer))
    tables = [] if folder is None else [Path(folder) / "scores" / f"{made_with}.csv"]
    rows = score_files(scorer, videos, made_with, tables, progress=progress)
    clips = [
        RankedClip(row["video"], score=row["score"], spread=row["std"], status=row["status"], error=row["error"])
        for row in rows
    ]
    return [clip for clip in clips if clip.status == "ok"], [clip for clip in clips if clip.status != "ok"]


def _readable(scorer: QualityScorer, videos: Sequence[str], folder: object, progress: bool) -> Found:
    """Those that can be decoded: a tournament with others would spend its comparisons on them. The processes share
    the work."""
    state = process_state()
    loader: ClipLoader[ClipInput] = ClipLoader(scorer.processor.load_clip, scorer.decode_threads)
    own = videos[state.process_index :: state.num_processes]
    decoded = [name for _, clips in loader.batches(own, scorer.batch_size) for name in clips]
    known = {*gather_object(decoded)}
    lost = dict(gather_object([*loader.skipped.items()]))
    unreadable = [RankedClip(name, status="unreadable", error=lost[name]) for name in videos if name in lost]
    return [RankedClip(name) for name in videos if name in known], unreadable


def _ordered(
    clips: Sequence[RankedClip], tied: Sequence[int], pairs: Sequence[Pair], preferences: Sequence[float], scored: bool
) -> list[RankedClip]:
    """The clips, the best first: by group of tied scores, in it the clips that comparisons join by their mean
    score, and among these by ability, then by score.

    Without scores, clips that no comparison joins to another one come last, without a rank.
    """
    found = abilities_of(len(clips), pairs, preferences)
    answered = [pair for pair, p in zip(pairs, preferences, strict=True) if not math.isnan(p)]
    counts = Counter(place for pair in answered for place in pair)
    parts: list[int] = found.groups.tolist() if scored else [0] * len(clips)
    scores: dict[int, list[float]] = {}
    for part, clip in zip(parts, clips, strict=True):
        scores.setdefault(part, []).append(clip.score)
    means = {part: fmean(known) for part, known in scores.items()}
    blocks = [(tied[i], -round(means[part], 9)) if scored else (0, 0.0) for i, part in enumerate(parts)]
    abilities = [0.0 if math.isnan(value) else round(float(value), 9) for value in found.values]
    keys = [(-abilities[i], -clip.score if scored else 0.0) for i, clip in enumerate(clips)]
    alone = {i for i in range(len(clips)) if not scored and not counts[i] and len(clips) > 1}
    own = [i for i in range(len(clips)) if i not in alone]
    known = _ranks([blocks[i] for i in own], [parts[i] for i in own], [keys[i] for i in own])
    ranks = dict(zip(own, known, strict=True))
    numbers: dict[int, int] = {}
    ranked = []
    for i in [*sorted(own, key=lambda i: (ranks[i], i)), *sorted(alone)]:
        whole = replace(
            clips[i],
            rank=ranks.get(i),
            ability=float(found.values[i]),
            low=float(found.low[i]),
            high=float(found.high[i]),
            comparisons=counts[i],
            group=numbers.setdefault(int(found.groups[i]), len(numbers) + 1),
            status="not_compared" if i in alone else "ok",
        )
        ranked.append(whole)
    return ranked


def _ranks(blocks: Sequence[tuple], parts: Sequence[int], keys: Sequence[tuple]) -> list[int]:
    """1 + how many clips are better: those of better blocks, and of the same part those with a smaller key. Nothing
    tells apart the clips of two parts of one block."""
    ordered = sorted(blocks)
    own: dict[int, list[tuple]] = {}
    for part, key in sorted(zip(parts, keys, strict=True)):
        own.setdefault(part, []).append(key)
    places = zip(blocks, parts, keys, strict=True)
    return [1 + bisect_left(ordered, block) + bisect_left(own[part], key) for block, part, key in places]


def ranking_text(clips: Sequence[RankedClip], is_csv: bool) -> str:
    """A table as CSV with its header, or as JSON lines; its columns are the attributes of `RankedClip`."""
    columns = [field.name for field in fields(RankedClip)]
    columns.insert(0, columns.pop(columns.index("rank")))
    rows = [{name: getattr(clip, name) for name in columns} for clip in clips]
    rows = [{k: round(v, DIGITS) if isinstance(v, float) else v for k, v in row.items()} for row in rows]
    if not is_csv:  # NaN is no JSON
        return "".join(_line(finite(row)) for row in rows)
    table = io.StringIO()
    writer = csv.DictWriter(table, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


# ---------------------------------------------------------------- comparisons


class Comparisons:
    """Compares pairs of files, and keeps what was said: in memory and, with a folder, in a file of JSON lines.

    Args:
        scorer: Compares.
        folder: Where the file goes; `None` for no file. It is named after all that answers depend on.

    Attributes:
        asked: What was said of the pairs that were asked about.
    """

    def __init__(self, scorer: QualityScorer, folder: str | Path | None = None) -> None:
        self.scorer, self.state = scorer, process_state()
        self.path = None if folder is None else Path(folder) / "comparisons" / f"{_made_with(scorer)}.jsonl"
        self.asked: list[dict[str, Any]] = []
        self._known: dict[tuple[str, str], dict[str, Any]] = {}
        if self.path is not None:
            self._known = {(row["first"], row["second"]): row for row in _read(self.path)}
            self.state.wait_for_everyone()  # nobody writes before everybody has read
            if self.state.is_main_process:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(self.path, "".join(map(_line, self._known.values())))
        self._show: Callable[[int], None] = lambda count: None

    def shown(self, total: int, progress: bool) -> tqdm:
        """A progress bar of so many comparisons at most, to be used as a context."""
        silent = not progress or not self.state.is_main_process
        estimate = Estimate(total, "comparisons at most", "comparing", silent=silent)
        bar = tqdm(total=total, desc="comparing", unit="pair", disable=True if silent else None)

        def show(count: int) -> None:
            bar.update(count)
            estimate.update(count)

        self._show = show
        return bar

    def __call__(self, pairs: Sequence[tuple[str, str]]) -> list[float]:
        """How probably the first of each pair is the better one; NaN without an answer. The processes share them."""
        todo = [pair for pair in pairs if pair not in self._known and pair[::-1] not in self._known]
        own = todo[self.state.process_index :: self.state.num_processes]
        new = gather_object([_record(one) for batch in compare_pairs(self.scorer, own) for one in batch])
        self._known |= {(row["first"], row["second"]): row for row in new}
        if self.path is not None and self.state.is_main_process:
            with self.path.open("a", encoding="utf-8") as file:
                file.write("".join(map(_line, new)))
        self._show(len(pairs))
        self.asked += [self._known.get(pair) or self._known[pair[::-1]] for pair in pairs]
        return [
            self._known[pair]["preference"] if pair in self._known else 1 - self._known[pair[::-1]]["preference"]
            for pair in pairs
        ]


def _made_with(scorer: QualityScorer) -> str:
    """Names all that an answer depends on: how scores are asked for is not among it."""
    prompt = scorer.processor.render(find_task("compare").messages(pair_sample("", ""), scorer.processor)).ids
    asked = hashlib.sha256(json.dumps(prompt).encode()).hexdigest()[:16]
    settings = {name: value for name, value in settings_of(scorer).items() if name not in OF_SCORES}
    return fingerprint(settings | {"compare_hash": asked})


def _record(found: QualityComparison) -> dict[str, Any]:
    return {
        "first": found.first,
        "second": found.second,
        "preference": found.preference,
        "orders": found.orders,
        "scores": found.scores,
        "consistent": found.consistent,
        "status": found.status,
        "source_stat": [stamp(found.first), stamp(found.second)],
    }


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row) + "\n"  # in ASCII: file names may hold bytes that are no UTF-8. NaN is read back


def _read(path: Path) -> list[dict[str, Any]]:
    """What a file holds of clips that have not changed; a last line that a killed run left torn is dropped.

    Raises:
        ValueError: If it is no such file.
    """
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    try:
        rows = [json.loads(line) for line in lines]
        kept = [row for row in rows if row["status"] != "unreadable"]
        return [row for row in kept if row["source_stat"] == [stamp(row["first"]), stamp(row["second"])]]
    except (ValueError, KeyError, TypeError) as error:
        why = f"{str(path)!r} holds no comparisons ({error!r})"
        raise ValueError(f"{why}: name another folder, or delete it.") from None
