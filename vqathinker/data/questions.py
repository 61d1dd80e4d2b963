"""Reading question files: rows that each hold one question, about one clip or two, and its answer."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vqathinker.data.files import VideoFiles, check_places, safe_name
from vqathinker.data.formats import LabelError, lines_of, load_json, number_of
from vqathinker.data.options import check_options, letter_of, options_in
from vqathinker.data.qbench import is_published, plain_row
from vqathinker.data.sample import Sample, named_clips
from vqathinker.data.scales import LABEL_RANGE
from vqathinker.data.vqa2 import is_conversation
from vqathinker.data.vqa2 import plain_row as plain_conversation
from vqathinker.rewards import level_words
from vqathinker.rewards.distortion import parse_distortions
from vqathinker.wording import counted

logger = logging.getLogger(__name__)

KEYS = (
    *("video", "question", "prompt", "options", "answer", "reason", "mos", "level", "words", "type", "tags", "id"),
    "system",
)
"""Keys that mean something to the reader; all others are label columns."""
FORMS = (
    '{"video": "a/b.mp4", "question": "...", "options": ["...", "..."], "answer": "B"} or '
    '{"prompt": [{"role": "user", "content": [{"type": "video", "video": "a/b.mp4"}, {"type": "text", "text": "..."}'
    ']}], "options": [...], "answer": "B"}; a row with "mos" and neither options nor answer asks for a score, one '
    'with "level" for a level word'
)
YES_NO = ("Yes", "No")
"""Options of a question of the type "yesno" that names none."""


def read_questions(path: str | Path, video_root: str | Path) -> list[Sample]:
    """Read a question file: JSON lines, two forms that may be mixed (docs/data.md lists the keys).

    Plain: `{"video": "a/b.mp4", "question": "...", "options": ["...", ...], "answer": "B"}`; for a question about two
    clips `video` is a list of both. Conversational: clips and question stand in `prompt`, a list of messages: a system
    message, or none, and one user message. Where `options` is absent, lines "A. ...", "B. ..." at the end of the
    question are the options, and are cut from it; a question of the type "yesno" has "Yes" and "No". The answer is a
    letter or an option's text. A row with `mos`, in score units, and neither options nor answer is a score sample; one
    with `level`, a quality word of `words` (a name of `rewards.LEVEL_WORDS`, default "itu"), asks for that, and may
    have `mos` beside it. Keys whose value is null count as absent. Keys other than `KEYS` are label columns and go into
    the target.

    A `.json` file is one list of rows. Rows of Q-Bench-Video (`vqathinker.data.qbench`) and of VQA²
    (`vqathinker.data.vqa2`) are read as published; their open-ended questions are left out and counted in a warning.

    Args:
        path: A `.jsonl` or `.json` file; UTF-8 with or without BOM, LF or CRLF.
        video_root: Folder the video names are relative to, as for `read_labels`.

    Returns:
        One sample per row in file order, of the task "choice", "score" or "level"; `target["answer"]` is a letter. A
        row without `id` is named `VIDEO: QUESTION`, with the options behind it where two rows would have one name; a
        score row without a question is named like its video, a level row `VIDEO: level`. A row that repeats another in
        everything is dropped, with a warning.

    Raises:
        LabelError: If the file is missing or empty, a line does not fit, two rows have one id, or one question about
            one clip has two answers.
    """
    path = Path(path)
    check_places(path, Path(video_root), [".jsonl", ".json"], "question file")
    files = VideoFiles(Path(video_root))
    rows: list[_Row] = []
    for place, record in _records(path, files):
        try:
            rows.append(_row(place, record, files))
        except LabelError:
            raise
        except ValueError as error:
            raise LabelError(f"{place}: {error}") from None
    if not rows:
        raise LabelError(f"question file {str(path)!r} holds no questions: write one per line: {FORMS}.")
    kept = _without_repetitions(rows)
    if len(kept) < len(rows):
        rows_repeat = counted(len(rows) - len(kept), "row repeats", "rows repeat")
        logger.warning("%s: %s another one: dropped.", path, rows_repeat)
    _check_answers(kept)
    return _named(kept)


def _records(path: Path, files: VideoFiles) -> Iterator[tuple[str, Any]]:
    """The rows of a file in our own form, with their places for messages; open questions are left out."""
    left_out = []
    for place, record in _listed_records(path):
        try:
            known = _plain(record, files)
        except ValueError as error:
            raise LabelError(f"{place}: {error}") from None
        if known is None:
            left_out.append(place)
        else:
            yield place, known
    if left_out:
        open_rows = counted(len(left_out), "open-ended question")
        logger.warning(
            "%s: %s left out (first: %s): only answers to choose from can be told right from wrong.",
            *(path, open_rows, left_out[0]),
        )


def _listed_records(path: Path) -> Iterator[tuple[str, Any]]:
    """The rows of a file as they stand there, with their places."""
    if path.suffix.lower() == ".jsonl":
        for place, text in lines_of(path):
            yield place, _loaded(place, text, "write one object per line")
        return
    records = _loaded(str(path), "\n".join(text for _, text in lines_of(path)), "it must hold one list of rows")
    if not isinstance(records, list):
        raise LabelError(f"{path}: found {type(records).__name__}: a .json file must hold one list of rows.")
    for number, record in enumerate(records, start=1):
        yield f"{path}: row {number}", record


def _plain(record: Any, files: VideoFiles) -> Any:
    """A row of a published form in our own; `None` for an open question, any other row as it is."""
    if is_published(record):
        return plain_row(record, lambda name: files.find(safe_name(name)).is_file())
    return plain_conversation(record) if is_conversation(record) else record


def _loaded(place: str, text: str, fix: str) -> Any:
    try:
        return load_json(place, text)
    except json.JSONDecodeError as error:
        raise LabelError(f"{place}: {text[:80]!r} is not valid JSON ({error}); {fix}.") from None


@dataclass(frozen=True)
class _Row:
    """A line that was read: its place, the videos' names, and the sample, whose id is empty where the line has none."""

    place: str
    name: str
    sample: Sample


