"""Soft targets of level words and weights of deciding tokens: the loss is that written out, word by word."""

import math

import pytest
import torch
from scipy.stats import norm

from vqathinker.data import ClipLoader, Sample, level_samples, score_samples
from vqathinker.scoring import QualityScorer
from vqathinker.tasks import TASKS
from vqathinker.training import SFTCollator, SFTTrainer, VQASFTConfig, sft_dataset
from vqathinker.training.level_loss import (
    AnswerArguments,
    answer_loss,
    check_answer_arguments,
    gaussian_levels,
    neighbours,
    take_targets,
)
from vqathinker.training.samples import DataArguments

LEVELS = (5, 4, 3, 2, 1)


def mean(shares):
    return sum(share * level for share, level in zip(shares, LEVELS, strict=True))


def test_two_neighbours_have_the_mean_of_the_mos():
    assert neighbours(3.4) == pytest.approx([0, 0.4, 0.6, 0, 0])
    assert neighbours(1) == [0, 0, 0, 0, 1] and neighbours(5) == [1, 0, 0, 0, 0] and neighbours(2) == [0, 0, 0, 1, 0]
    for mos in (1.01, 1.8, 2.5, 3.999, 4.2, 4.99):
        assert mean(neighbours(mos)) == pytest.approx(mos) and sum(neighbours(mos)) == pytest.approx(1)


def test_gaussian_levels_are_deqas():
    """Masses within half a level, then alpha p + beta: two linear equations, solved here by numpy's way."""
    mos, sd = 3.6, 0.7
    mass = [norm.cdf(level + 0.5, mos, sd) - norm.cdf(level - 0.5, mos, sd) for level in LEVELS]
    equations = torch.tensor([[sum(mass), 5], [mean(mass), 15]], dtype=torch.float64)
    alpha, beta = torch.linalg.solve(equations, torch.tensor([1, mos], dtype=torch.float64)).tolist()
    expected = [alpha * p + beta for p in mass]
    assert min(expected) < 0 < 0.01 < max(expected)  # here a level is cut at 0
    cut = [max(0.0, p) for p in expected]
    assert gaussian_levels(mos, sd) == pytest.approx([p / sum(cut) for p in cut])
    assert mean(gaussian_levels(mos, sd)) == pytest.approx(mos, abs=0.1)
    assert gaussian_levels(3, 0.8) == pytest.approx(gaussian_levels(3, 0.8)[::-1])
    assert gaussian_levels(3.4, 0.19) == neighbours(3.4)  # as sure as that


# ---------------------------------------------------------------------- one batch, written out


class WrittenOut:
    """Log-probabilities of an answer's tokens, each wording in a row of its own."""

    def __init__(self, policy, processor):
        self.policy, self.tokenizer = policy, processor.tokenizer
        self.collate = SFTCollator(processor, ClipLoader(processor.load_clip), policy)

    def tokens(self, text):
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def logprobs(self, row, text):
        batch = self.collate([row | {"completion": text}])
        labels = batch.pop("labels")[0]
        places = (labels != -100).nonzero()[:, 0]
        return self.policy(**batch).logits[0, places - 1].log_softmax(-1)[range(len(places)), labels[places]]

    def terms(self, row, weight, words, shares):
        """Weighted losses and sum of weights of one row, and log-probabilities of its words."""
        text, (start, end) = row["completion"], row["decision"]
        texts = {word: (text[:start] + word, text[end:]) for word, share in zip(words, shares, strict=True) if share}
        written = {word: self.tokens(before) for word, (before, _) in texts.items()}
        before = [self.tokens(text[:start]), self.tokens(text[:end]), *written.values()]
        common = max(n for n in range(len(before[0]) + 1) if all(one[:n] == before[0][:n] for one in before))
        own = self.logprobs(row, text)
        rest = [*range(common), *range(len(self.tokens(text[:end])), len(own))]
        loss, total = -own[rest].sum(), float(len(rest))
        chances = {}
        for word, share in zip(words, shares, strict=True):
            if share:
                said = self.logprobs(row, "".join(texts[word]))[common : len(written[word])]
                loss = loss + weight * share * (math.log(share) - said.sum())
                total += weight * share * len(said)
                chances[word] = said.sum().item()
        return loss, total, chances


WORDS = {"itu": ("excellent", "good", "fair", "poor", "bad"), "vqa2": ("high", "good", "fair", "poor", "low")}


