"""VQA²'s instruction files (arXiv 2411.03795) as rows of our own form: conversations about images and videos, as its
own code or its Qwen2.5-VL port has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from vqathinker.data.options import letter_of, options_in
from vqathinker.rewards.answer_choice import LETTERS
from vqathinker.rewards.level import LEVEL_WORDS

SET = "VQA2"
"""Tag `set` of its questions."""
ASKERS, ANSWERERS = ("human", "user"), ("gpt", "assistant")
_PLACEHOLDER = re.compile(r"<(?:image|video)>")
_SENTENCE = re.compile(r"(?:the )?(?:overall )?quality of (?:the|this) (?:video|image|picture|clip) is (\w+)\W*", re.I)
# Such a sentence at the end, which follows from what stands before it.
_CAUSAL = re.compile(rf"(?:^|[\s,.;:]+)(?:and )?(?:hence|thus|therefore|so|consequently),? {_SENTENCE.pattern}\Z", re.I)
_CLIP = r"(?:video|image|picture|clip)"
# Of the whole clip: not "the frame rate", "the quality of the lighting" or "the quality of this video's colors".
_RATING = re.compile(
    r"(?:(?<!frame )(?<!bit )\b(?:rate|rating)|\b(?:what|how) is|\b(?:evaluate|assess|judge|describe))"
    rf" (?:(?:of|for) )?(?:the|this|its) (?:(?:overall|whole|perceptual|visual|{_CLIP}) )*quality"
    rf"(?: of (?:the|this) (?:(?:whole|entire) )?{_CLIP})?(?=\s*(?:[?.!,;:]|$)| (?:on|from|with|as)\b)",
    re.I,
)
# One question, behind statements or none, that opens with a verb.
_YES_NO_QUESTION = re.compile(
    r"(?:[^?]*[.:!]\s+)?(?:is|are|does|do|did|was|were|has|have|can|could|will|would)\b[^?]*(?:\?[^?]*)?", re.I
)
_YES_NO = re.compile(r"(yes|no)\b(?![\w'-])", re.I)
_NUMBER = re.compile(r"[-+]?\d+(?:[.,]\d+)?%?\.?")
_OPTION = re.compile(r"(?:(?<=\s)|^)\(?([A-Z])[.):]\s*")


def is_published(record: Any) -> bool:
    """Whether a row is of the published form: `conversations` about what stands under `image` or `video`."""
    return isinstance(record, dict) and "conversations" in record and bool({"image", "video"} & record.keys())


def plain_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A row `{"id", "image" or "video", "conversations": [question, answer]}` as a plain one.

    What is asked follows from both: where the question lists options, in lines or in a line, a choice; where the answer
    is a sentence "The quality of the video is good." (or its last word, and the question is about the quality of the
    whole clip) a level, with what stands before "hence the quality ..." as `reason`; where the question opens with
    "is", "does" and the like, and the answer with yes or no, a choice between these, with the whole answer as `reason`;
    else an open question, whose reference the answer is. `gt_score`, whose scale differs among sets, is kept as a
    column. The other keys are passed over, `id` too, which may name a clip.

    Returns:
        `{"video", "question", "tags", ...}` with `level` and `words`, or `answer`, `type` and, but for open questions,
        `options`.

    Raises:
        ValueError: If the row is none of this form, or the answer to an open question is a number.
    """
    question, answer = _turns(record["conversations"])
    if ("image" in record) == ("video" in record):
        raise ValueError("the row has both 'image' and 'video': keep the one that names its clip.")
    row = {"video": record.get("image", record.get("video")), "question": question, "tags": {"set": SET}}
    if record.get("gt_score") is not None:
        row["gt_score"] = record["gt_score"]
    return row | (
        _choice(question, answer) or _level(question, answer) or _yes_no(question, answer) or _open(question, answer)
    )


