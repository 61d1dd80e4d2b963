"""Write docs/performance.md, and its plot, from what was measured and committed.

make bench bench-scaling                                    # writes runs/bench.json and runs/bench_scaling.json
cp runs/bench.json runs/bench_scaling.json docs/results/    # and engines.json and gpu.json, of benchmarks of that name
python -m benchmarks.report
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cells import seconds, table, times
from benchmarks.report_clips import decoding, files

DOCS = Path(__file__).resolve().parents[1] / "docs"
FILES = ("bench", "bench_scaling", "work_counters", "engines", "gpu", "decoding", "time_model")
"""In docs/results; each has sections. Of a section in two files the later file's counts."""
WAYS = ("ours", "stock TRL", "published way")
ENGINE_WAYS = ("ours", "one request per answer", "transformers")
HEADER = ("what", "ours", "other way", "ratio", "target", "met")
HEADLINE = ("update", "peak memory", "sampling", "whole step", "MP4 to model input")
"""Starts of targets' names; the first of each stands at the top."""
SHARE = 0.9
"""Of what the numbers of tokens allow."""
REASONS: dict[str, str] = {
    "reference": "Attention is what is left: each answer's queries meet the whole prompt.",
    "peak memory": "The answers' own activations are most of it, and every way keeps these; only the prompt's are "
    "saved.",
    "sampling": "Encoding the clip and the prompt's one pass take 0.7 s of it, and the linear layers of 48 passes over "
    "eight rows most of the rest, which no way is spared.",
    "whole step": "Sampling 200 tokens takes nearly half of our step (what update and reference leave of it), most of "
    "it in the linear layers of single tokens, which no way is spared.",
}
"""Start of a target's name -> why it was missed, a sentence found by profiling. A file's own `reasons` count before."""


@dataclass(frozen=True)
class Result:
    """A row of the table of targets.

    Attributes:
        name: What was measured.
        ours, other: With unit.
        ratio: The number that has a target.
        target: Least ratio, or most if `most`.
        most: Whether less is better.
    """

    name: str
    ours: str
    other: str
    ratio: float
    target: float
    most: bool = False

    @property
    def met(self) -> bool:
        return self.ratio <= self.target if self.most else self.ratio >= self.target

    @property
    def cells(self) -> list[str]:
        sign = "at most" if self.most else "at least"
        verdict = "yes" if self.met else "**no**"
        return [self.name, self.ours, self.other, times(self.ratio), f"{sign} {self.target:.3g}x", verdict]


def main() -> None:
    found = read(DOCS / "results")
    (DOCS / "performance.md").write_text(page(found), encoding="utf-8")
    if "scaling" in found:
        from benchmarks.scaling import plot  # needs TRL, as what it plots does

        plot(found["scaling"]["rows"], DOCS / "performance.png")


def read(folder: Path) -> dict[str, Any]:
    """Sections by name, each with `environment`, and the files' `reasons`."""
    sections: dict[str, Any] = {"reasons": dict(REASONS)}
    for name in FILES:
        file = folder / f"{name}.json"
        if file.exists():
            held = json.loads(file.read_text(encoding="utf-8"))
            sections["reasons"] |= held.get("reasons", {})
            parts = {key: part for key, part in held.items() if isinstance(part, dict) and "rows" in part}
            common = {"environment": held["environment"], "quick": held.get("quick", False)}
            sections |= {key: part | common for key, part in parts.items()}
    return sections


def page(found: dict[str, Any]) -> str:
    """All of docs/performance.md."""
    parts: dict[str, Callable[[dict[str, Any]], str]] = {
        "scaling": growth,
        "work_counters": work,
        "data_path": files,
        "clip_parts": decoding,
        "engines": engines,
        "score": scoring,
        "time_model": time_model,
        "gpu": gpu,
    }
    known = [part(found) for name, part in parts.items() if name in found]
    return "\n\n".join([head(found), *known, reproduce(found)]) + "\n"