@pytest.mark.parametrize("words", list(WORDS))
def test_the_loss_is_the_divergence_from_the_shares_and_weighs_what_decides(policy, processor, train_rows, words):
    """With the embedded default's tokenizer "high" and "low" are three and two tokens, which branch off the answer."""
    mos = (4.1, 1.9, 3.0)  # good and some high, poor and some low, fair
    rows = [type(row)(row.video, row.video_id, value) for row, value in zip(train_rows, mos, strict=False)]
    samples = [*level_samples(rows, words), score_samples(train_rows[3:4])[0]]
    args = AnswerArguments(decision_weight=4.0, level_targets="linear")
    dataset = sft_dataset(samples, processor, 0, reasoning=False, level_targets=args.level_targets).to_list()
    assert dataset[0]["completion"] == "<answer>The quality of the video is good.</answer>"
    batch = SFTCollator(processor, ClipLoader(processor.load_clip), policy, answers=args)(dataset)
    assert batch["attention_mask"].dim() == (4 if words == "vqa2" else 2) and "labels" not in batch
    targets = take_targets(batch)
    loss = answer_loss(policy(**batch).logits, targets)

    plain = WrittenOut(policy, processor)
    found = [plain.terms(row, 4.0, WORDS[words], neighbours(value)) for row, value in zip(dataset, mos, strict=False)]
    number = plain.logprobs(dataset[3], dataset[3]["completion"])
    start, end = (len(plain.tokens(dataset[3]["completion"][:place])) for place in dataset[3]["decision"])
    weights = torch.ones(len(number))
    weights[start:end] = 4.0
    total = sum(part for _, part, _ in found) + weights.sum()
    expected = (sum(part for part, _, _ in found) - (weights * number).sum()) / total
    assert loss.item() == pytest.approx(expected.item(), abs=2e-5)
    assert targets["target_weights"].sum().item() == pytest.approx(float(total), rel=1e-6)
    parameter = policy.model.language_model.layers[0].mlp.down_proj.weight
    slopes = [torch.autograd.grad(value, parameter)[0] for value in (loss, expected)]
    assert slopes[0].abs().max() > 1e-6
    torch.testing.assert_close(*slopes, atol=1e-6, rtol=1e-3)


def test_the_read_out_reads_what_was_trained(policy, processor, train_rows):
    """`level_asked="level"` gives the mean over the words' probabilities at the place where they are learnt."""
    [sample] = level_samples(train_rows[:1], "vqa2")
    [row] = sft_dataset([sample], processor, 0, reasoning=False).to_list()
    _, _, said = WrittenOut(policy, processor).terms(row, 1.0, WORDS["vqa2"], [0.2] * 5)
    chances = torch.tensor([said[word] for word in WORDS["vqa2"]]).softmax(0).tolist()
    settings = {"readout": "levels", "level_words": "vqa2", "level_asked": "level"}
    found = QualityScorer(policy, processor, **settings).score(train_rows[0].video)
    assert found.score == pytest.approx(mean(chances), abs=1e-4) and found.status == "ok"
    assert found.score != QualityScorer(policy, processor, readout="levels").score(train_rows[0].video).score
    with pytest.raises(ValueError, match="readout='answer', which reads no level words"):
        QualityScorer(policy, processor, level_words="vqa2")
    with pytest.raises(ValueError, match="level_words='qalign'"):
        QualityScorer(policy, processor, readout="levels", level_words="qalign")


# ---------------------------------------------------------------------- runs


