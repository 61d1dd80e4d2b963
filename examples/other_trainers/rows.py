"""Labelled clips as the rows that ms-swift and verl read. Needs no more than these bring along.

    python rows.py labels.csv clips/ rows.jsonl       # ms-swift: every column reaches the rewards under its name
    python rows.py labels.csv clips/ rows.parquet     # verl: one label column, JSON with what the rewards need

`labels.csv` has the columns `video`, relative to `clips/`, and `mos`, from 1 (very poor) to 5 (excellent).
"""

import csv
import json
import sys
from pathlib import Path

PROMPT = (
    "<video>You are doing the video quality assessment task. Here is the question: What is your overall rating on the "
    "quality of this video? The rating should be a float between 1 and 5, rounded to two decimal places, with 1 "
    "representing very poor quality and 5 representing excellent quality. First output the thinking process in <think> "
    "</think> tags and then output the final answer in <answer> </answer> tags."
)
"""VQAThinker's, which the format and the regression reward pay for; `<video>` is where the clip goes."""


def labelled(labels, videos):
    """(file, columns of the rewards) of each clip."""
    with open(labels, newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        if not {"video", "mos"} <= {*(reader.fieldnames or ())}:
            raise ValueError(
                f"{labels} has the columns {reader.fieldnames}: it needs video and mos, with commas between."
            )
        for line, row in enumerate(reader, start=2):
            clip, mos = Path(videos, row["video"]).resolve(), float(row["mos"])
            if not clip.is_file() or not 1 <= mos <= 5:
                raise ValueError(
                    f"{labels}, line {line}: {clip} must be a file, and its mos {mos:g} in 1 to 5."
                    " A MOS of 0 to 100 becomes 1 + 4 * mos / 100."
                )
            yield str(clip), {"mos": mos, "video_id": row["video"]}


def main(labels, videos, out):
    user = [{"role": "user", "content": PROMPT}]
    if out.endswith(".jsonl"):
        rows = [{"messages": user, "videos": [clip], **columns} for clip, columns in labelled(labels, videos)]
        Path(out).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return
    import pyarrow
    from pyarrow import parquet

    rows = [
        {
            "data_source": "vqa",
            "prompt": user,
            "videos": [{"video": f"file://{clip}", "nframes": 6}],
            "reward_model": {"style": "rule", "ground_truth": json.dumps(columns)},
            "extra_info": columns,
        }
        for clip, columns in labelled(labels, videos)
    ]
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
