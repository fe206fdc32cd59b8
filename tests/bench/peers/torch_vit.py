"""ViT-B/16, pictures to features in PyTorch: torch_vit.py eager|compiled BATCH"""
import sys

import torch

import side
from torch_models import ViT

how, batch = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
model = ViT().eval()
forward = torch.compile(model) if how == "compiled" else model
pixels = torch.randn(batch, 3, 224, 224).to(memory_format=torch.channels_last)


@torch.inference_mode()
def step():
    forward(pixels)


step()
side.serve(step)
