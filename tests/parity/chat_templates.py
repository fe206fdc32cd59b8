#!/usr/bin/env python3
"""Writes chat_templates.inc: conversations as the published chat templates spell them.

ChatML is SmolLM2-Instruct's template and Llama-2's its own, rendered by transformers; Vicuna's is put together as
FastChat and LLaVA-1.5 do it (system text, " ", "USER: " + text, " ", "ASSISTANT: " + text, "</s>").
tests/test_template.c says the same as `template` blocks. Run where transformers is (pip install transformers jinja2, in
a folder of its own): python3 tests/parity/chat_templates.py > tests/parity/chat_templates.inc
The Jinja texts of jinja.inc, which `vlmc export` writes into GGUF files, have to render to the same; standard error says
of each whether they do.
"""
import json
import pathlib
import re
import sys

import transformers
from transformers.utils.chat_template_utils import render_jinja_template

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are a "
    "helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] "
    "+ '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\n' }}{% endif %}")
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
    "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for "
    "message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + "
    "system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif "
    "%}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] "
    "== 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
VICUNA = ("A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, "
          "and polite answers to the user's questions.")
TURNS = [("what is it?", "a bag"), ("its colour?", "red, 红"), ("sure? [INST]", "yes.")]


def jinja(template):
    def render(system, turns, prompt):
        messages = [{"role": "system", "content": system}] if system else []
        for question, answer in turns:
            messages += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        if prompt:
            messages.pop()
        rendered, _ = render_jinja_template([messages], chat_template=template, add_generation_prompt=prompt,
                                            bos_token="<s>", eos_token="</s>")
        return rendered[0]
    return render


def vicuna(system, turns, prompt):
    text = "<s>" + (system or VICUNA) + " "
    for i, (question, answer) in enumerate(turns):
        text += f"USER: {question} ASSISTANT:"
        text += "" if prompt and i + 1 == len(turns) else f" {answer}</s>"
    return text


RENDERERS = (("chatml", jinja(SMOLLM2)), ("llama2", jinja(LLAMA2)), ("vicuna", vicuna))


def check_ours(name, render):
    cases = re.findall(r'CASE\("(\w+)",\s*("(?:[^"\\]|\\.)*")\)', pathlib.Path(__file__).with_name("jinja.inc").read_text())
    ours = jinja(json.loads(dict(cases)[name]))
    for system in (None, "Be brief."):
        for count in (1, 3):
            for prompt in (True, False):
                assert ours(system, TURNS[:count], prompt) == render(system, TURNS[:count], prompt), name
    print(f"{name}: the Jinja text that is exported renders the same", file=sys.stderr)


for one in RENDERERS:
    check_ours(*one)
print(f"// Made by chat_templates.py with transformers {transformers.__version__}:")
print("// template, system's text (NULL: none is given), number of turns, the prompt for the last answer, the whole.")
for name, render in RENDERERS:
    for system in (None, "Be brief."):
        for count in (1, 3):
            prompt, whole = (render(system, TURNS[:count], prompt) for prompt in (True, False))
            said = json.dumps(system) if system else "NULL"
            print(f'CASE("{name}", {said}, {count},')
            print(f"     {json.dumps(prompt, ensure_ascii=False)},")
            print(f"     {json.dumps(whole, ensure_ascii=False)})")