def head(found: dict[str, Any]) -> str:
    """Title, a few rows of the targets, then all of them, a sentence for each miss, and what is compared."""
    results = [
        *rows_of(found, "group_update", updates),
        *rows_of(found, "rollout", sampling),
        *rows_of(found, "full_step", steps),
        *rows_of(found, "data_path", loading),
        *exactness(found),
    ]
    if not results:
        return "# How fast it is\n\nNothing has been measured yet: [how to measure](#how-to-reproduce)."
    toy = any(section.get("quick") for section in found.values())
    of_each = ([result for result in results if result.name.startswith(start)] for start in HEADLINE)
    first = [own[0].cells[:4] for own in of_each if own]
    parts = [
        "# How fast it is",
        *(["**A trial run at toy size, which says nothing of speed.**"] if toy else []),
        COMPARED.format(share=f"{sum(result.met for result in results)} of {len(results)} [targets](#targets) are met"),
        table(HEADER[:4], first),
        TARGETS,
        table(HEADER, [result.cells for result in results]),
        missed(results, found),
        WAYS_IN_WORDS,
    ]
    return "\n\n".join(parts)


COMPARED = """\
The same training step done by this library, by stock TRL and in the published code's way, in turns on one machine:
{share}. A ratio is the other way's time over ours, for memory ours over the other's;
the other way is stock TRL unless marked. There are K answers of L tokens to a clip, and an update is the loss on one
clip's K answers and its gradients. The clip and the prompt are computed once for all K, so short answers gain most."""
TARGETS = """\
## Targets

An update's target is 0.9 of what the [numbers of tokens](#longer-answers-and-more-of-them) allow."""
WAYS_IN_WORDS = """\
*Ours* is `VQAGRPOTrainer`. *Stock TRL* is `trl.GRPOTrainer` itself on transformers' InternVL, with the frames as
images; it knows neither the motion branch nor perturbed copies. The *published way* is made after the description of
the published code: every answer has a clip of its own, decoded and encoded for it, in a row of its own. All have the
same weights, decoder, fused head and loss, and their gradients are compared before anything is timed. Ours gives the
head the answers' tokens only; the others give it all, and without Triton it scores the prompt's too, which is why more
is saved than the numbers of tokens allow. Times are medians."""


def rows_of(found: dict[str, Any], section: str, results: Callable[[dict[str, Any]], list[Result]]) -> list[Result]:
    return [result for row in found.get(section, {"rows": []})["rows"] for result in results(row)]


def updates(row: dict[str, Any]) -> list[Result]:
    """Of one update: time, time of the reference, peak memory."""
    shape, target = f"K={row['shape']['answers']}, L={row['shape']['tokens']}", SHARE * row["allowed"]
    timed = {"update": "update", "reference": "reference's log-probabilities"}
    results = [timed_result(f"{name}, {shape}", row[part], "stock TRL", target) for part, name in timed.items()]
    ours, stock = (row["peak_bytes"][way] for way in WAYS[:2])
    sizes = [f"{size / 2**20:,.0f} MiB" for size in (ours, stock)]
    return [*results, Result(f"peak memory of the update, {shape}", *sizes, ours / stock, 0.45, most=True)]


def sampling(row: dict[str, Any]) -> list[Result]:
    """Of transformers' `generate`, as stock TRL calls it."""
    name = f"sampling, K={row['shape']['answers']}, L={row['shape']['tokens']}"
    return [timed_result(name, row["rollout"], "stock TRL", 8)]


def steps(row: dict[str, Any]) -> list[Result]:
    """Against stock TRL where it can do the task."""
    way, target = ("stock TRL", 3) if "stock TRL" in row["step"]["ratios"] else ("published way", 5)
    return [timed_result(f"whole step, {row['task']}", row["step"], way, target)]


def loading(row: dict[str, Any]) -> list[Result]:
    """Of a clip, for the first time and with its frames kept."""
    arms = row["load"]["arms"]
    other = arms["published way"]["per_clip"]
    cases = {"MP4 to model input, first time": ("ours", 8), "MP4 to model input, kept frames": ("ours, warm", 200)}
    return [
        Result(
            name, seconds(arms[way]["per_clip"]), f"{seconds(other)} (published)", other / arms[way]["per_clip"], target
        )
        for name, (way, target) in cases.items()
    ]


def exactness(found: dict[str, Any]) -> list[Result]:
    """Of frames, from opening the file on; the file with the least ratio counts."""
    rows = found.get("exact_frames", {"rows": []})["rows"]
    results = []
    for way, target in {"plain": 1 / 1.15, "from the start": 4}.items():
        own = [row for row in rows if way in row["frames"]["ratios"]]
        if own:
            least = min(own, key=lambda row: row["frames"]["ratios"][way])
            results.append(timed_result(f"frames, {least['name']}", least["frames"], way, target))
    return results


