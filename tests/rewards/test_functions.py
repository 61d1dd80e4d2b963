"""A whole rubric as a reward function, and rewards that see the answers of all processes."""

import asyncio
import json
import subprocess
import sys
import warnings

import pytest

from rewards import Choice, Contrast, Format, Ranking, Regression, Rubric, gathered, preset

ANSWERS = [f"<think>a</think><answer>{score}</answer>" for score in (4.25, 3.75, 2.5, 2.25)]
COLUMNS = {"mos": [4.25, 4.25, 2.0, 2.0], "video_id": ["a", "a", "b", "b"]}


def test_a_rubric_pays_its_weighted_sum_and_none_where_there_is_none():
    rubric = Rubric([Regression(), Choice()], [2, 1])
    answers = [ANSWERS[0], "<answer>no</answer>", "hm", "<answer>Yes</answer>"]
    columns = {"mos": [4.25, None, 4.25, None], "answer": [None, None, None, "Yes"]}
    columns["options"] = [None, None, None, ["Yes", "No"]]
    logged = {}
    values = rubric(answers, **columns, prompts=["?"] * 4, trainer_state=None, log_metric=logged.__setitem__)
    assert values == [2.0, None, None, 1.0]
    assert logged["rubric/regression"] == logged["rubric/choice"] == 1.0
    assert logged["rubric/unparsable"] == 0.75 and logged["choice_unparsable"] == 0.0
    assert rubric(completions=answers, **columns) == values and rubric.__name__ == "rubric"


def test_a_rubric_says_what_it_cannot_pay():
    with pytest.warns(UserWarning, match=r"\['temporal'\] get no answers to perturbed copies here and pay nothing"):
        values = preset("recommended")(ANSWERS, **COLUMNS)
    assert values == preset("recommended").score(ANSWERS, **COLUMNS).total
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        preset("recommended").without(["temporal"])(ANSWERS, **COLUMNS)
        preset("recommended")(ANSWERS, **COLUMNS, perturbed_completions=ANSWERS[::-1])
    with pytest.warns(UserWarning, match="contrast"):
        Rubric([Format(), Contrast()])(ANSWERS, **COLUMNS)
    with pytest.raises(ValueError, match="mos is missing"):
        Rubric([Regression()])(ANSWERS)
    with pytest.raises(ValueError, match="video_id is missing"):
        Rubric([Ranking()])(ANSWERS, mos=COLUMNS["mos"])


def test_what_is_whole_is_no_part_of_a_rubric():
    with pytest.raises(TypeError, match=r"a reward is a Rubric \['format'\]: give its rewards"):
        Rubric([Regression(), Rubric([Format()])])
    for take in (gathered, lambda reward: Rubric([reward])):
        with pytest.raises(TypeError, match=r"reward 'rank' is gathered: .* Give the reward itself"):
            take(gathered(Ranking()))


def test_one_process_is_the_reward_itself():
    assert gathered(Ranking())(ANSWERS, **COLUMNS) == Ranking()(ANSWERS, **COLUMNS)

    async def judge(completions, **columns):
        return asyncio.sleep(0)

    with pytest.raises(TypeError, match="'judge' is a coroutine function"):
        gathered(judge)


TWO = """
import json, sys, warnings
import torch.distributed as dist
from rewards import Format, Ranking, Rubric, gathered

place, rank, answers, columns = sys.argv[1], int(sys.argv[2]), *map(json.loads, sys.argv[3:])
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)
own = slice(0, 3) if rank == 0 else slice(3, 8)  # processes need not have equally many
columns = {name: column[own] for name, column in columns.items()} | {"image": [object()] * len(answers[own])}


def seen(completions, prompts, log_extra, **columns):
    assert "image" not in columns
    log_extra("place", list(range(len(completions))))
    return [float(len(prompts))] * len(completions)


told = {}
values = [gathered(reward)(answers[own], **columns) for reward in (Ranking(), Rubric([Format(), Ranking()]))]
with warnings.catch_warnings(record=True) as warned:
    values.append(gathered(seen)(answers[own], prompts=answers[own], **columns, log_extra=told.__setitem__))
assert [str(one.message) for one in warned] == ["seen does not see ['image']: no plain data in every process."], warned
print(json.dumps([values, told]))
"""


@pytest.mark.engine
def test_two_processes_pay_as_one(tmp_path):
    answers = ANSWERS + [answer.replace("a<", "b<") for answer in reversed(ANSWERS)]
    columns = {"mos": COLUMNS["mos"] + [3.0] * 4, "video_id": COLUMNS["video_id"] + ["c"] * 4}
    given = [json.dumps(value) for value in (answers, columns)]
    command = [sys.executable, "-c", TWO, str(tmp_path / "meeting")]
    runs = [
        subprocess.Popen([*command, str(rank), *given], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    done = [run.communicate(timeout=300) for run in runs]
    assert [run.returncode for run in runs] == [0, 0], done
    (first, told_first), (second, told_second) = (json.loads(out) for out, _ in done)
    ranked, summed, seen = (a + b for a, b in zip(first, second, strict=True))
    assert ranked == pytest.approx(Ranking()(answers, **columns)) and len(first[0]) == 3
    assert summed == pytest.approx(Rubric([Format(), Ranking()])(answers, **columns))
    assert seen == [8.0] * 8 and told_first["place"] + told_second["place"] == list(range(8))
