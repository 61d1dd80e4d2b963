import os

import numpy as np
import pytest

from vqathinker.clips import FrameCache, write_video
from vqathinker.policy.readable import follow_umask


@pytest.fixture
def group_may_read():
    before = os.umask(0o027)
    yield
    os.umask(before)


def mode(file):
    return file.stat().st_mode & 0o777


def test_checkpoints_clips_and_caches_are_readable_by_the_group(policy, processor, tmp_path, group_may_read):
    policy.save_pretrained(tmp_path / "policy")
    processor.save_pretrained(tmp_path / "policy")
    write_video(tmp_path / "clip.mp4", np.zeros((2, 32, 32, 3), np.uint8))
    FrameCache(tmp_path / "cache").get(tmp_path / "clip.mp4", "", lambda: {"frames": np.zeros(3)})
    for folder in ("policy", "cache"):
        assert mode(tmp_path / folder) == 0o750
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert {file.name: mode(file) for file in files} == {file.name: 0o640 for file in files}
    assert any(file.suffix == ".safetensors" for file in files)


def test_an_adapter_is_too(policy, tmp_path, group_may_read):
    peft = pytest.importorskip("peft")
    from vqathinker.policy.adapters import save_adapter

    adapted = peft.get_peft_model(policy, peft.LoraConfig(r=2, target_modules=["q_proj"]))
    save_adapter(adapted, tmp_path)
    assert mode(tmp_path / "adapter_model.safetensors") == 0o640


def test_the_umask_is_followed_and_other_permissions_stay(tmp_path):
    before = os.umask(0o077)
    try:
        for name, bits in (("a.safetensors", 0o600), ("b.safetensors", 0o644), ("c.pt", 0o600)):
            (tmp_path / name).touch()
            (tmp_path / name).chmod(bits)
        follow_umask(tmp_path)
        assert [mode(tmp_path / name) for name in ("a.safetensors", "b.safetensors")] == [0o600, 0o644]
        os.umask(0o002)
        follow_umask(tmp_path)
    finally:
        os.umask(before)
    assert [mode(file) for file in sorted(tmp_path.iterdir())] == [0o664, 0o644, 0o600]