def timed_result(name: str, timed: dict[str, Any], way: str, target: float) -> Result:
    ours, other = (seconds(timed["arms"][arm]["median"]) for arm in ("ours", way))
    marked = other if way == "stock TRL" else f"{other} ({way.removesuffix(' way')})"
    return Result(name, ours, marked, timed["ratios"][way], target)


def missed(results: Sequence[Result], found: dict[str, Any]) -> str:
    """A sentence for each target that was not reached."""
    sentences = [
        f"- {result.name}: {times(result.ratio)}, asked {result.cells[4]}. {reason(result.name, found)}".rstrip()
        for result in results
        if not result.met
    ]
    lines = [textwrap.fill(sentence, 118, subsequent_indent="  ", break_on_hyphens=False) for sentence in sentences]
    count = f"{len(results) - len(lines)} of {len(results)} targets are met" + (". Missed:" if lines else ".")
    return "\n\n".join([count, *(["\n".join(lines)] if lines else [])])


def reason(name: str, found: dict[str, Any]) -> str:
    """Why a target was missed, "" while that is not known."""
    fitting = [start for start in found["reasons"] if name.startswith(start)]
    return found["reasons"][max(fitting, key=len)] if fitting else ""


def growth(found: dict[str, Any]) -> str:
    """How an update's cost grows."""
    rows = found["scaling"]["rows"]
    known = [row for row in rows if "update" in row]
    shares = {label(row): min(row[part]["ratios"]["stock TRL"] for part in PASSES) / row["allowed"] for row in known}
    cells = [
        [
            label(row),
            times(row["allowed"]),
            *(times(row[part]["ratios"]["stock TRL"]) for part in PASSES),
            f"{shares[label(row)]:.2f}" if shares[label(row)] >= SHARE else f"**{shares[label(row)]:.2f}**",
            times(1 / row["peak_ratios"]["stock TRL"]),
        ]
        for row in known
    ]
    low = [name for name, share in shares.items() if share < SHARE]
    verdict = f"All {len(known)} shapes reach {SHARE} of what the tokens allow."
    if low:
        worst = min(low, key=shares.__getitem__)
        why = reason("growth", found)
        verdict = (
            f"{len(known) - len(low)} of {len(known)} shapes reach {SHARE} of what the tokens allow; the least is "
            f"{shares[worst]:.2f}, at {worst}. {why}".rstrip()
        )
    left = [f"{label(row)} ({row['needs_bytes'] / 2**30:.0f} GiB)" for row in rows if "needs_bytes" in row]
    out = f"\n\nLeft out, as they do not fit into memory: {'; '.join(left)}." if left else ""
    return f"""## Longer answers and more of them

![Time of an update against K and answer length](performance.png)

A prompt of P tokens and K answers of L tokens are K (P + L) tokens in one row per answer, and P - 1 + K (L + 1) in a
packed row: the quotient is what the tokens allow. Beside it stock TRL's time over ours, for the update and for the
reference's log-probabilities; the share of what the tokens allow that the lesser of the two reaches; and our peak
memory over stock TRL's.

{table(["shape", "tokens allow", "update", "reference", "share", "memory"], cells)}

{verdict}{out}"""


PASSES = ("update", "reference")


def label(row: dict[str, Any]) -> str:
    """A shape in words, without what most have in common."""
    shape = row["shape"]
    clips = f"{shape['clips']} clips, " if shape["clips"] > 1 else ""
    frames = f", {shape['frames']} frames" if shape["frames"] != 6 else ""
    return f"{clips}K={shape['answers']}, L={shape['tokens']}{frames}"


def work(found: dict[str, Any]) -> str:
    """Counters, and the model of operations."""
    rows = found["work_counters"]["rows"]
    counted = {row["task"]: row for row in rows if "counts" in row}  # the last of a task has the largest shape
    parts = [
        "## What is computed",
        "Counted by hooks on a real step of each way; `benchmarks/work.py` foretells the same. None of this depends\n"
        "on the machine.",
    ]
    for task, row in counted.items():
        shape = row["shape"]
        parts.append(
            f"{task[0].upper()}{task[1:]}, {shape['clips'] * shape['micro_steps']} clips, K={shape['answers']}, "
            f"P={shape['prompt']}, L={shape['tokens']}:"
        )
        parts.append(of_ways([[name, row, name] for name in row["totals"]["ours"]], "of one step", 1))
    checked = [flops for row in rows for flops in row.get("flops", {}).values()]
    apart = max((abs(flops["formula"] / flops["torch"] - 1) for flops in checked), default=0.0)
    parts.append(
        "Floating-point operations of one step follow from these counts: 2 a multiplication with addition, a backward\n"
        "pass twice the forward, attention that skips nothing. "
        + (f"At toy size they are within {apart:.0e} of torch's own count.\n" if checked else "\n")
        + "At InternVL3's sizes, in TFLOP:"
    )
    foretold = [row for row in rows if "model" in row]
    for task in dict.fromkeys(row["task"] for row in foretold):
        own = [row for row in foretold if row["task"] == task]
        cells = [[f"{row['model']}, L={row['shape']['tokens']}", row, "flops"] for row in own]
        parts.append(of_ways(cells, task, 10**12))
    return "\n\n".join(parts)