@pytest.mark.parametrize("accumulated", [1, 2])
def test_a_step_logs_the_weighted_mean_over_all_its_rows(policy, processor, train_rows, tmp_path, accumulated):
    samples = [*level_samples(train_rows[:2], "vqa2"), *score_samples(train_rows[2:4])]
    settings = {"max_steps": 1, "per_device_train_batch_size": 4 // accumulated, "learning_rate": 0.0}
    settings |= {"use_cpu": True, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_steps": 1}
    settings |= {"gradient_accumulation_steps": accumulated, "decision_weight": 3.0, "level_targets": "linear"}
    args = VQASFTConfig(str(tmp_path), **settings)
    rows = sft_dataset(samples, processor, 0, level_targets="linear")
    collator = SFTCollator(processor, ClipLoader(processor.load_clip), policy, answers=args)
    with torch.no_grad():
        batch = collator(rows.to_list())
        targets = take_targets(batch)
        expected = answer_loss(policy(**batch).logits, targets).item()
    trainer = SFTTrainer(policy, args, data_collator=collator, train_dataset=rows, processing_class=processor)
    trainer.train()
    assert trainer.state.log_history[0]["loss"] == pytest.approx(expected, abs=2e-4)


def test_weights_of_one_are_todays_loss(policy, processor, train_rows):
    rows = sft_dataset(score_samples(train_rows[:2]), processor, 0).to_list()
    loader = ClipLoader(processor.load_clip)
    batch = SFTCollator(processor, loader, policy, answers=AnswerArguments())(rows)
    assert "labels" in batch and not take_targets(batch)
    level = AnswerArguments(level_targets="linear")  # of a run whose batch happens to have no level words
    weighed = SFTCollator(processor, loader, policy, answers=level)(rows)
    targets = take_targets(weighed)
    loss = answer_loss(policy(**weighed).logits, targets)
    assert loss.item() == pytest.approx(policy(**batch).loss.item(), rel=1e-5)


def test_a_batch_without_a_readable_clip_teaches_nothing(policy, processor, tmp_path):
    sample = Sample("a", "level", (str(tmp_path / "missing.mp4"),), target={"mos": 3.5})
    rows = sft_dataset([sample], processor, 0, level_targets="linear").to_list()
    args = AnswerArguments(level_targets="linear")
    batch = SFTCollator(processor, ClipLoader(processor.load_clip), policy, answers=args)(rows)
    targets = take_targets(batch)
    loss = answer_loss(policy(**batch).logits, targets, torch.tensor(0.0))
    loss.backward()
    assert loss.item() == 0 and all(not p.grad.any() for p in policy.parameters() if p.grad is not None)


def test_what_cannot_be_learnt_as_a_distribution(processor, caplog, tmp_path):
    known = Sample("a", "level", ("a.mp4",), target={"mos": 3.4, "sd": "0.6"})
    unsure, word = (Sample(n, "level", ("b.mp4",), target=t) for n, t in (("b", {"mos": 2.2}), ("c", {"level": "bad"})))
    rows = sft_dataset([known, unsure, word], processor, 0, level_targets="gaussian").to_list()
    assert [one["share"] for one in rows[0]["levels"]] == pytest.approx([s for s in gaussian_levels(3.4, 0.6) if s])
    assert [one["share"] for one in rows[1]["levels"]] == pytest.approx([0.2, 0.8]) and rows[2]["levels"] is None
    assert "1 level of 3 have no MOS" in caplog.text and "1 level of 2 have no standard deviation" in caplog.text
    for samples, form, message in (
        ([word], "linear", "none of 1 sample of the task 'level' has a MOS"),
        ([unsure], "gaussian", r"has a standard deviation \(column sd or std\)"),
        ([Sample("a", "score", ("a.mp4",), target={"mos": 3.0})], "linear", "none of 0 samples"),
        ([Sample("d", "level", ("a.mp4",), target={"mos": 0.4})], "linear", "sample 'd': mos 0.4 has no level"),
    ):
        with pytest.raises(ValueError, match=message):
            sft_dataset(samples, processor, 0, level_targets=form)


def test_a_word_of_its_own_counts_more_than_the_mos(processor, caplog):
    targets = {"a": {"level": "poor", "mos": 4.0}, "b": {"level": "good", "mos": 4.0}, "c": {"mos": 3.5}}
    samples = [Sample(name, "level", (f"{name}.mp4",), target=target) for name, target in targets.items()]
    rows = sft_dataset(samples, processor, 0, level_targets="linear").to_list()
    assert "is poor.</answer>" in rows[0]["completion"] and rows[0]["levels"] is None
    assert [one["share"] for one in rows[1]["levels"]] == [1.0]
    assert [one["share"] for one in rows[2]["levels"]] == [0.5, 0.5]
    assert "1 level of 3 have no MOS that fits its word: there the right word alone is learnt" in caplog.text
    with pytest.raises(ValueError, match="none of 1 sample of the task 'level' has a MOS that fits its word"):
        sft_dataset(samples[:1], processor, 0, level_targets="linear")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decision_weight": 0.0}, r"decision_weight=0\.0: must be a number above 0"),
        ({"level_targets": "soft"}, "level_targets='soft': must be one of"),
    ],
)
def test_options_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_answer_arguments(AnswerArguments(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ask": "word"}, "ask='word'"),
        ({"level_words": "vqa2"}, "level_words='vqa2' with ask='score'"),
        ({"ask": "level", "mos_scale": "div20"}, "ask='level' with mos_scale='div20'"),
        ({"ask": "level", "pairs": 1.0}, "ask='level' with pairs"),
    ],
)
def test_levels_asked_of_labels(clip_set, changes, message):
    labels = {"train_labels": str(clip_set / "train.csv"), "video_root": str(clip_set), "mos_scale": "identity"}
    both = DataArguments(**labels, ask="both", level_words="vqa2").training(0)
    assert [sample.task for sample in both] == ["score"] * 16 + ["level"] * 16 and both[20].target["words"] == "vqa2"
    with pytest.raises(ValueError, match=message):
        DataArguments(**(labels | changes))


def test_levels_are_measured():
    words = list(WORDS["itu"])
    rows = [
        {"level": level, "level_words": words, "level_mos": mos}
        for level, mos in ((5, 4.9), (3, 3.1), (1, 1.2), (2, 2.0))
    ]
    said = ["<answer>good</answer>", "<answer>The quality of the video is fair.</answer>", "bad", None]
    found = TASKS["level"].measure(said, rows)
    assert found == {
        "level_accuracy": pytest.approx(1 / 3),
        "level_srcc": pytest.approx(1),
        "level_unparsable": pytest.approx(1 / 3),
    }
