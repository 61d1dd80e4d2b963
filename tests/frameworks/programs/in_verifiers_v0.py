"""verifiers 0.1 with our rubric: what it pays, alone and in groups, and what a missing label does in both."""

import asyncio
import json
import sys

import verifiers as vf

from vqathinker.rewards import Regression
from vqathinker.rewards.adapters.verifiers_v0 import rubric

given = json.loads(sys.argv[1])


def state(text, info):
    return vf.State(
        prompt=[{"role": "user", "content": "How good is this video?"}],
        completion=[{"role": "assistant", "content": text}],
        **{"answer": "", "info": info, "task": "vqa", "trajectory": [], "timing": {"scoring_ms": 0.0, "total_ms": 0.0}},
    )


def states(**changes):
    rows = zip(given["answers"], given["mos"], given["video_id"], strict=True)
    return [state(text, {"mos": mos, "video_id": name} | changes) for text, mos, name in rows]


async def alone(judge, rows):
    for row in rows:
        await judge.score_rollout(row)
    return rows


async def grouped(judge, rows):
    await judge.score_group(rows)
    return rows


def ended(how, judge):
    try:
        return str([row["reward"] for row in asyncio.run(how(judge, states(mos=None)))])
    except BaseException as error:
        return f"{type(error).__name__}: {error}"


found = {how.__name__: asyncio.run(how(rubric(), states())) for how in (alone, grouped)}
print(
    "FOUND",
    json.dumps(
        {
            **{name: [{"reward": r["reward"], **r["metrics"]} for r in rows] for name, rows in found.items()},
            "ended": [ended(how, rubric()) for how in (alone, grouped)],
            "bare": [r["reward"] for r in asyncio.run(grouped(vf.Rubric(funcs=[Regression()]), states()))],
        }
    ),
)