def of_ways(cells: Sequence[Sequence[Any]], title: str, unit: int) -> str:
    """A table of (name, row, counter): numbers of the ways that can do it, and ratios to ours."""
    ways = [way for way in WAYS if way in cells[0][1]["totals"]]
    lines = [
        [
            name,
            *(f"{row['totals'][way][counter] / unit:,.0f}" for way in ways),
            *(times(row["ratios"][way][counter]) if counter in row["ratios"][way] else "-" for way in ways[1:]),
        ]
        for name, row, counter in cells
        if any(row["totals"][way][counter] for way in ways)
    ]
    return table([title, *ways, *(f"{way} / ours" for way in ways[1:])], lines)


def engines(found: dict[str, Any]) -> str:
    """vLLM, asked in two ways, and transformers."""
    rows = found["engines"]["rows"]
    speeds = [
        [
            label(row),
            *(f"{row['sampling']['tokens_per_second'][way]:,.0f}" for way in ENGINE_WAYS),
            *(times(row["sampling"]["ratios"][way]) for way in ENGINE_WAYS[1:]),
        ]
        for row in rows
    ]
    tokens = [[label(row), *(f"{row['computed'][way]:,}" for way in ENGINE_WAYS)] for row in rows]
    return f"""## Sampling with vLLM

From embedded prompts of {rows[0]["shape"]["prompt"]:,} tokens, encoding left out, with an empty prefix cache. Ours is
one request to vLLM for the K answers to a prompt; one request per answer, as TRL makes them, goes to the same engine;
transformers is this library's own engine. Ratios are times over ours.

{table(["sampled tokens a second", *ENGINE_WAYS, *(f"{way} / ours" for way in ENGINE_WAYS[1:])], speeds)}

{table(["prompt tokens computed", *ENGINE_WAYS], tokens)}"""


def scoring(found: dict[str, Any]) -> str:
    """Clips per second."""
    lines = [
        [row["engine"], row["readout"], row["batch_size"], f"{row['clips_per_second']:.3g}"]
        for row in found["score"]["rows"]
        if "clips_per_second" in row
    ]
    return f"## Scoring\n\n{table(['engine', 'read-out', 'batch', 'clips a second'], lines)}"


def time_model(found: dict[str, Any]) -> str:
    """What the budget's model of time says of what was measured."""
    section = found["time_model"]
    rows = [
        [
            row["name"],
            "fitted" if row["fitted"] else "foretold",
            seconds(row["foretold"]),
            seconds(row["measured"]),
            f"{row['foretold'] / row['measured']:.2f}",
        ]
        for row in section["rows"]
    ]
    flops, size = (section["rates"][name] / 1e9 for name in ("flops", "bytes"))
    return f"""## Time foretold

`vqathinker budget` adds up the operations of a step, and the bytes that single tokens have to read, and divides them by
two rates. Fitted to short parts of the runs above ({flops:.0f} GFLOP and {size:.1f} GB a second here), the model
foretells the rest (asked: within 25 %):

{table(["what", "", "model", "measured", "model / measured"], rows)}"""


