"""Adapters (LoRA): a folder with `adapter_config.json` is a policy too, that of its base with the adapter's changes.

Such a folder holds what was trained, the policy's configuration and the processor; the base stays where it was. A base
of 16 or 32 bits is loaded with the adapter's changes added to its weights, a base of 4 bits with the adapter beside it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.utils import GENERATION_CONFIG_NAME
from transformers.utils.peft_utils import find_adapter_config_file

from vqathinker.policy.complete import IncompleteCheckpoint, check_names
from vqathinker.policy.readable import follow_umask
from vqathinker.wording import install

if TYPE_CHECKING:
    from peft import PeftModel

    from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
NAME = "default"
"""The adapter that is trained and saved, as PEFT calls it."""


def import_peft(what: str) -> Any:
    """PEFT.

    Args:
        what: For which it is needed, in words.

    Raises:
        ImportError: If it is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise ImportError(f"{what} needs PEFT ({error}): {install('lora')}.") from error
    return peft


def base_policy(model: PreTrainedModel | PeftModel) -> VQAThinkerForConditionalGeneration:
    """The policy itself, with the adapter's layers in it, where PEFT has wrapped it; else `model`."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def has_adapters(model: PreTrainedModel | PeftModel) -> bool:
    """Whether PEFT has put adapters into a policy, wrapped or not."""
    return bool(getattr(model, "peft_config", None))


def is_adapter(path: str | Path) -> bool:
    """Whether a folder holds an adapter.

    Raises:
        ValueError: For a hub id of one.
    """
    if Path(path).is_dir():
        return Path(path, ADAPTER_CONFIG).is_file()
    if find_adapter_config_file(str(path)) is not None:
        raise ValueError(
            f"{str(path)!r} is an adapter on a hub: adapters are only read from folders. Download it (`hf download "
            f"{path} --local-dir FOLDER`) and name the folder."
        )
    return False


def adapter_asked_for(path: str | Path, options: dict[str, Any]) -> str | Path | None:
    """The adapter folder that arguments of `from_pretrained` name, or `None`.

    Args:
        path: Its first argument.
        options: The others. The Auto classes have looked for an adapter themselves: then `path` is its base, and the
            adapter's folder is taken out of here.
    """
    given = (options.get("adapter_kwargs") or {}).get("_adapter_model_path")
    if given is not None:
        del options["adapter_kwargs"]
        return given
    return path if is_adapter(path) else None


def base_of(folder: str | Path) -> str:
    """Path or hub id of the policy that an adapter changes.

    Raises:
        ValueError: If the adapter names none.
        FileNotFoundError: If it is a folder that is not there.
    """
    base = json.loads(Path(folder, ADAPTER_CONFIG).read_text(encoding="utf-8")).get("base_model_name_or_path")
    fix = f"write its path into {ADAPTER_CONFIG}, or merge with `vqathinker merge {folder} --base BASE --out FOLDER`"
    if not base:
        raise ValueError(f"the adapter {str(folder)!r} does not name its base policy: {fix}.")
    if Path(base).is_absolute() and not Path(base).is_dir():
        raise FileNotFoundError(
            f"the adapter {str(folder)!r} has the base policy {base!r}, which does not exist: {fix}."
        )
    return base


def load_adapted(
    policy_class: type[VQAThinkerForConditionalGeneration],
    folder: str | Path,
    base: str | None = None,
    whole: bool = False,
    **options: Any,
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """The policy of an adapter folder, and transformers' report of loading its base.

    Args:
        policy_class: Its `from_pretrained` loads the base, itself a folder of weights or an adapter's.
        folder: The adapter's.
        base: In place of the one that the adapter names.
        whole: Turn a base of 4 bits into whole weights first. Else the adapter stays beside it, as it was trained.
        options: Of `from_pretrained`.

    Returns:
        The policy; what was trainable in the base is in it. Its `name_or_path` is the adapter's folder.

    Raises:
        IncompleteCheckpoint: If weights of base or adapter are missing, left over or of another shape.
    """
    peft = import_peft(f"the adapter {str(folder)!r}")
    config = policy_class.config_class.from_pretrained(folder)
    if quantization := getattr(config, "quantization_config", None):
        options.setdefault("quantization_config", quantization)
    options |= {"score_head": config.score_head, "output_loading_info": True}  # a head may have come with the adapter
    policy, report = policy_class.from_pretrained(base or base_of(folder), **options)
    if whole and getattr(policy, "is_quantized", False):
        policy.dequantize()
    trainable = [name for name, parameter in policy.named_parameters() if parameter.requires_grad]
    settings = peft.PeftConfig.from_pretrained(folder)
    settings.base_model_name_or_path = policy.name_or_path  # PEFT warns of another
    model = peft.get_peft_model(policy, settings)
    peft.set_peft_model_state_dict(model, adapter_weights(folder, model))
    if getattr(policy, "is_quantized", False):
        policy = model.get_base_model().requires_grad_(False)
    else:
        if not settings.use_dora:
            _merge_in_place(model)
        policy = model.merge_and_unload(safe_merge=True)
        for name, parameter in policy.named_parameters():
            parameter.requires_grad_(name in trainable)
    policy.name_or_path = policy.config._name_or_path = str(folder)
    if Path(folder, GENERATION_CONFIG_NAME).is_file():
        policy.generation_config = GenerationConfig.from_pretrained(folder)
    return policy, report


def adapter_weights(folder: str | Path, model: PreTrainedModel | PeftModel) -> dict[str, torch.Tensor]:
    """The weights that an adapter folder holds for a `PeftModel`, all of them.

    Raises:
        IncompleteCheckpoint: If weights are missing, left over or of another shape, or their file cannot be read.
    """
    peft = import_peft(f"the adapter {str(folder)!r}")
    file = Path(folder, ADAPTER_WEIGHTS)
    try:
        with safe_open(file, framework="pt") as source:
            found = {name: source.get_tensor(name) for name in source.keys()}  # noqa: SIM118 - no dictionary
    except (SafetensorError, FileNotFoundError) as error:
        raise IncompleteCheckpoint(
            f"{str(folder)!r} has no readable {ADAPTER_WEIGHTS} ({str(error).splitlines()[0]}): download or copy the "
            "whole folder again."
        ) from error
    wanted = peft.get_peft_model_state_dict(model, adapter_name=NAME)
    shapes = [(k, found[k].shape, wanted[k].shape) for k in found.keys() & wanted if found[k].shape != wanted[k].shape]
    check_names(repr(str(folder)), len(wanted), wanted.keys() - found.keys(), found.keys() - wanted.keys(), shapes)
    return found


def save_adapter(
    model: PreTrainedModel | PeftModel, folder: str | Path, state_dict: dict[str, torch.Tensor] | None = None
) -> None:
    """Write an adapter with its policy's configuration; PEFT's card is left out, and TRL's reference adapter too.

    Args:
        model: A `PeftModel`.
        folder: Where to.
        state_dict: In place of the model's own, where its weights are shared out.
    """
    card = Path(folder, "README.md")
    before = card.read_bytes() if card.exists() else None
    model.save_pretrained(folder, state_dict=state_dict, selected_adapters=[NAME])
    follow_umask(folder)
    card.unlink() if before is None else card.write_bytes(before)
    policy = base_policy(model)
    policy.config.save_pretrained(folder)
    policy.generation_config.save_pretrained(folder)


# ---------------------------------------------------------------------- whole weights, for vLLM and checkpoints


def check_mergeable(model: PreTrainedModel | PeftModel, adapters: Mapping[str, Any] | None = None) -> None:
    """Raise ValueError unless each weight of the policy is a plain number's, with at most a LoRA's change to add.

    Args:
        model: The policy, or what PEFT made of it.
        adapters: Configurations by name; default those that it has.
    """
    if getattr(base_policy(model), "is_quantized", False):
        raise ValueError(
            "the policy's weights are quantized: vLLM needs unquantized ones. Set use_vllm=False (rollouts with "
            "transformers), or load the policy in 16 bits; to score with vLLM, merge them with `vqathinker merge`."
        )
    for name, config in (adapters or getattr(model, "peft_config", None) or {}).items():
        if str(getattr(config, "peft_type", "")).rpartition(".")[2] != "LORA" or config.use_dora:
            kind = "DoRA" if getattr(config, "use_dora", False) else getattr(config, "peft_type", type(config).__name__)
            raise ValueError(
                f"adapter {name!r} is {kind}: for vLLM only a plain LoRA can be merged into the weights. Set "
                "use_vllm=False (rollouts with transformers), or train a LoRA without use_dora."
            )


def adapted_layers(policy: nn.Module) -> dict[int, Any]:
    """Layers with a LoRA, by the `id` of the weight that each changes."""
    layers: Iterable[Any] = (
        module for module in policy.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")
    )
    return {id(layer.base_layer.weight): layer for layer in layers}


def adapter_parameters(layer: Any) -> list[nn.Parameter]:
    """A and B of a layer's active LoRA."""
    [name] = layer.active_adapters
    return [layer.lora_A[name].weight, layer.lora_B[name].weight]


