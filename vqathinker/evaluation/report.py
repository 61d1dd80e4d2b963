"""One self-contained HTML page: tables, plots and clips with the policy's reasoning."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image, ImageDraw

from vqathinker.clips import Clip, Seen, open_clip, uniform_indices

SHOWN_HEIGHT = 192
"""Pixels; higher frames are shrunk."""
OUTLINE = (255, 200, 0)
"""RGB of the rectangle around what the policy sees."""
MAX_VIDEO_BYTES = 1_000_000
"""Larger files are shown by their key frames only, and so is what browsers do not play."""


@dataclass(frozen=True)
class Table:
    """A table of the page.

    Attributes:
        title: Heading.
        columns: Head of each column.
        rows: Cells; floats are shown with three decimals, `None` and NaN as "-".
        note: What the columns mean.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def shown(self) -> Table:
        """The same with every cell as text."""
        return Table(self.title, self.columns, [[_cell(cell) for cell in row] for row in self.rows], self.note)


@dataclass(frozen=True)
class ShownClip:
    """A clip of the page.

    Attributes:
        title: Heading, with the label.
        video: File.
        answers: Who answered, and with which score -> text.
        num_frames: Key frames to show.
        seen: What the policy sees of frames of a width and a height, `processor.seen`; where it is a part, a line goes
            around it.
    """

    title: str
    video: str
    answers: Mapping[str, str]
    num_frames: int = 6
    seen: Callable[[int, int], Seen] | None = None


@dataclass
class Report:
    """What the page shows. Every text is escaped: a model's words can never become markup.

    Attributes:
        title: Of the page.
        facts: Name -> value: the command, the seed, versions.
        tables: Tables, in order.
        figures: Caption -> PNG file.
        clips: Clips, in order.
        clips_title: Heading above them.
        lead: Sentences that come first.
    """

    title: str
    facts: Mapping[str, object] = field(default_factory=dict)
    tables: Sequence[Table] = ()
    figures: Mapping[str, str | Path] = field(default_factory=dict)
    clips: Sequence[ShownClip] = ()
    clips_title: str = "Clips"
    lead: Sequence[str] = ()

    def write(self, path: str | Path) -> None:
        """Write the page; images and clips are inside it.

        Args:
            path: HTML file.

        Raises:
            ClipError: If a clip cannot be read.
        """
        template = resources.files("vqathinker.evaluation").joinpath("templates/report.html").read_text("utf-8")
        page = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(template)
        html = page.render(
            title=self.title,
            facts=self.facts,
            tables=[table.shown() for table in self.tables],
            figures=[
                {"caption": caption, "source": _embed(Path(file).read_bytes(), "image/png")}
                for caption, file in self.figures.items()
            ],
            clips=[_show(clip) for clip in self.clips],
            clips_title=self.clips_title,
            lead=self.lead,
        )
        Path(path).write_text(html, encoding="utf-8")


def _show(clip: ShownClip) -> dict[str, object]:
    source = open_clip(clip.video)
    shown, seen = key_frames(source, uniform_indices(source.num_frames, clip.num_frames), clip.seen)
    picture = io.BytesIO()
    Image.fromarray(np.concatenate([np.asarray(frame) for frame in shown], axis=1)).save(picture, "PNG")
    file = Path(clip.video)
    plays = file.suffix.lower() == ".mp4" and file.stat().st_size <= MAX_VIDEO_BYTES
    return {
        "title": clip.title,
        "frames": _embed(picture.getvalue(), "image/png"),
        "source": _embed(file.read_bytes(), "video/mp4") if plays else None,
        "answers": clip.answers,
        "seen": f"The policy {seen.text}{': the framed part' * (seen.share < 1)}." if seen and seen.altered else "",
    }


def key_frames(
    source: Clip, indices: np.ndarray, seen: Callable[[int, int], Seen] | None
) -> tuple[list[Image.Image], Seen | None]:
    """Frames of a clip, shrunk to `SHOWN_HEIGHT`, with a line around what the policy sees where that is a part.

    Args:
        source: The clip.
        indices: Of the frames.
        seen: See `ShownClip`.

    Raises:
        ClipError: If a frame cannot be read.
    """
    frames = source.frames(indices)
    height, width = frames.shape[1:3]
    found = seen(width, height) if seen else None
    scale = min(1.0, SHOWN_HEIGHT / height)
    shown = [Image.fromarray(frame).resize((max(1, round(width * scale)), round(height * scale))) for frame in frames]
    if found is not None and found.share < 1:
        for frame in shown:
            _outline(frame, [edge * scale for edge in found.box])
    return shown, found


def _outline(frame: Image.Image, box: Sequence[float]) -> None:
    """A rectangle around a box, which stays visible where the page shows frames at half their size."""
    thick = max(1, round(frame.height / 96))
    left, top, right, bottom = (round(edge) for edge in box)
    high = min(frame.width, right + thick) - 1, min(frame.height, bottom + thick) - 1
    edges = (max(0, left - thick), max(0, top - thick), *high)
    ImageDraw.Draw(frame).rectangle(edges, outline=OUTLINE, width=thick)


def _embed(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
