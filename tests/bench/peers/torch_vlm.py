"""ViT-B/16 + Linear + GPT-2 124M, a training step in PyTorch: torch_vlm.py eager|compiled pretrain|sft BATCH WORDS

What is trained is what the stages of models/vlm.vlm train: the projection, and the last block or the whole language
model."""
import sys

import torch
from torch.nn import functional as F

import side
from torch_models import VLM, training_step

how, stage, batch, words = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(0)
model = VLM()
if stage == "pretrain":
    model.lm.requires_grad_(False)
    model.lm.blocks[-1].requires_grad_(True)
forward = torch.compile(model) if how == "compiled" else model
pixels = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)
ids = torch.randint(0, 50257, (batch, words))
targets = torch.full((batch, 196 + words), -100)  # what the next token is; of pictures, and behind the end, nothing
targets[:, 195:-1] = ids


def loss():
    return F.cross_entropy(forward(pixels, ids).flatten(0, 1), targets.flatten(), ignore_index=-100)


step = training_step(model, loss)
side.serve(step)
