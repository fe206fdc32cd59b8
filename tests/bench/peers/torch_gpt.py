"""GPT-2 124M, a training step in PyTorch: torch_gpt.py eager|compiled BATCH LENGTH"""
import sys

import torch
from torch.nn import functional as F

import side
from torch_models import GPT, training_step

how, batch, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
model = GPT()
forward = torch.compile(model) if how == "compiled" else model
ids = torch.randint(0, 50257, (batch, length + 1))


def loss():
    return F.cross_entropy(forward(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())


step = training_step(model, loss)
side.serve(step)
