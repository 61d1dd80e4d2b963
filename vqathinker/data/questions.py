"""Reading question files: rows that each hold one question, about one clip or two, and its answer."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vqathinker.data.files import VideoFiles, check_places, safe_name
from vqathinker.data.formats import LabelError, number_of
from vqathinker.data.options import check_options, letter_of, options_in
from vqathinker.data.places import FORMS as PLACED_FORMS
from vqathinker.data.places import placed_target, task_named
from vqathinker.data.question_files import READERS, records_of
from vqathinker.data.sample import Sample, named_clips
from vqathinker.data.scales import LABEL_RANGE
from vqathinker.data.stalls import COLUMN, stalls_at
from vqathinker.rewards import level_words
from vqathinker.rewards.distortion import parse_distortions
from vqathinker.wording import counted

logger = logging.getLogger(__name__)

KEYS = (
    *("video", "question", "prompt", "options", "answer", "reason", "mos", "level", "words", "type", "tags", "id"),
    *("system", "task", "ordered", "stalls"),
)
"""Keys that mean something to the reader; all others are label columns."""
FORMS = (
    '{"video": "a/b.mp4", "question": "...", "options": ["...", "..."], "answer": "B"} or '
    '{"prompt": [{"role": "user", "content": [{"type": "video", "video": "a/b.mp4"}, {"type": "text", "text": "..."}'
    ']}], "options": [...], "answer": "B"}; a row with "mos" and neither options nor answer asks for a score, one with '
    '"level" for a level word, and the answer to one with "type": "open" is a text'
)
OPEN = "open"
"""Type of a question that is answered in the policy's own words."""
YES_NO = ("Yes", "No")
"""Options of a question of the type "yesno" that names none."""


