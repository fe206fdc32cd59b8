"""SmolLM2-135M-Instruct, 4-bit GGUF: greedy answers of vlmc and of transformers on the same dequantised weights,
asked by the model file's template and by the one that the GGUF file holds.

  pip install torch transformers accelerate gguf
  sh examples/smolvlm/get-weights.sh FOLDER
  python3 tests/parity/smollm2.py FOLDER/smollm2-135m-instruct.gguf

Prints a line per prompt; exits 1 where any answer differs.
"""
import os
import subprocess
import sys

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = ["What is the capital of France?", "Write a short poem about the sea.", "List three colours.",
           "Explain gravity to a child."]
TOKENS = 64


def main(path):
    folder, name = os.path.split(os.path.abspath(path))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    different = 0
    for prompt in PROMPTS:
        text = tokenizer.apply_chat_template([{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True)
        ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
        out = model.generate(ids, max_new_tokens=TOKENS, do_sample=False, repetition_penalty=1.0, eos_token_id=end)
        wanted = tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True)
        run = subprocess.run(["build/vlmc", "chat", "models/llama.vlm", "--weights", path, "--prompt", prompt,
                              "--max-tokens", str(TOKENS)], capture_output=True, text=True, check=True)
        got = run.stdout
        same = got.rstrip("\n") == wanted.rstrip("\n") and f"[{ids.shape[1]} prompt tokens" in run.stderr
        different += not same
        print("same     " if same else "DIFFERENT", repr(prompt), repr(got if same else (got, wanted)))
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
