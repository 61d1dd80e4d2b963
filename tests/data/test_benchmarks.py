import json
import logging
import re

import numpy as np
import pytest

from vqathinker.data import BENCHMARKS, FURTHER_SETS, PUBLISHED_OVERALL, find_benchmarks
from vqathinker.data.benchmarks import split_of

IN_DOMAIN = ["lsvq_test", "lsvq_1080p", "konvid_1k", "live_vqc", "youtube_ugc"]
OOD = ["live_yt_gaming", "cgvds", "live_yt_hfr", "waterloo_ivc_4k", "vdpve"]


@pytest.fixture
def data_root(tmp_path):
    """Two clips of CGVDS in the documented layout, and a folder without labels."""
    videos = tmp_path / "data/cgvds/videos"
    videos.mkdir(parents=True)
    (tmp_path / "data/vdpve").mkdir()
    scores = [{"image_id": f"{i}.mp4", "ann_type": "score", "score": f"{i}.1"} for i in (5, 6)]
    (tmp_path / "data/cgvds/labels.json").write_text(json.dumps({"annotations": scores}))
    return tmp_path / "data"


@pytest.fixture
def own(tmp_path):
    """Function from YAML text to its file, next to labels and clips of an own set."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine.csv").write_text("name,score\na.mp4,3\n")

    def write(text):
        path = tmp_path / "own.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


MINE = "- {name: mine, labels: mine.csv, videos: mine, video_column: name, mos_column: score}\n"


def test_the_registry_holds_the_papers_sets():
    assert list(BENCHMARKS) == IN_DOMAIN + OOD
    for domain, names, total in (("in-domain", IN_DOMAIN, 13560), ("ood", OOD, 3476)):
        assert all(BENCHMARKS[name].domain == domain for name in names)
        assert sum(BENCHMARKS[name].num_videos for name in names) == total
    for name, benchmark in BENCHMARKS.items():
        assert benchmark.name == name and re.fullmatch(r"[a-z0-9_]+", name)
        assert benchmark.source.startswith("http") and benchmark.label_formats and benchmark.licence


@pytest.mark.parametrize("domain", ["in-domain", "ood"])
def test_published_overall_is_the_mean_weighted_by_videos(domain):
    known = [benchmark for benchmark in BENCHMARKS.values() if benchmark.domain == domain]
    mean = np.average([b.published for b in known], axis=0, weights=[b.num_videos for b in known])
    assert tuple(mean.round(3)) == PUBLISHED_OVERALL[domain]


def test_a_public_set_is_read_in_native_units_and_its_count_checked(data_root, caplog):
    [found], [absent] = find_benchmarks("cgvds,vdpve", data_root)
    assert (found.title, found.domain, found.num_videos, found.published) == ("CGVDS", "ood", 357, (0.856, 0.845))
    with caplog.at_level(logging.WARNING):
        rows = found.rows()
    assert [(row.video, row.mos) for row in rows] == [(str(found.videos / f"{i}.mp4"), i + 0.1) for i in (5, 6)]
    assert "lists 2 videos, not 357" in caplog.text
    assert absent.name == "vdpve" and "vdpve holds no label file" in absent.reason and "github.com" in absent.reason


def test_a_folder_without_videos_is_absent(data_root):
    (data_root / "cgvds/videos").rmdir()
    [], [absent] = find_benchmarks("cgvds", data_root)
    assert "cgvds holds no videos folder" in absent.reason


def test_several_label_files_are_refused(data_root):
    (data_root / "cgvds/labels.csv").touch()
    with pytest.raises(ValueError, match=r"cgvds holds \['labels.json', 'labels.csv'\]: keep one"):
        find_benchmarks("cgvds", data_root)


def test_without_a_data_root_public_sets_are_absent(tmp_path):
    found, absent = find_benchmarks("ood")
    assert not found and [missing.name for missing in absent] == OOD
    assert all("no data root" in missing.reason for missing in absent)
    with pytest.raises(ValueError, match=r"data root .*nope' is not a folder"):
        find_benchmarks("ood", tmp_path / "nope")


def test_further_sets_are_chosen_by_name_and_need_a_scale(data_root, caplog):
    assert not FURTHER_SETS.keys() & BENCHMARKS.keys()
    for name, known in FURTHER_SETS.items():
        assert known.name == name and known.native_scale == "unknown" and known.published is None and known.licence
        assert known.num_sources is None or known.num_videos > known.num_sources
    for known in (BENCHMARKS | FURTHER_SETS).values():
        assert not re.search(r"\bMIT\b", known.licence)
    assert [missing.name for missing in find_benchmarks("all", data_root)[1]] == IN_DOMAIN + [
        n for n in OOD if n != "cgvds"
    ]
    (data_root / "chug/videos").mkdir(parents=True)
    (data_root / "chug/labels.csv").write_text("video,mos,take\na.mp4,70,x\nb.mp4,20,x\n")
    with pytest.raises(ValueError, match=r"CHUG: the scale of its labels .* not known.*huggingface.*--mos-scale"):
        find_benchmarks("chug", data_root)
    [found], [] = find_benchmarks("chug", data_root, scale="linear:0,100")
    with caplog.at_level(logging.WARNING):
        assert [row.mos for row in found.rows()] == [pytest.approx(3.8), pytest.approx(1.8)]
    assert found.domain == "" and "come from 856 sources" in caplog.text and "Add the column 'source'" in caplog.text
    caplog.clear()
    (data_root / "chug/labels.csv").write_text("video,mos,source\na.mp4,70,x\nb.mp4,20,x\n")
    found.rows()
    assert "sources" not in caplog.text
    for choice in ("chug,cgvds", "all"):
        with pytest.raises(ValueError, match="it goes with one public set"):
            find_benchmarks(choice, data_root, scale="linear:0,100")
    [absent] = find_benchmarks("lsco", data_root)[1]
    assert absent.domain == "live sports, where two resolutions cross over" and "arxiv" in absent.reason


def test_own_sets_join_their_domain(own, data_root, caplog):
    file = own(MINE + "- {name: home, labels: no.csv, videos: mine, domain: in-domain, title: At home}\n")
    found, absent = find_benchmarks("ood", data_root, file)
    assert [one.name for one in found] == ["cgvds", "mine"] and "home" not in [one.name for one in absent]
    _, absent = find_benchmarks("in-domain", data_root, file)
    assert [one.name for one in absent] == [*IN_DOMAIN, "home"]
    assert absent[-1].title == "At home" and re.search("label file .*no.csv does not exist", absent[-1].reason)
    found, absent = find_benchmarks("all", data_root, file)
    assert len(found) == 2 and len(absent) == 10
    mine = found[1]
    assert (mine.title, mine.domain, mine.synthetic, mine.published) == ("mine", "ood", False, None)
    assert [row.mos for row in mine.rows()] == [3.0] and not caplog.records


def test_an_own_set_says_what_it_is(own, caplog):
    entry = MINE.replace("}", ", title: Mine, num_videos: 2, synthetic: true}")
    [mine], [] = find_benchmarks("mine", own=own(entry))
    assert mine.title == "Mine" and mine.synthetic
    mine.rows()
    assert "lists 1 video, not 2" in caplog.text


def test_a_set_is_a_training_set_by_its_name_or_as_it_says(own):
    def split(text):
        return find_benchmarks("own", own=own(text))[0][0].split

    assert split(MINE) == "test" and split(MINE.replace("}", ", split: train}")) == "train"
    assert split(MINE.replace("name: mine", "name: my_train")) == "train"
    assert split(MINE.replace("name: mine", "name: train").replace("}", ", split: test}")) == "test"
    names = ["lsvq_train", "Training", "trainset-2", "train2", "trains", "constrained", "test"]
    assert [split_of(name) for name in names] == ["train"] * 4 + ["test"] * 3


def test_labels_of_an_own_set_are_brought_to_score_units(own):
    [mine], [] = find_benchmarks("own", own=own(MINE.replace("}", ", mos_scale: 'linear:0,6'}")))
    assert [row.mos for row in mine.rows()] == [3.0]  # 3 of 6 is the middle of 1 to 5


def test_an_own_set_without_its_folder_is_absent(own, tmp_path):
    (tmp_path / "mine").rmdir()
    [], [absent] = find_benchmarks("mine", own=own(MINE))
    assert "video folder" in absent.reason


def test_names_are_chosen_in_the_order_given_and_once(own):
    _, absent = find_benchmarks("vdpve, cgvds,vdpve", own=own(MINE))
    assert [one.name for one in absent] == ["vdpve", "cgvds"]


@pytest.mark.parametrize("choice", ["cgvd", "", "cgvds,", "ood,cgvd"])
def test_an_unknown_name_lists_the_known_ones(own, choice):
    with pytest.raises(ValueError, match=r"no test set .*'ood'.*'lsvq_test'.*'mine'"):
        find_benchmarks(choice, own=own(MINE))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be a list of test sets"),
        ("name: mine\n", "must be a list of test sets"),
        ("- [a\n", "not valid YAML"),
        ("- mine\n", "entry 1 of 1: 'mine' must be a mapping"),
        (MINE + "- {name: x, labels: a.csv}\n", r"entry 2 of 2: missing keys \['videos'\]"),
        (MINE.replace("mos_column", "mos_colum"), r"entry 1 of 1: .*unknown keys \['mos_colum'\].*'mos_column'"),
        (MINE + MINE, "entry 2 of 2: name 'mine' is taken"),
        (MINE.replace("name: mine", "name: cgvds"), "name 'cgvds' belongs to a public set"),
        (MINE.replace("name: mine", "name: ood"), "name 'ood' belongs"),
        (MINE.replace("name: mine", "name: ../mine"), "name is '../mine'; it must be up to 100 of A-Z"),
        (MINE.replace("name: mine", "name: .mine"), "name is '.mine'"),
        (MINE.replace("name: mine", "name: 7"), "name is 7"),
        (MINE.replace("labels: mine.csv", "labels: [a]"), r"labels is \['a'\]; it must be the path"),
        (MINE.replace("}", ", domain: outside}"), r"domain is 'outside'; it must be one of \['in-domain', 'ood'\]"),
        (MINE.replace("}", ", num_videos: 0}"), "num_videos is 0; it must be a whole number above 0"),
        (MINE.replace("}", ", num_videos: true}"), "num_videos is True"),
        (MINE.replace("}", ", source_column: 3}"), "source_column is 3; it must be the name of a CSV column"),
        (MINE.replace("}", ", mos_scale: percent}"), "mos_scale is 'percent'; it must be 'linear:LO,HI'"),
        (MINE.replace("}", ", mos_scale: 5}"), "mos_scale is 5; it must be 'linear:LO,HI'"),
        (MINE.replace("}", ", split: val}"), r"split is 'val'; it must be one of \['test', 'train'\]"),
        (MINE.replace("}", ", synthetic: maybe}"), "synthetic is 'maybe'; it must be true or false"),
    ],
)
def test_a_bad_list_of_own_sets_is_named(own, text, message):
    with pytest.raises(ValueError, match=r"own\.yaml.*" + message):
        find_benchmarks("all", own=own(text))


def test_a_missing_list_of_own_sets_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"list of test sets .*no\.yaml' does not exist"):
        find_benchmarks("all", own=tmp_path / "no.yaml")
