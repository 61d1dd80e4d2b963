"""Help, typos and paths of all commands: what is said before anything is loaded."""

import argparse
import json
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from vqathinker.arguments import Parser, dashed
from vqathinker.cli import main, make_parser
from vqathinker.places import check_output
from vqathinker.wording import counted, did_you_mean

[COMMANDS] = [action for action in make_parser()._actions if isinstance(action, argparse._SubParsersAction)]


@pytest.mark.parametrize("name", list(COMMANDS.choices))
def test_help_fits_a_screen_and_its_examples_can_be_typed(name, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    lines = COMMANDS.choices[name].format_help().splitlines()
    assert lines[0].startswith(f"usage: vqathinker {name}") and len(lines) <= 50
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if line.count("default") > 1]
    examples = [line.strip() for line in lines if line.startswith(f"  vqathinker {name} ")]
    assert len(examples) >= 2
    for example in examples:
        assert make_parser().parse_args(shlex.split(example)[1:]).command == name


def test_options_are_shown_with_dashes_and_taken_with_underscores():
    shown = [option for parser in COMMANDS.choices.values() for option in parser._option_string_actions]
    assert len(shown) > 100 and not [option for option in shown if "_" in option]
    options = make_parser().parse_args(["score", "a_b.mp4", "--batch_size", "4", "--max_new_tokens=8"])
    assert (options.batch_size, options.max_new_tokens, options.paths) == (4, 8, ["a_b.mp4"])
    assert dashed(["--a_b=c_d", "e_f", "--what is_this", "--", "--g_h"]) == [
        *("--a-b=c_d", "e_f", "--what is_this"),
        *("--", "--g_h"),
    ]