def read_questions(path: str | Path | Sequence[str | Path], video_root: str | Path) -> list[Sample]:
    """Read a question file: JSON lines, two forms that may be mixed (docs/data.md lists the keys).

    Plain: `{"video": "a/b.mp4", "question": "...", "options": ["...", ...], "answer": "B"}`; for a question about two
    clips `video` is a list of both. Conversational: clips and question stand in `prompt`, a list of messages: a system
    message, or none, and one user message. Where `options` is absent, lines "A. ...", "B. ..." at the end of the
    question are the options, and are cut from it; a question of the type "yesno" has "Yes" and "No". The answer is a
    letter or an option's text. `"ordered": true` says that the options are given in their order on a scale. A row with
    the task "when", "where" or "count" has an answer in numbers, see `vqathinker.data.places`. A row with `mos`, in
    score units, and neither options nor answer is a score sample; one with `level`, a quality word of `words` (a name
    of `rewards.LEVEL_WORDS`, default "itu"), asks for that, and may have `mos` beside it. One of the type "open" has no
    options, and its answer is a reference text. Keys whose value is null count as absent. Keys other than `KEYS` are
    label columns and go into the target.

    A `.json` file is one list of such rows. Published files are read too, and give their questions the tag `set`:
    Q-Bench-Video's JSON and VLMEvalKit's `.tsv` of it (`vqathinker.data.qbench`), FineVD's `.jsonl`
    (`vqathinker.data.finevd`), VQA²'s conversations (`vqathinker.data.vqa2`).

    Args:
        path: A `.jsonl`, `.json` or `.tsv` file; UTF-8 with or without BOM, LF or CRLF. Several are read as one file.
        video_root: Folder the video names are relative to, as for `read_labels`.

    Returns:
        One sample per row in file order, of the task "choice" (`target["answer"]` is a letter, `target["steps"]` the
        step of each option where they are ordered), "open" (`target["reference"]`), "score", "level", or that of its
        key `task`. A row without `id` is named `VIDEO: QUESTION`, with options or reference behind it where two rows
        would have one name; a score row without a question is named like its video, a level row `VIDEO: level`. A row
        that repeats another in everything is dropped, with a warning, and so are an open question without a reference,
        and rows of published files that do not fit (or whose answers differ): nobody can correct these.

    Raises:
        LabelError: If the file is missing or empty, a line does not fit, two rows have one id, or one question about
            one clip has two answers; in a published file, if no row fits.
    """
    paths = [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
    files = VideoFiles(Path(video_root))
    rows: list[_Row] = []
    left_out: dict[str, str] = {}
    for one in paths:
        check_places(one, Path(video_root), list(READERS), "question file")
        rows += _rows_of(one, files, left_out)
    shown = ", ".join(map(str, paths))
    kept = _without_repetitions(rows)
    if len(kept) < len(rows):
        rows_repeat = counted(len(rows) - len(kept), "row repeats", "rows repeat")
        logger.warning("%s: %s another one: dropped.", shown, rows_repeat)
    samples = _named(_check_answers(kept, left_out), left_out)
    if left_out:
        place, message = next(iter(left_out.items()))
        logger.warning("%s: %s left out: first %s: %s", shown, counted(len(left_out), "published row"), place, message)
    return samples


def _rows_of(path: Path, files: VideoFiles, left_out: dict[str, str]) -> list[_Row]:
    """The rows of one file; place -> message of published ones that do not fit are put into `left_out`.

    Raises:
        LabelError: If there is none, or one does not fit that is not published.
    """
    rows: list[_Row] = []
    wrong: dict[str, str] = {}
    for place, record, published in records_of(path, files, wrong):
        try:
            rows.append(_row(place, record, files, published))
        except ValueError as error:
            if not published:
                raise error if isinstance(error, LabelError) else LabelError(f"{place}: {error}") from None
            wrong[place] = str(error)
    if not rows and wrong:
        raise LabelError("{}: {}".format(*next(iter(wrong.items()))))
    if not rows:
        raise LabelError(f"question file {str(path)!r} holds no questions: write one per line: {FORMS}.")
    left_out |= wrong
    return rows


@dataclass(frozen=True)
class _Row:
    """A line that was read: its place, the videos' names, the sample, whose id is empty where the line has none, and
    whether it is of a published form."""

    place: str
    name: str
    sample: Sample
    published: bool


def _row(place: str, record: Any, files: VideoFiles, published: bool) -> _Row:
    """The sample of one line.

    Raises:
        ValueError: If something does not fit.
    """
    if not isinstance(record, dict):
        raise ValueError(f"found {type(record).__name__} {str(record)[:80]!r}; a line must be one of: {FORMS}.")
    videos, question, system = _asked(record)
    names = [safe_name(video) for video in videos]
    columns = _columns(record)
    target: dict[str, Any]
    task = task_named(record)
    if task is not None:
        if len(names) > 1:
            raise ValueError(
                f"the row has the task {task!r} and shows the videos {names!r:.200}: it is about one clip."
            )
        target = placed_target(record, task, question)
    elif label := next((key for key in ("level", "mos") if key in record), None):
        if len(names) > 1:
            raise ValueError(f"the row has {label!r} and shows the videos {names!r:.200}: a score is of one clip.")
        asked = [key for key in ("options", "answer") if key in record]
        if asked:
            raise ValueError(f"the row has {label!r} and {asked}: a row asks one question. Write one row for each.")
        task, target = ("level" if label == "level" else "score"), _judged(record)
    elif record.get("type") == OPEN:
        task, target = "open", {"reference": _reference(record, question)}
    else:
        question, target = _choice(record, question)
        task = "choice"
    clips = tuple(str(files.find(name)) for name in names)
    columns |= _stalls(record, task, clips[0])
    sample = Sample(_text(record, "id"), task, clips, question, target | columns, _tags(record), system)
    return _Row(place, named_clips(names), sample, published)


def _asked(record: Mapping[str, Any]) -> tuple[list[Any], str, str]:
    """Videos as written, one or two, question and system message of a row of either form."""
    if "prompt" not in record:
        if "video" not in record or not record.keys() & {"question", "mos", "level"}:
            raise ValueError(f"found the keys {list(record)}; a line must be one of: {FORMS}.")
        return _shown(_listed(record)), _text(record, "question"), _text(record, "system")
    if "question" in record:
        raise ValueError("the row has both 'question' and 'prompt': keep one of them.")
    system, content = _messages(record["prompt"])
    question, videos = _content(content)
    if videos and _listed(record) not in ([], videos):
        raise ValueError(
            f"the prompt shows the videos {videos!r:.200} and the key 'video' names {record['video']!r:.200}: keep one "
            "of them."
        )
    videos = videos or _listed(record)
    if system and _text(record, "system") not in ("", system):
        raise ValueError(
            f"'system' {record['system']!r:.80} differs from the prompt's system message: keep one of them."
        )
    return _shown(videos), question, system or _text(record, "system")


def _listed(record: Mapping[str, Any]) -> list[Any]:
    """What stands under the key `video`, one name or a list of names."""
    video = record.get("video", [])
    return video if isinstance(video, list) else [video]


def _shown(videos: list[Any]) -> list[Any]:
    if len(videos) not in (1, 2):
        raise ValueError(
            f'the row shows the videos {videos!r:.200}: it must show one or two. Name each in a block {{"type": '
            '"video", "video": "a/b.mp4"}, or under the key "video", as a name or a list of two.'
        )
    return videos


def _messages(prompt: Any) -> tuple[str, Any]:
    """System message ("" for none) and content of the user message."""
    messages = prompt if isinstance(prompt, list) else []
    roles = [message.get("role") if isinstance(message, dict) else None for message in messages]
    if roles not in (["user"], ["system", "user"]) or any("content" not in message for message in messages):
        raise ValueError(
            f"prompt {prompt!r:.200} must be a list of one user message, with or without a system message before it, "
            "each with 'role' and 'content'. Leave the answer out: it has its own key."
        )
    if len(messages) == 1:
        return "", messages[0]["content"]
    system, videos = _content(messages[0]["content"])
    if videos:
        raise ValueError(f"the system message shows the videos {videos!r:.200}: put them into the user message.")
    return system, messages[1]["content"]


def _content(content: Any) -> tuple[str, list[Any]]:
    """Text (of several blocks, line below line) and videos of a message's content."""
    if isinstance(content, str):
        return content.strip(), []
    texts, videos = [], []
    for block in content if isinstance(content, list) else [content]:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text" and block.keys() == {"type", "text"} and isinstance(block["text"], str):
            texts.append(block["text"].strip())
        elif kind == "video" and block.keys() <= {"type", "video"}:
            videos += [block["video"]] if "video" in block else []  # named under the row's key "video"
        else:
            raise ValueError(
                f'content {block!r:.120} must be {{"type": "video", "video": "a/b.mp4"}}, {{"type": "text", "text": '
                '"..."} or plain text.'
            )
    return "\n".join(texts), videos


def _choice(record: Mapping[str, Any], asked: str) -> tuple[str, dict[str, Any]]:
    """Question without options, and target, of a question with options."""
    question, listed = options_in(asked)
    if "options" in record:
        options = check_options(record["options"])
        if listed and listed != options:
            raise ValueError(
                f"the question lists the options {list(listed)!r:.200} and the row {list(options)!r:.200}: they "
                "must be the same. Remove them from the question."
            )
    elif listed:
        options = check_options(listed)
    elif record.get("type") == "yesno":
        options = YES_NO
    else:
        raise ValueError(
            f"question {asked!r:.120} has no options: give 'options', or lines 'A. ...', 'B. ...' at the question's "
            'end, or "type": "yesno". A question for a score has "mos".'
        )
    if not question:
        raise ValueError(f"question {asked!r:.80} must be a non-empty string: write the question.")
    if "answer" not in record:
        raise ValueError("the row has no 'answer': give the letter or the text of the right option.")
    ordered = record.get("ordered", False)
    if not isinstance(ordered, bool):
        raise ValueError(f"ordered {ordered!r:.80} must be true or false: whether the options are steps of a scale.")
    steps = {"steps": tuple(range(len(options)))} if ordered else {}
    return question, {"options": options, "answer": letter_of(record["answer"], options)} | steps


def _judged(record: Mapping[str, Any]) -> dict[str, Any]:
    """Target of a row that asks how good a clip is."""
    target = {"mos": _mos(record["mos"])} if "mos" in record else {}
    if "level" not in record:
        return target
    name = _text(record, "words") or "itu"
    words, word = level_words(name), _text(record, "level").casefold()
    if word not in words:
        raise ValueError(f"level {record['level']!r:.80} must be one of {list(words)}, the words {name!r}.")
    return target | {"level": word, "words": name}


def _reference(record: Mapping[str, Any], question: str) -> str:
    """The right answer of an open question."""
    if not question:
        raise ValueError(f"question {record.get('question')!r:.80} must be a non-empty string: write the question.")
    if "options" in record:
        raise ValueError(f"type {OPEN!r} with options {record['options']!r:.120}: leave the options out, or the type.")
    if not (reference := _text(record, "answer")):
        raise ValueError("the row has no 'answer': give the text that answers are to be measured against.")
    return reference


def _mos(value: Any) -> float:
    try:
        mos = number_of(value)
    except ValueError as error:
        raise ValueError(f"mos {error}") from None
    low, high = LABEL_RANGE
    if not low <= mos <= high:
        raise ValueError(
            f"mos {mos:g} must be in score units, {low:g} to {high:g}: convert it, or put it in a label file, which "
            "can have any scale."
        )
    return mos


def _text(record: Mapping[str, Any], key: str) -> str:
    """The text under a key, spaces around it cut; "" where the key is absent."""
    value = record.get(key, "")
    if not isinstance(value, str) or (key in record and key == "id" and not value.strip()):
        raise ValueError(
            f"{key} {value!r:.80} must be a {'non-empty ' if key == 'id' else ''}string; put it in quotes."
        )
    return value.strip()


def _tags(record: Mapping[str, Any]) -> dict[str, str]:
    tags = record.get("tags", {})
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise ValueError(f'tags {tags!r:.120} must be an object of strings, like {{"concern": "Technical"}}.')
    kind = _text(record, "type")
    if kind and tags.get("type", kind) != kind:
        raise ValueError(f"type {kind!r} and the tag 'type' {tags['type']!r} disagree: keep one of them.")
    return ({"type": kind} if kind else {}) | tags


def _stalls(record: Mapping[str, Any], task: str, clip: str) -> dict[str, str]:
    """The clip's stalls as a label column; none where the row does not tell."""
    stalls = stalls_at(record.get(COLUMN), clip)
    if stalls is None:
        return {}
    if task not in ("score", "level"):
        raise ValueError(
            f"the row has 'stalls' and asks for a {task!r} answer: only prompts for a score or a level word tell of "
            "them. Leave them out."
        )
    return {COLUMN: stalls.to_json()}


def _columns(record: Mapping[str, Any]) -> dict[str, Any]:
    """Label columns: all keys that the reader does not know itself."""
    columns = {key: value for key, value in record.items() if key not in KEYS or key == "reason"}
    for key, value in columns.items():
        meant = get_close_matches(key, KEYS, 1, cutoff=0.75)
        if meant and key not in KEYS:
            raise ValueError(f"key {key!r} is unknown: did you mean {meant[0]!r}? If not, rename your column.")
        if not isinstance(value, str | int | float):
            raise ValueError(
                f"{key} {value!r:.80} must be a string or a number, like a label column. Known keys: {KEYS}."
            )
    if columns.keys() >= {"kind", "severity"}:
        parse_distortions(columns["kind"], columns["severity"])
    return columns


def _without_repetitions(rows: Sequence[_Row]) -> list[_Row]:
    """The first of rows that agree in everything."""
    first: dict[str, _Row] = {}
    for row in rows:
        first.setdefault(json.dumps(asdict(row.sample), sort_keys=True), row)
    return list(first.values())


def _check_answers(rows: Sequence[_Row], left_out: dict[str, str]) -> list[_Row]:
    """Refuse one question about one clip, between the same options in any order, that has two answers; published rows
    are left out, all of that question.

    Returns:
        The others.
    """
    known: dict[tuple, tuple[str, str]] = {}
    differ: dict[tuple, str] = {}
    for row in rows:
        asked, answer = _asked_for(row.sample)
        before, place = known.setdefault(asked, (answer, row.place))
        if before == answer:
            continue
        message = (
            f"{row.sample.question!r:.120} about {row.name!r} has the answer {answer!r}, but {before!r} at {place}: "
            "one of them must be wrong. Correct or remove it."
        )
        if not row.published:
            raise LabelError(f"{row.place}: {message}")
        differ[asked] = message
    wrong = [row for row in rows if row.published and _asked_for(row.sample)[0] in differ]
    left_out |= {row.place: differ[_asked_for(row.sample)[0]] for row in wrong}
    return [row for row in rows if row.place not in left_out]


def _asked_for(sample: Sample) -> tuple[tuple, str]:
    """What is asked, and the one right answer; "" for scores and open questions, which may have several."""
    target, options = sample.target, sample.target.get("options", ())
    if sample.task == "level":
        options, answer = level_words(target["words"]), target["level"]
    elif sample.task in PLACED_FORMS:
        answer = str(target[f"answer_{PLACED_FORMS[sample.task][0]}"])
    else:
        answer = options[ord(target["answer"]) - ord("A")].casefold() if sample.task == "choice" else ""
    shown = options if sample.task in ("choice", "level") else ()
    return (sample.clips, sample.question, sample.task, frozenset(option.casefold() for option in shown)), answer


def _named(rows: Sequence[_Row], left_out: dict[str, str]) -> list[Sample]:
    """The samples, each with an id of its own; published rows whose id is taken are left out."""
    short = [row.sample.id or _default_id(row) for row in rows]
    counts = Counter(short)
    places: dict[str, str] = {}
    samples = []
    for row, name in zip(rows, short, strict=True):
        told = row.sample.target.get("options") or [row.sample.target.get("reference")]
        if not row.sample.id and counts[name] > 1 and told != [None]:
            name = f"{name} [{' | '.join(told)}]"
        if name in places:
            message = (
                f"the row at {places[name]} also has the id {name!r:.200}, and the rows differ: an id names one "
                "question about one clip. Give each row its own 'id', or remove one of them."
            )
            if not row.published:
                raise LabelError(f"{row.place}: {message}")
            left_out[row.place] = message
            continue
        places[name] = row.place
        samples.append(replace(row.sample, id=name))
    return samples


def _default_id(row: _Row) -> str:
    asked = row.sample.question or ("level" if row.sample.task == "level" else "")
    return f"{row.name}: {asked}" if asked else row.name