def _turns(conversations: Any) -> tuple[str, str]:
    """Question, without the places of its clips, and answer."""
    said = [_said(turn) for turn in conversations] if isinstance(conversations, list) else []
    if len(said) != 2 or said[0][0] not in ASKERS or said[1][0] not in ANSWERERS:
        raise ValueError(
            f"conversations of {[who for who, _ in said]!r:.120}: must be one question and one answer, of human (user) "
            "and gpt (assistant). Write a row for each question."
        )
    (_, question), (_, answer) = said
    if not isinstance(question, str) or not isinstance(answer, str):
        raise ValueError(
            f"question {question!r:.80} and answer {answer!r:.80} must be texts. A file of numbers as answers holds "
            "labels: give it as a label file."
        )
    return _PLACEHOLDER.sub("", question).strip(), answer.strip()


def _said(turn: Any) -> tuple[Any, Any]:
    """Who says what, under the keys of either form."""
    if not isinstance(turn, dict):
        return None, None
    return turn.get("from", turn.get("role")), turn.get("value", turn.get("content"))


def _level(question: str, answer: str) -> dict[str, Any] | None:
    """The level word that an answer consists of."""
    causal = _CAUSAL.search(answer)
    sentence = causal or _SENTENCE.fullmatch(answer)
    word = sentence[1] if sentence else answer.rstrip(".") if _RATING.search(question) else ""
    names = [name for name in ("vqa2", "itu") if word.casefold() in LEVEL_WORDS[name]]
    reason = {"reason": f"{answer[: causal.start()]}."} if causal and causal.start() else {}
    return {"level": word.casefold(), "words": names[0], **reason} if names else None


def _choice(question: str, answer: str) -> dict[str, Any] | None:
    """The option that an answer names, of those that the question lists."""
    asked, options = listed_options(question)
    return (
        {"question": asked, "options": list(options), "type": "choice", **_named(answer, options)} if options else None
    )


def _yes_no(question: str, answer: str) -> dict[str, Any] | None:
    """Yes or no, where the question asks for one of them: "What faults do you see?" "No blur, but ..." is none."""
    found = _YES_NO.match(answer)
    if found is None or not _YES_NO_QUESTION.fullmatch(question):
        return None
    return {"options": ["Yes", "No"], "type": "yesno", "answer": found[1].capitalize(), **_reason(answer, found[0])}


def _open(question: str, answer: str) -> dict[str, Any]:
    """The answer as reference, unless it is a number, whose terms say nothing."""
    if _NUMBER.fullmatch(answer):
        raise ValueError(
            f"question {question!r:.80} has the number {answer!r} as answer: no reference for an open question. Give "
            'scores as a label file, and numbers of times as rows with "task": "count".'
        )
    return {"answer": answer, "type": "open"}


def _named(answer: str, options: tuple[str, ...]) -> dict[str, Any]:
    """The option that an answer is, or begins with: "B", "B. Noise", "B. Noise, in the sky."."""
    found = _OPTION.match(answer)
    if found and (place := LETTERS.index(found[1])) < len(options):
        rest = answer[found.end() :]
        if rest.casefold().startswith(options[place].casefold()):
            return {"answer": found[1], **_reason(rest, rest[: len(options[place])])}
    return {"answer": letter_of(answer.rstrip("."), options)}


def _reason(answer: str, named: str) -> dict[str, str]:
    """The whole answer, where it says more than the option."""
    return {"reason": answer} if answer[len(named) :].strip(" .!") else {}


def listed_options(question: str) -> tuple[str, tuple[str, ...]]:
    """A question without the options that it lists, and these; none if it lists fewer than two.

    Args:
        question: With lines "A. ..." at its end (`options_in`), or options in a line: "Which? A. Blur B. Noise". What
            stands in further lines behind these ("Answer with a letter.") belongs to neither.
    """
    asked, options = options_in(question)
    if options:
        return asked, options
    marks: list[re.Match[str]] = []
    for mark in _OPTION.finditer(question):
        if LETTERS[len(marks) :].startswith(mark[1]):
            marks.append(mark)
    if len(marks) < 2:
        return question, ()
    ends = [*(mark.start() for mark in marks[1:]), len(question)]
    texts = [question[mark.end() : end].strip() for mark, end in zip(marks, ends, strict=True)]
    return question[: marks[0].start()].strip(), tuple(text.partition("\n")[0].strip(" ;,") for text in texts)