@pytest.mark.parametrize(
    ("command", "usage", "message"),
    [
        (
            "score clips --modle x",
            "score PATH ... [OPTION ...]",
            "unknown option --modle: did you mean --model?",
        ),
        ("score clips --batch_siz=4", "score PATH", "unknown option --batch-siz: did you mean --batch-size?"),
        ("score clips --batch 4", "score PATH", "unknown option --batch: "),  # no beginnings
        ("score clips --colour", "score PATH", "unknown option --colour: see --help."),
        (
            "init --internvll x --out y",
            "init (--internvl INTERNVL | --policy POLICY)",
            "unknown option --internvll: did you mean --internvl?",
        ),
        ("doctor a b", "doctor MODEL", "unknown argument 'b': see --help."),
        ("flip-rate", "flip-rate (--sources PATH | --manifest PATH)", "--sources --manifest is required"),
        ("scoer clips", "COMMAND ...", "unknown command scoer: did you mean score?"),
        ("", "COMMAND ...", "COMMAND"),
    ],
)
def test_a_typo_is_answered_with_what_was_meant_and_the_commands_own_usage(command, usage, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(command.split())
    first, *_, last = capsys.readouterr().err.splitlines()
    assert stopped.value.code == 2 and first.startswith(f"usage: vqathinker {usage}") and message in last


def test_a_parser_of_ones_own_shows_each_default_once(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    parser = Parser(prog="x")
    parser.add_argument("--number", type=int, default=0, help="of things.")
    parser.add_argument("--told", type=float, default=1.5, help="default one and a half")
    parser.add_argument("--flag", action="store_true", help="no value")
    text = parser.format_help()
    assert "--number N  " in text and "of things; default 0\n" in text
    assert "default one and a half\n" in text and "no value\n" in text


def test_counted_things_and_near_names():
    assert [counted(0, "clip"), counted(1, "clip"), counted(2, "row asks", "rows ask")] == [
        *("0 clips", "1 clip", "2 rows ask"),
    ]
    assert did_you_mean("--modle", ["--model", "--seed"]) == "did you mean --model?"
    assert did_you_mean("zzz", ["score"], "look.") == "look."


@pytest.fixture
def place(tmp_path):
    """A folder with a file, a picture, an empty folder and what looks like a checkpoint."""
    (tmp_path / "file.csv").write_text("video,mos\n")
    (tmp_path / "clip.mp4").write_bytes(b"no clip")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "pictures/a.png")
    (tmp_path / "table.csv").write_text("video,r1,scene\na.mp4,3,s\nb.mp4,4,s\n")
    for clip in ("clips/a.mp4", "clips/b.mp4", "part/a.mp4"):
        (tmp_path / clip).parent.mkdir(exist_ok=True)
        (tmp_path / clip).touch()
    (tmp_path / "model").mkdir()
    (tmp_path / "model/config.json").write_text("{}")
    return tmp_path


MISTAKES = [
    ("score none.mp4", "no such file: '{place}/none.mp4'. Check"),
    ("score none.mp4 other.mp4", "no such file: '{place}/none.mp4' and 1 other. Check"),
    ("score empty", "no video in {place}/empty; looked for .mp4, .mkv, "),
    ("score clip.mp4 --model none", "no checkpoint folder at '{place}/none'"),
    ("score clip.mp4 --model empty", "no checkpoint in '{place}/empty': it has no config.json"),
    ("score clip.mp4 --model model --csv file.csv/s.csv", "'{place}/file.csv' is not a writable folder"),
    ("score clip.mp4 --model model --csv empty", "scores go to a .csv file"),
    ("ask none.mp4 What?", "no such file: '{place}/none.mp4'"),
    ("ask clip.mp4 What? --model none", "no checkpoint folder at '{place}/none'"),
    ("eval --labels none --videos empty", "--labels '{place}/none' is not a file"),
    ("eval --labels file.csv --videos none", "--videos '{place}/none' is not a folder"),
    ("eval --questions none --video-root empty --model model", "--questions '{place}/none' is not a file"),
    ("eval --questions file.csv --video-root none --model model", "--video-root '{place}/none' is not a folder"),
    ("eval --labels file.csv --videos empty --out file.csv", "--out '{place}/file.csv' is a file: name a folder."),
    ("compare clip.mp4 none.mp4 --model model", "no such file: '{place}/none.mp4'. Check"),
    ("timeline none.mp4 --model model", "no such file: '{place}/none.mp4'. Check"),
    ("timeline clips --model model", "is not one file: name one video or image."),
    ("timeline clip.mp4 --model none", "no checkpoint folder at '{place}/none'"),
    ("rank empty", "no video in {place}/empty; looked for .mp4, .mkv, "),
    ("rank clip.mp4 --model model --csv clip.mp4", "scores go to a .csv file, or to .json"),
    ("rank clip.mp4 --model none", "no checkpoint folder at '{place}/none'"),
    ("ask clip.mp4 Which? --second none.mp4", "no such file: '{place}/none.mp4'. Check"),
    ("eval --labels file.csv --videos empty --model none", "no checkpoint folder at '{place}/none'"),
    ("flip-rate --sources none --model model", "--sources '{place}/none' is not a folder"),
    ("flip-rate --sources pictures --model model", "no video in {place}/pictures; looked for .mp4"),
    ("flip-rate --manifest none --model model", "--manifest '{place}/none' is not a file"),
    ("flip-rate --sources empty --model none", "no checkpoint folder at '{place}/none'"),
    ("temporal-sensitivity pictures", "no video in {place}/pictures"),
    ("temporal-sensitivity clip.mp4 --model none", "no checkpoint folder at '{place}/none'"),
    ("doctor none", "no checkpoint folder at '{place}/none'"),
    ("fit none --videos empty", "RATINGS '{place}/none' is not a file"),
    ("fit file.csv --videos none", "--videos '{place}/none' is not a folder"),
    ("fit file.csv --videos empty --model none", "no checkpoint folder at '{place}/none'"),
    ("fit file.csv --videos empty --out /proc/f", "--out '/proc/f': '/proc' is not a writable folder. Name another"),
    ("fit file.csv --videos empty --minutes 0", "--minutes 0 must be above 0: leave it out for 30."),
    ("fit table.csv --videos clips --scale 0-100", "--scale '0-100' must be the lowest and the highest rating"),
    ("fit table.csv --videos clips --hold-out 2", "share 2.0 to hold out must be above 0 and below 1"),
    ("fit table.csv --videos clips", "2 clips of one source (sources by column 'scene'). Add clips of another scene"),
    ("fit table.csv --videos empty", "'{place}/empty' holds no video: give the folder of the clips with --videos."),
    ("fit table.csv --videos part", "1 of 2 videos are not in '{place}/part': 'b.mp4' (line 3); add the files"),
    ("eval --labels table.csv --videos clips --model model", "no column mos; the columns are video, r1, scene. Rename"),
    ("check-data none", "LABELS '{place}/none' is not a file"),
    ("merge none --out empty", "ADAPTER '{place}/none' is not a folder"),
    ("convert none --out empty", "no checkpoint folder at '{place}/none'"),
    ("init --internvl model --slowfast none --out empty", "--slowfast '{place}/none' is not a file"),
    ("synth --out empty --source pictures", "no video in {place}/pictures"),
    ("budget --config none", "--config '{place}/none' is not a file"),
    ("inspect-rewards none", "FILE '{place}/none' is not a file"),
]
NAMES = ("none", "none.mp4", "other.mp4", "clip.mp4", "empty", "file.csv", "file.csv/s.csv", "model", "pictures")
NAMES += ("table.csv", "clips", "part")


def placed(command, place):
    return [str(place / word) if word in NAMES else word for word in command.split()]


@pytest.mark.parametrize(("command", "message"), MISTAKES, ids=[command for command, _ in MISTAKES])
def test_a_wrong_path_is_one_line(command, message, place, capsys):
    arguments = placed(command, place)
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    *before, last = err.splitlines()
    assert out == "" and last.startswith(f"vqathinker {arguments[0]}: ") and message.format(place=place) in last
    assert before == ([f"skipped: 1 file that ends in .png: {place}/pictures/a.png"] if "pictures" in command else [])


def test_wrong_paths_are_told_without_torch(place, repo):
    code = "import json, sys; from vqathinker.cli import main; codes = {main(given) for given in json.load(sys.stdin)}"
    code += "; assert codes == {2} and not {'torch', 'transformers', 'av'} & {*sys.modules}"
    commands = json.dumps([placed(command, place) for command, _ in MISTAKES])
    subprocess.run([sys.executable, "-c", code], cwd=repo, check=True, capture_output=True, input=commands, text=True)


def test_what_can_be_written_is_not_complained_about(place, monkeypatch):
    monkeypatch.chdir(place)
    for path, folder in (("new/deep", True), ("empty", True), ("new/s.csv", False), ("file.csv", False), (None, True)):
        check_output("--out", path, folder)
    assert not (place / "new").exists()
