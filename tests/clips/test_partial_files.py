"""Files that are written aside and renamed: errors are about the file that was asked for."""

import os
import resource

import numpy as np
import pytest

from vqathinker.clips import FrameCache, write_video
from vqathinker.scoring.table import ScoreTable

NOISE = np.random.default_rng(0).integers(0, 256, (20, 128, 128, 3), dtype=np.uint8)


@pytest.fixture
def small_files():
    """Files may hold 20 kB and no more, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_about_the_video_that_was_asked_for(tmp_path, small_files):
    with pytest.raises(OSError, match=r"File too large: '.*/clip\.mp4'") as error:
        write_video(tmp_path / "clip.mp4", NOISE)
    assert error.value.filename == str(tmp_path / "clip.mp4") and str(os.getpid()) not in str(error.value.filename)
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_opened_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"path='.*/clip\.foo': FFmpeg cannot tell the container .* use \.mp4"):
        write_video(tmp_path / "clip.foo", NOISE[:1])
    name = "a" * 300 + ".mp4"
    with pytest.raises(OSError, match="File name too long") as error:
        write_video(tmp_path / name, NOISE[:1])
    assert error.value.filename == str(tmp_path / name)


def test_a_cache_names_the_file_that_it_could_not_keep(tmp_path, small_files, caplog):
    (tmp_path / "clip.mp4").write_bytes(b"1")
    FrameCache(tmp_path / "cache").get(tmp_path / "clip.mp4", "", lambda: {"frames": NOISE})
    assert ".frames cannot be written (" in caplog.text and ".tmp" not in caplog.text


def test_a_table_that_cannot_be_repaired_is_named(tmp_path):
    (tmp_path / f".scores.csv.{os.getpid()}.partial").mkdir()
    with pytest.raises(IsADirectoryError) as error:
        ScoreTable(tmp_path / "scores.csv", "x")
    assert error.value.filename == str(tmp_path / "scores.csv")
