import copy
import errno
import logging
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from vqathinker.cli import main
from vqathinker.clips import FrameCache, clear_cache
from vqathinker.clips.cache import HEADERS, SPARE

SIZE = 100_000


@pytest.fixture
def videos(tmp_path):
    files = [tmp_path / f"{number}.mp4" for number in range(40)]
    for file in files:
        file.write_bytes(b"1")
    return files


def clip():
    return {"frames": np.arange(SIZE, dtype=np.uint8)}


def held(folder):
    return sum(file.stat().st_size for file in folder.iterdir())


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_cache_is_lossless_and_renewed(tmp_path, frames):
    video, calls = tmp_path / "clip.mp4", []
    video.write_bytes(b"1")
    cache = FrameCache(tmp_path / "cache")

    def make():
        calls.append(1)
        return {"frames": frames}

    for _ in range(2):
        assert np.array_equal(cache.get(video, "a", make)["frames"], frames)
    assert len(calls) == 1
    cache.get(video, "b", make)
    video.write_bytes(b"22")
    cache.get(video, "a", make)
    assert len(calls) == 3
    whole = [file.read_bytes() for file in (tmp_path / "cache").iterdir()]
    huge = b'[["frames", "|u1", [1000000000000000]]]\n'
    for torn in (b"torn", b"", b"7\n", whole[0][:-1], whole[0] + b"1", b"[]\n", huge):
        for file in (tmp_path / "cache").iterdir():
            file.write_bytes(torn)
        assert np.array_equal(cache.get(video, "a", make)["frames"], frames)
    assert len(calls) == 10
    assert not list((tmp_path / "cache").glob("*.tmp"))


def test_files_of_earlier_versions_make_room(tmp_path, videos):
    folder = tmp_path / "cache"
    folder.mkdir()
    for name in ("0" * 32, "mine"):
        (folder / f"{name}.npz").write_bytes(b"1" * SIZE)
    cache = FrameCache(folder, int(2.5 * SIZE))
    cache.get(videos[0], "a", clip)
    assert sorted(file.suffix for file in folder.iterdir()) == [".frames", ".npz"] and (folder / "mine.npz").exists()


def test_arrays_of_any_type_come_back_as_they_were(tmp_path, videos):
    arrays = {
        "frames": np.arange(7, dtype=np.uint8).reshape(7, 1),
        "turned": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        "indices": np.array([-1, 2**40]),
        "notes": np.array(["turned by 90 degrees", "\u00e4"]),
        "none": np.array([], dtype=str),
    }
    cache = FrameCache(tmp_path / "cache")
    cache.get(videos[0], "", lambda: arrays)
    size = sum(array.nbytes for array in arrays.values())
    assert size < held(tmp_path / "cache") <= size + HEADERS  # as counted and foretold
    found = cache.get(videos[0], "", lambda: pytest.fail("it is there"))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].flags.writeable
        np.testing.assert_array_equal(found[name], array)


def test_no_clip_is_kept_beyond_the_cap(tmp_path, videos, caplog):
    cache = FrameCache(tmp_path / "cache", max_bytes=5 * SIZE // 2)
    for _ in range(2):
        for video in videos[:4]:
            assert np.array_equal(cache.get(video, "", clip)["frames"], clip()["frames"])
    assert len(list((tmp_path / "cache").iterdir())) == 2
    [warning] = warnings(caplog)
    assert str(tmp_path / "cache") in warning and "No more clips are cached; the run continues" in warning

    def never():
        raise AssertionError("it is there")

    cache.get(videos[0], "", never)  # what is there is used


def test_the_cap_counts_what_is_there_and_what_others_write(tmp_path, videos):
    folder = tmp_path / "cache"
    FrameCache(folder).get(videos[0], "", clip)
    late = FrameCache(folder, max_bytes=5 * SIZE // 2)
    for video in videos[1:4]:
        late.get(video, "", clip)
    assert len(list(folder.iterdir())) == 2
    caches = [FrameCache(folder, max_bytes=10 * SIZE) for _ in range(4)]  # as of four processes
    for place, video in enumerate(videos):
        caches[place % 4].get(video, "", clip)
    assert 9 * SIZE < held(folder) <= 11 * SIZE


def test_threads_stay_under_the_cap_together(tmp_path, videos, caplog):
    cache = FrameCache(tmp_path / "cache", max_bytes=10 * SIZE)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda video: cache.get(video, "", clip)["frames"].sum(), videos))
    assert len(set(found)) == 1 and 7 * SIZE < held(tmp_path / "cache") <= 10 * SIZE
    assert len(warnings(caplog)) == 1


