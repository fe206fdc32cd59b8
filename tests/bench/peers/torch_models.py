"""models/gpt.vlm and models/vit.vlm in PyTorch, as somebody who knows it well would write them; random weights."""
import torch
from torch import nn
from torch.nn import functional as F


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def gelu_tanh(x):
    return F.gelu(x, approximate="tanh")


class Block(nn.Module):
    def __init__(self, width, heads, act, causal):
        super().__init__()
        self.heads, self.act, self.causal = heads, act, causal
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def attention(self, x):
        batch, time, width = x.shape
        q, k, v = self.qkv(x).view(batch, time, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.out(seen.transpose(1, 2).reshape(batch, time, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.down(self.act(self.up(self.norm2(x))))


class GPT(nn.Module):
    def __init__(self, vocab=50257, context=1024, width=768, depth=12, heads=12):
        super().__init__()
        self.token, self.position = nn.Embedding(vocab, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads, gelu_tanh, True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.token.weight, std=0.02)
        nn.init.normal_(self.position.weight, std=0.02)

    def decode(self, x):
        x = x + self.position.weight[: x.shape[1]]
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.token.weight)

    def forward(self, ids):
        return self.decode(self.token(ids))


class ViT(nn.Module):
    def __init__(self, image=224, patch=16, width=768, depth=12, heads=12):
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch, bias=False)
        self.cls = nn.Parameter(torch.randn(width) * 0.02)
        self.position = nn.Parameter(torch.randn((image // patch) ** 2 + 1, width) * 0.02)
        self.pre = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, heads, quick_gelu, False) for _ in range(depth))
        self.to(memory_format=torch.channels_last)

    def forward(self, pixels):
        grid = self.patches(pixels).flatten(2).transpose(1, 2)
        x = self.pre(torch.cat([self.cls.expand(len(grid), 1, -1), grid], 1) + self.position)
        for block in self.blocks:
            x = block(x)
        return x[:, 1:]


class VLM(nn.Module):
    """Pictures first, then words; the vision encoder is frozen."""

    def __init__(self):
        super().__init__()
        self.vision, self.lm, self.projection = ViT(), GPT(), nn.Linear(768, 768)
        self.vision.requires_grad_(False)

    def forward(self, pixels, ids):
        with torch.no_grad():
            features = self.vision(pixels)
        return self.lm.decode(torch.cat([self.projection(features), self.lm.token(ids)], 1))


def training_step(model, loss, rate=1e-5):
    """A step: gradients of what is trained, clipping, AdamW in one kernel."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.1, fused=True)

    def step():
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return value.item()

    return step