def gpu(found: dict[str, Any]) -> str:
    """One GPU at InternVL3's sizes."""
    section, rows = found["gpu"], [row for row in found["gpu"]["rows"] if "update" in row]
    results = [result for row in rows for result in gpu_results(row)]
    lines = [
        [
            row["size"],
            times(row["update"]["ratios"]["stock way"]),
            times(row["activation_ratio"]),
            times(row["step"]["ratios"]["stock way"]) if "step" in row else "-",
            per_second(row["rollout"]["tokens_per_second"]),
            of_peak(row["update"]["peak_share"]),
        ]
        for row in rows
    ]
    header = ["InternVL3", "update", "activations", "whole step", "sampled tokens a second", "of the chip's peak"]
    told = ", ".join(f"{row['memory']['budget'] / row['memory']['measured']:.2f} ({row['size']})" for row in rows)
    errors = [f"{row['size']}: {gradient_words(row['gradient_errors'])}" for row in rows if "gradient_errors" in row]
    left = [f"{row['size']}: {row['left_out']}" for row in section["rows"] if "left_out" in row]
    shape = rows[0]["shape"]
    parts = [
        "## On a GPU",
        f"""{section["environment"]["device"]}, random weights in bfloat16, gradient checkpointing,
K={shape["answers"]}, P={shape["prompt"]}, L={shape["tokens"]}. The stock way has one row per answer, with the clip's
pixels repeated. Ratios are its time over ours; activations are our peak memory over its, weights and gradients left
out. Pairs are ours, then the stock way's. The chip's peak is that of dense bfloat16; what checkpointing repeats does
not count.""",
        table(header, lines),
        *([table(HEADER, [result.cells for result in results]), missed(results, found)] if results else []),
        f"Our update with other forms of attention: {'; '.join(form_words(row) for row in rows if 'forms' in row)}.",
        f"What `vqathinker budget` foretells over what was measured (asked: within 10 %): {told}.",
        *([f"How far gradients are from the stock way's in float32, {'; '.join(errors)}."] if errors else []),
        *([f"Left out for lack of time: {'; '.join(left)}."] if left else []),
    ]
    return "\n\n".join(parts)


def per_second(held: dict[str, float]) -> str:
    return ", ".join(f"{number:,.0f}" for number in held.values())


def of_peak(held: dict[str, float]) -> str:
    return ", ".join(f"{share:.0%}" for share in held.values()) or "-"


def gradient_words(held: dict[str, float]) -> str:
    ours, stock, exact = (held[name] for name in ("ours", "stock way", "ours, float32"))
    return f"ours {ours:.1g} and the stock way's {stock:.1g} in bfloat16, ours {exact:.1g} in float32"


def form_words(row: dict[str, Any]) -> str:
    """Other forms' times over the chosen one's."""
    ours = row["update"]["arms"]["ours"]["median"]
    words = [
        f"{form} {times(held['median'] / ours) if 'median' in held else 'fails'}" for form, held in row["forms"].items()
    ]
    return f"{row['size']}: {', '.join(words)}"


def gpu_results(row: dict[str, Any]) -> list[Result]:
    """What has a target."""
    results = []
    if row["size"] == "8B":
        results.append(timed_result("GPU update, 8B", row["update"], "stock way", 2.7))
        peaks = [f"{row['activation_bytes'][way] / 2**30:.1f} GiB" for way in ("ours", "stock way")]
        results.append(Result("GPU activations, 8B", *peaks, row["activation_ratio"], 0.4, most=True))
    if row["size"] == "2B" and "step" in row:
        results.append(timed_result("GPU whole step, 2B", row["step"], "stock way", 2.5))
    return results


def reproduce(found: dict[str, Any]) -> str:
    """Commands, machine and versions."""
    places = {}
    for name, section in found.items():
        if name != "reasons":
            places.setdefault(json.dumps(section["environment"], sort_keys=True), []).append(name)
    machines = "\n".join(f"- {environment(json.loads(key), names)}" for key, names in sorted(places.items()))
    measured = f"\n\nMeasured with:\n\n{machines}" if machines else ""
    return f"""## How to reproduce

On an idle machine; the scaling takes hours, the GPU's part six minutes on one GPU:

```bash
make bench bench-scaling
python -m benchmarks.engines
python -m benchmarks.decoding
python -m benchmarks.gpu
cp runs/bench.json runs/bench_scaling.json runs/engines.json runs/decoding.json runs/gpu.json docs/results/
python -m benchmarks.time_model
python -m benchmarks.report    # writes this page
```{measured}"""


def environment(held: dict[str, Any], names: Sequence[str]) -> str:
    """One line about machine and versions."""
    where = held.get("device") or f"{held['cores']} cores ({held['machine']}), {held['threads']} threads"
    versions = ", ".join(f"{name} {number}" for name, number in held["packages"].items())
    return f"`{held['command']}` ({', '.join(sorted(names))}):\n  {where};\n  Python {held['python']}, {versions}"


if __name__ == "__main__":
    main()
