"""OpenRLHF's executor of single turns with our file: what it gives for each answer. Its engine is a list of answers."""

import asyncio
import json
import sys
from types import SimpleNamespace

from openrlhf.utils.agent import SingleTurnAgentExecutor

from vqathinker.rewards.adapters import openrlhf
from vqathinker.synth import tiny_tokenizer


class Engine:
    """In vLLM's place: "generates" a given text and the token that ends it."""

    def __init__(self, tokenizer, text):
        self.ids = [*tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]

    async def generate(self, prompt_token_ids, sampling_params, multi_modal_data=None):
        return SimpleNamespace(outputs=[SimpleNamespace(token_ids=self.ids, finish_reason="stop", logprobs=None)])


def paid(executor, tokenizer, text, label):
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "How good is this video?"}], tokenize=False, add_generation_prompt=True
    )
    sampling = SimpleNamespace(max_tokens=400, logprobs=None)
    return asyncio.run(executor.execute(prompt, label, sampling, 2000, tokenizer, Engine(tokenizer, text)))


given = json.loads(sys.argv[1])
tokenizer = tiny_tokenizer()
executor = SingleTurnAgentExecutor(openrlhf.__file__)
found = [paid(executor, tokenizer, *row) for row in zip(given["answers"], given["labels"], strict=True)]
try:
    ended = str(paid(executor, tokenizer, given["answers"][0], ""))
except BaseException as error:
    ended = f"{type(error).__name__}: {error}"
print(
    "FOUND",
    json.dumps({"paid": [{k: row[k] for k in ("reward", "scores", "extra_logs")} for row in found], "ended": ended}),
)
