"""A run that vLLM cannot serve is refused before it starts."""

import sys

import pytest


@pytest.mark.parametrize(
    ("version", "message"), [("0.40.1", r"vLLM 0\.40\.1.*>=0\.22"), (None, r"cannot be imported.*pip install")]
)
def test_a_missing_or_unknown_vllm_is_named(version, message, monkeypatch, config):
    vllm = pytest.importorskip("vllm", reason="vllm is not installed")

    if version:
        monkeypatch.setattr(vllm, "__version__", version)
    else:
        monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=message):
        config(use_vllm=True)