def _row(place: str, record: Any, files: VideoFiles) -> _Row:
    """The sample of one line.

    Raises:
        ValueError: If something does not fit.
    """
    if not isinstance(record, dict):
        raise ValueError(f"found {type(record).__name__} {str(record)[:80]!r}; a line must be one of: {FORMS}.")
    record = _without_null(record)
    videos, question, system = _asked(record)
    names = [safe_name(video) for video in videos]
    columns = _columns(record)
    if label := next((key for key in ("level", "mos") if key in record), None):
        if len(names) > 1:
            raise ValueError(f"the row has {label!r} and shows the videos {names!r:.200}: a score is of one clip.")
        asked = [key for key in ("options", "answer") if key in record]
        if asked:
            raise ValueError(f"the row has {label!r} and {asked}: a row asks one question. Write one row for each.")
        task, target = ("level" if label == "level" else "score"), _judged(record)
    else:
        question, target = _choice(record, question)
        task = "choice"
    clips = tuple(str(files.find(name)) for name in names)
    sample = Sample(_text(record, "id"), task, clips, question, target | columns, _tags(record), system)
    return _Row(place, named_clips(names), sample)


def _without_null(value: Any) -> Any:
    """The same without keys whose value is null, at any depth: a table of rows fills missing keys with null."""
    if isinstance(value, dict):
        return {key: _without_null(entry) for key, entry in value.items() if entry is not None}
    return [_without_null(entry) for entry in value] if isinstance(value, list) else value


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
    return question, {"options": options, "answer": letter_of(record["answer"], options)}


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


def _check_answers(rows: Sequence[_Row]) -> None:
    """Refuse one question about one clip, between the same options in any order, that has two answers."""
    known: dict[tuple, tuple[str, str]] = {}
    for row in rows:
        sample = row.sample
        if sample.task != "choice":
            continue
        options = sample.target["options"]
        answer = options[ord(sample.target["answer"]) - ord("A")].casefold()
        asked = (sample.clips, sample.question, frozenset(option.casefold() for option in options))
        before, place = known.setdefault(asked, (answer, row.place))
        if before != answer:
            raise LabelError(
                f"{row.place}: {sample.question!r:.120} about {row.name!r} has the answer {answer!r}, but {before!r} "
                f"at {place}: one of them must be wrong. Correct or remove it."
            )


def _named(rows: Sequence[_Row]) -> list[Sample]:
    """The samples, each with an id of its own."""
    short = [row.sample.id or _default_id(row) for row in rows]
    counts = Counter(short)
    places: dict[str, str] = {}
    samples = []
    for row, name in zip(rows, short, strict=True):
        if not row.sample.id and counts[name] > 1 and "options" in row.sample.target:
            name = f"{name} [{' | '.join(row.sample.target['options'])}]"
        if name in places:
            raise LabelError(
                f"{row.place}: the row at {places[name]} also has the id {name!r:.200}, and the rows differ: an id "
                "names one question about one clip. Give each row its own 'id', or remove one of them."
            )
        places[name] = row.place
        samples.append(replace(row.sample, id=name))
    return samples


def _default_id(row: _Row) -> str:
    asked = row.sample.question or ("level" if row.sample.task == "level" else "")
    return f"{row.name}: {asked}" if asked else row.name
