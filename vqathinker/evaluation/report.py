"""One self-contained HTML page: tables, plots and clips with the policy's reasoning."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

import jinja2
import numpy as np
from PIL import Image

from vqathinker.clips import open_clip, uniform_indices

SHOWN_HEIGHT = 192
"""Pixels; higher frames are shrunk."""
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
    """

    title: str
    video: str
    answers: Mapping[str, str]
    num_frames: int = 6


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
    frames = source.frames(uniform_indices(source.num_frames, clip.num_frames))
    strip = Image.fromarray(np.concatenate(list(frames), axis=1))
    if strip.height > SHOWN_HEIGHT:
        strip = strip.resize((round(strip.width * SHOWN_HEIGHT / strip.height), SHOWN_HEIGHT))
    picture = io.BytesIO()
    strip.save(picture, "PNG")
    file = Path(clip.video)
    plays = file.suffix.lower() == ".mp4" and file.stat().st_size <= MAX_VIDEO_BYTES
    return {
        "title": clip.title,
        "frames": _embed(picture.getvalue(), "image/png"),
        "source": _embed(file.read_bytes(), "video/mp4") if plays else None,
        "answers": clip.answers,
    }


def _embed(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