def merged_weight(layer: Any) -> torch.Tensor:
    """W + scaling B A in W's type, rounded once; W itself stays, to the last bit (PEFT's merge and unmerge would add
    and subtract in 16 bits, and W would drift)."""
    [name] = layer.active_adapters
    weight = layer.base_layer.weight.data
    return (weight + layer.get_delta_weight(name)).to(weight.dtype)


@torch.no_grad()
def _merge_in_place(model: nn.Module) -> None:
    """Add each product to its weight as `merged_weight` does, and leave PEFT zeros to add, which it rounds twice."""
    for layer in adapted_layers(model).values():
        layer.base_layer.weight.copy_(merged_weight(layer))
        adapter_parameters(layer)[1].zero_()


def plain_parameters(policy: nn.Module) -> Iterator[tuple[str, nn.Parameter, Any]]:
    """Parameters that the policy has without PEFT: name there, value, and the layer whose LoRA changes it (or None)."""
    layers = adapted_layers(policy)
    for name, parameter in policy.named_parameters():
        if ".lora_" in name or ".original_module." in name:
            continue
        name, _, other = (
            name.replace(".base_layer.", ".").replace(f".modules_to_save.{NAME}.", ".").partition(".modules_to_save.")
        )
        if other:  # TRL's reference
            continue
        yield name, parameter, layers.get(id(parameter))