def test_some_of_the_disk_is_left_free(tmp_path, videos, monkeypatch, caplog):
    disk = shutil.disk_usage(tmp_path)._replace(total=100 * SPARE, free=SPARE + 3 * SIZE // 2)
    monkeypatch.setattr("shutil.disk_usage", lambda place: disk)
    cache = FrameCache(tmp_path / "cache")
    cache.get(videos[0], "", clip)
    disk = disk._replace(free=SPARE + SIZE // 2)
    for video in videos[1:3]:
        cache.get(video, "", clip)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    [warning] = warnings(caplog)
    assert "10.0 GiB of the disk are free, and 10.0 must stay free" in warning


def test_a_full_disk_only_stops_the_caching(tmp_path, videos, monkeypatch, caplog):
    def full(stream, arrays):
        stream.write(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("vqathinker.clips.cache.write_arrays", full)
    cache = FrameCache(tmp_path / "cache")
    for video in videos[:3]:
        assert np.array_equal(cache.get(video, "", clip)["frames"], clip()["frames"])
    assert not list((tmp_path / "cache").iterdir())
    [warning] = warnings(caplog)
    assert "No space left on device" in warning


def test_a_folder_that_cannot_be_written_or_read_only_stops_the_caching(tmp_path, videos, caplog):
    (tmp_path / "file").write_text("no folder")
    cache = FrameCache(tmp_path / "file" / "cache")
    assert "cannot be read" in FrameCache(tmp_path / "file").forecast(1, SIZE)
    for video in videos[:3]:
        assert np.array_equal(cache.get(video, "", clip)["frames"], clip()["frames"])
    assert len(warnings(caplog)) == 1

    caplog.clear()
    cache = FrameCache(tmp_path / "cache")
    cache.get(videos[0], "", clip)
    [file] = (tmp_path / "cache").iterdir()
    file.unlink()
    file.mkdir()  # cannot be opened, by root either
    for _ in range(2):
        assert np.array_equal(cache.get(videos[0], "", clip)["frames"], clip()["frames"])
    [warning] = warnings(caplog)
    assert "cannot be read" in warning


def test_what_it_will_take_is_said_beside_what_there_is(tmp_path, monkeypatch):
    disk = shutil.disk_usage(tmp_path)._replace(total=2**40, free=200 * 2**30)
    monkeypatch.setattr("shutil.disk_usage", lambda place: disk)
    folder = tmp_path / "cache"
    line = f"frame cache: 28056 clips x 4.3 MiB = 118.0 GiB in {folder} (holds 0.0, at most 120.0), 200.0 GiB free"
    assert FrameCache(folder, 120 * 2**30).forecast(28_056, 4_515_840) == line
    short = FrameCache(folder, 64 * 2**30).forecast(28_056, 4_515_840)
    assert short.endswith("200.0 GiB free: only 64.0 GiB of them will be kept")
    disk = disk._replace(free=50 * 2**30)
    short = FrameCache(folder).forecast(28_056, 4_515_840)
    assert short.endswith("(holds 0.0), 50.0 GiB free: only 40.0 GiB of them will be kept")


def test_a_copy_is_a_cache_of_the_same_folder(tmp_path, videos):
    cache = FrameCache(tmp_path / "cache", max_bytes=5 * SIZE)
    cache.get(videos[0], "", clip)
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert (other.folder, other.max_bytes) == (cache.folder, cache.max_bytes)
        other.get(videos[0], "", lambda: pytest.fail("it is there"))


def test_bad_settings_are_refused(tmp_path):
    with pytest.raises(ValueError, match="max_bytes=0: must be above 0"):
        FrameCache(tmp_path, 0)
    for none in ("", " ", Path(), "."):
        with pytest.raises(ValueError, match=r"folder='.?': name a folder that holds nothing else"):
            FrameCache(none)


def test_clearing_deletes_a_caches_files_and_nothing_else(tmp_path, videos, capsys):
    folder = tmp_path / "cache"
    cache = FrameCache(folder)
    for video in videos[:3]:
        cache.get(video, "", clip)
    [unfinished, *_] = [file.with_suffix(".123-456.tmp") for file in folder.iterdir()]
    unfinished.write_bytes(b"12345")
    unfinished.with_name("0" * 32 + ".npz").touch()  # of an earlier version
    for foreign in ("notes.txt", "clip.npz", "sub", "0" * 32 + ".frames.bak"):
        (folder / foreign).mkdir() if foreign == "sub" else (folder / foreign).touch()
        assert main(["clean-cache", str(folder)]) == 2
        assert f"holds {foreign}, which no frame cache wrote: nothing was deleted" in capsys.readouterr().err
        (folder / foreign).rmdir() if foreign == "sub" else (folder / foreign).unlink()
    (folder / f"{'1' * 32}.frames").symlink_to(videos[0])
    with pytest.raises(ValueError, match="nothing was deleted"):
        clear_cache(folder)
    (folder / f"{'1' * 32}.frames").unlink()
    assert len(list(folder.iterdir())) == 5
    assert main(["clean-cache", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder}: 5 files deleted, 0.3 MiB freed\n"
    assert list(folder.iterdir()) == [] and clear_cache(folder) == (0, 0)
    with pytest.raises(ValueError, match="is not a folder"):
        clear_cache(tmp_path / "none")
    cache.get(videos[0], "", clip)  # a run goes on
    assert len(list(folder.iterdir())) == 1
