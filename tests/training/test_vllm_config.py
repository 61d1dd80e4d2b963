"""A run that vLLM cannot serve is refused before it starts."""

import sys

import pytest


def test_a_missing_vllm_is_named(monkeypatch, config):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ImportError, match=r"cannot be imported.*pip install"):
        config(use_vllm=True)


def test_an_unknown_vllm_is_named(monkeypatch, config):
    vllm = pytest.importorskip("vllm", reason="vllm is not installed")
    monkeypatch.setattr(vllm, "__version__", "0.40.1")
    with pytest.raises(ImportError, match=r"vLLM 0\.40\.1.*>=0\.22"):
        config(use_vllm=True)