def merge_adapter(
    folder: str | Path, out: str | Path, base: str | None = None, dtype: str | torch.dtype = "auto"
) -> PreTrainedModel:
    """Write the policy of an adapter folder as a whole checkpoint, with its processor.

    Args:
        folder: The adapter's.
        out: Where to.
        base: In place of the one that the adapter names.
        dtype: Of the written weights; "auto": as the base's (of 4 bits: as its other weights').

    Returns:
        The policy.

    Raises:
        ValueError: If `folder` is no adapter, or `out` is it or its base.
        FileNotFoundError: If the base is not there.
    """
    from transformers import AutoProcessor

    from vqathinker.policy.modeling import VQAThinkerForConditionalGeneration

    if not is_adapter(folder):
        raise ValueError(f"{str(folder)!r} holds no {ADAPTER_CONFIG}: name the folder of an adapter (`use_peft`).")
    base = base or base_of(folder)
    for taken in (folder, base):
        if Path(out).resolve() == Path(taken).resolve():
            raise ValueError(f"out={str(out)!r} is {str(taken)!r}, which would be overwritten: choose another folder.")
    policy, _ = load_adapted(VQAThinkerForConditionalGeneration, folder, base, whole=True, dtype=dtype)
    policy.save_pretrained(out)
    AutoProcessor.from_pretrained(folder).save_pretrained(out)
    return policy
