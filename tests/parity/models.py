# Reference implementations at small random weights -> tests/parity/data, for tests/test_parity.c.
#
#   CASE.safetensors            weights, under the names and in the layouts of published checkpoints
#   CASE.gguf                   the same as GGUF, where llama.cpp knows the architecture
#   CASE-vision.safetensors     those of the vision encoder, where it is published by itself
#   CASE-gradients.safetensors  of the first step of training, clipped, laid out as the weights
#   CASE-expected.safetensors   pixels, ids, weight (of each position's target); result (logits, or features);
#                               greedy: the tokens that follow each row of ids; losses of ten steps of AdamW
import os
import sys

os.environ["TRANSFORMERS_VERBOSITY"] = "error"
import torch
import torch.nn as nn
import torch.nn.functional as F
from gguf import GGUFWriter
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
from transformers import LlavaConfig, LlavaForConditionalGeneration, Qwen2Config, Qwen2ForCausalLM, Qwen3Config
from transformers import Qwen3ForCausalLM, SiglipVisionConfig, SiglipVisionModel

VOCAB, IMAGE, GREEDY, STEPS = 48, 3, 64, 10
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")


# ---- architectures, all of odd sizes: pixels, ids -> result; `names`: our module's name -> the published one


class Encoder(nn.Module):
    """Patch features of a vision encoder; its class token, where it has one, is dropped."""

    def __init__(self, model):
        super().__init__()
        self.model, self.skip = model, int(isinstance(model, CLIPVisionModel))

    def forward(self, pixels, ids=None):
        return self.model(pixel_values=pixels).last_hidden_state[:, self.skip :]


class Text(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels, ids):
        return self.model(input_ids=ids).logits


class Llava(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixels, ids):
        return self.model(input_ids=ids, pixel_values=pixels).logits


class Spliced(nn.Module):
    """Features through a projector into the places of the picture's tokens, as minimind-v and nanoVLM do."""

    def __init__(self, vision, projector, model):
        super().__init__()
        self.vision, self.projector, self.model = vision, projector, model

    def forward(self, pixels, ids):
        words, seen = self.model.get_input_embeddings()(ids), self.projector(self.vision(pixels))
        words = words.masked_scatter((ids == IMAGE).unsqueeze(-1), seen)
        return self.model(inputs_embeds=words).logits


class PixelShuffle(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, x):
        batch, count, width = x.shape
        side = int(count**0.5) // self.by
        x = x.view(batch, side, self.by, side, self.by, width).transpose(2, 3)
        return x.reshape(batch, side * side, self.by**2 * width)


def clip(**settings):
    return CLIPVisionModel(
        CLIPVisionConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
                         patch_size=4, image_size=12, **settings))


def siglip(image=12):
    return SiglipVisionModel(
        SiglipVisionConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
                           patch_size=4, image_size=image, vision_use_head=False))


def llama_settings(tied, theta):
    return dict(vocab_size=VOCAB, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=tied,
                rope_parameters={"rope_type": "default", "rope_theta": theta})


def llama(tied=True, theta=1e4):
    return LlamaForCausalLM(LlamaConfig(rms_norm_eps=1e-5, **llama_settings(tied, theta)))


def qwen2():
    return Qwen2ForCausalLM(Qwen2Config(rms_norm_eps=1e-6, **llama_settings(True, 1e6)))


def qwen3(size):
    return Qwen3ForCausalLM(Qwen3Config(rms_norm_eps=1e-6, head_dim=size, **llama_settings(True, 1e6)))


def llava():
    config = LlavaConfig(vision_config=clip().config, text_config=llama(False).config, image_token_index=IMAGE)
    return LlavaForConditionalGeneration(config)


# ---- published names


def renamed(name, rules):
    for old, new in rules:
        if name.startswith(old):
            return new + name[len(old):]
    return name


def nanovlm_name(name):
    """nanoVLM has modules of its own, with other names for the same tensors."""
    name = renamed(name, [("vision.model.encoder.layers.", "vision_encoder.blocks."), ("vision.model.", "vision_encoder."),
                          ("model.model.layers.", "decoder.blocks."), ("model.model.", "decoder."),
                          ("projector.1.", "MP.proj.")])
    words = [("embeddings.patch_embedding", "patch_embedding.conv"), ("post_layernorm", "layer_norm"),
             ("embeddings.position_embedding.weight", "patch_embedding.position_embedding"), ("self_attn", "attn"),
             ("o_proj", "out_proj"), ("embed_tokens", "token_embedding"), ("post_attention_layernorm", "norm2"),
             ("input_layernorm", "norm1"), ("layer_norm1", "ln1"), ("layer_norm2", "ln2")]
    for old, new in words:
        name = name.replace(old, new)
    return name


def nanovlm_tensors(tensors):
    """Its encoder keeps queries, keys and values in one matrix, and positions with a batch axis."""
    out = {}
    for name, tensor in tensors.items():
        if name.endswith("position_embedding"):
            tensor = tensor.unsqueeze(0)
        if name.startswith("vision_encoder") and any(f".{part}_proj." in name for part in "kv"):
            continue
        if name.startswith("vision_encoder") and ".q_proj." in name:
            tensor = torch.cat([tensors[name.replace("q_proj", part + "_proj")] for part in "qkv"])
            name = name.replace("q_proj", "qkv_proj")
        out[name] = tensor
    return out


def published(case, model, tensors):
    """Our wrappers' names -> those of the checkpoints; which file each tensor is in."""
    rules = {
        "clip": [("model.", "vision_model.")],
        "siglip": [("model.", "vision_model.")],
        "llava": [("model.model.vision_tower.", "vision_tower.vision_model."),
                  ("model.model.multi_modal_projector.", "multi_modal_projector."),
                  ("model.model.language_model.", "language_model.model."), ("model.lm_head.", "language_model.lm_head.")],
        "minimind2v": [("vision.model.", "vision_model."), ("projector.", "vision_proj.vision_proj.0."), ("model.", "")],
        "minimind3v": [("vision.model.", "vision_model."), ("projector.", "vision_proj.mlp."), ("model.", "")],
        "gpt2": [("model.transformer.", ""), ("model.", "")],
    }.get(case, [("model.", "")])
    tied = model.state_dict() if hasattr(model, "state_dict") else {}
    embedding = [name for name in tied if name.endswith(("embed_tokens.weight", "wte.weight"))]
    out, vision = {}, {}
    for name, tensor in tensors.items():
        head = name.endswith("lm_head.weight")
        if head and embedding and tied[name].data_ptr() == tied[embedding[0]].data_ptr():
            continue
        new = nanovlm_name(name) if case == "nanovlm" else renamed(name, rules)
        apart = case.startswith("minimind") and new.startswith("vision_model.")
        (vision if apart else out)[new] = tensor.detach().clone().contiguous()
    return (nanovlm_tensors(out) if case == "nanovlm" else out), vision


# ---- GGUF, as llama.cpp's converter lays it out

GGUF = {"gpt2": [("wte.", "token_embd."), ("wpe.", "position_embd."), ("ln_f.", "output_norm."), ("h.", "blk."),
                 (".ln_1.", ".attn_norm."), (".ln_2.", ".ffn_norm."), (".attn.c_attn.", ".attn_qkv."),
                 (".attn.c_proj.", ".attn_output."), (".mlp.c_fc.", ".ffn_up."), (".mlp.c_proj.", ".ffn_down.")],
        "llama": [("model.embed_tokens.", "token_embd."), ("model.norm.", "output_norm."), ("lm_head.", "output."),
                  ("model.layers.", "blk."), (".input_layernorm.", ".attn_norm."), (".post_attention_layernorm.", ".ffn_norm."),
                  (".self_attn.q_norm.", ".attn_q_norm."), (".self_attn.k_norm.", ".attn_k_norm."),
                  (".self_attn.o_proj.", ".attn_output."), (".self_attn.q_proj.", ".attn_q."),
                  (".self_attn.k_proj.", ".attn_k."), (".self_attn.v_proj.", ".attn_v."), (".mlp.gate_proj.", ".ffn_gate."),
                  (".mlp.up_proj.", ".ffn_up."), (".mlp.down_proj.", ".ffn_down.")]}


def write_gguf(case, tensors):
    writer = GGUFWriter(os.path.join(FOLDER, f"{case}.gguf"), "gpt2" if case == "gpt2" else "llama")
    for name, tensor in tensors.items():
        if case == "gpt2" and tensor.dim() == 2 and name.startswith("h."):
            tensor = tensor.T
        for part, heads in ("q_proj", 4), ("k_proj", 2):  # Llama's heads, rotated in pairs of neighbours
            if case in ("llama", "smollm2") and part in name:
                tensor = tensor.reshape(heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)
        for old, new in GGUF["gpt2" if case == "gpt2" else "llama"]:
            name = new + name[len(old):] if name.startswith(old) else name.replace(old, new) if old[0] == "." else name
        writer.add_tensor(name, tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- inputs, training, generation


def randomise(model, generator):
    """Weights that make every bias, norm and scale matter."""
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "embed" in name or ".wte." in name or ".wpe." in name:
            value = 0.5 * noise
        elif parameter.dim() == 1:
            value = 0.2 * noise + (1 if "norm" in name or ".ln_" in name or "projector.0.weight" in name else 0)
        else:
            fan_in = parameter.shape[0] if "c_attn" in name or "c_proj" in name or "c_fc" in name else parameter[0].numel()
            value = 1.5 * noise / fan_in**0.5
        parameter.data.copy_(value)


def make_inputs(generator, image, tokens, text):
    """Two rows; those with a picture have its tokens after two words."""
    inputs = {}
    if image:
        inputs["pixels"] = torch.randn(2, 3, image, image, generator=generator)
    if text:
        ids = torch.randint(IMAGE + 1, VOCAB, (2, 7 + tokens), generator=generator, dtype=torch.int32)
        ids[:, 2 : 2 + tokens] = IMAGE
        weight = (torch.rand(ids.shape, generator=generator) < 0.6).float()
        weight[:, : 1 + tokens], weight[:, -1] = 0, 0
        inputs.update(ids=ids, weight=weight)
    return inputs


def loss_of(model, inputs):
    ids = inputs.get("ids")
    result = model(inputs.get("pixels"), ids.long() if ids is not None else None)
    if ids is None:
        return (result**2).mean()
    each = F.cross_entropy(result[:, :-1].flatten(0, 1), ids[:, 1:].long().flatten(), reduction="none")
    weight = inputs["weight"][:, :-1].flatten()
    return (each * weight).sum() / weight.sum()


def train(case, model, inputs):
    """AdamW without decay for biases and norms, gradients clipped to norm 1: losses, and the first gradients."""
    for name, parameter in model.named_parameters():  # LLaVA never trains its encoder
        parameter.requires_grad_(not (case == "llava" and "vision_tower" in name))
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW([{"params": [p for p in parameters if p.dim() > 1], "weight_decay": 0.1},
                                   {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0}], lr=3e-3)
    losses, gradients = [], None
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(model, inputs)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        if gradients is None:
            gradients = {name: torch.zeros_like(p) if p.grad is None else p.grad.clone()
                         for name, p in model.named_parameters(remove_duplicate=False)}
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses), gradients


@torch.no_grad()
def generate(model, inputs):
    """Greedy tokens, and the smallest lead of one over the second best; 0 where the text shows nothing."""
    ids, lead = inputs["ids"].long(), float("inf")
    start = ids.shape[1]
    for _ in range(GREEDY):
        best = model(inputs.get("pixels"), ids)[:, -1].topk(2)
        lead = min(lead, (best.values[:, 0] - best.values[:, 1]).min().item())
        if (best.indices[:, 0] == IMAGE).any():
            return None, 0
        ids = torch.cat([ids, best.indices[:, :1]], 1)
    varied = min(len(set(row)) for row in ids[:, start:].tolist()) >= 4  # one word over and over shows little
    return ids[:, start:].to(torch.int32).contiguous(), lead if varied else 0


CASES = {  # model, picture's side, its tokens, text, trained
    "clip": (lambda: Encoder(clip()), 12, 0, False, True),
    "siglip": (lambda: Encoder(siglip()), 12, 0, False, False),
    "gpt2": (lambda: Text(GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=80, n_embd=24, n_layer=2, n_head=3,
                                                     resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))), 0, 0, True, True),
    "llama": (lambda: Text(llama(tied=False)), 0, 0, True, True),
    "smollm2": (lambda: Text(llama(theta=1e5)), 0, 0, True, False),
    "qwen2": (lambda: Text(qwen2()), 0, 0, True, False),
    "qwen3": (lambda: Text(qwen3(10)), 0, 0, True, False),
    "llava": (lambda: Llava(llava()), 12, 9, True, True),
    "nanovlm": (lambda: Spliced(Encoder(siglip(16)), nn.Sequential(PixelShuffle(2), nn.Linear(96, 24, bias=False)),
                                llama(theta=1e5)), 16, 4, True, False),
    "minimind2v": (lambda: Spliced(Encoder(clip()), nn.Linear(24, 24), llama(theta=1e6)), 12, 9, True, False),
    "minimind3v": (lambda: Spliced(Encoder(siglip()), nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 24), nn.GELU(),
                                                                    nn.Linear(24, 24)), qwen3(6)), 12, 9, True, False),
}


def make(case, seed):
    build, image, tokens, text, trained = CASES[case]
    generator = torch.Generator().manual_seed(seed)
    model = build().eval()
    randomise(model, generator)
    inputs = make_inputs(generator, image, tokens, text)
    expected = dict(inputs)
    with torch.no_grad():
        ids = inputs.get("ids")
        expected["result"] = model(inputs.get("pixels"), ids.long() if ids is not None else None).contiguous()
    if text:
        expected["greedy"], lead = generate(model, inputs)
        if lead < 2e-3:
            return False
    weights, vision = published(case, model, dict(model.named_parameters(remove_duplicate=False)))
    files = {"": weights, "-vision": vision, "-expected": expected}
    if trained:
        expected["losses"], gradients = train(case, model, inputs)
        files["-gradients"] = published(case, model, gradients)[0]
    if case in ("gpt2", "smollm2", "qwen2", "qwen3"):
        write_gguf(case, weights)
    for suffix, tensors in files.items():
        if tensors:
            save_file(tensors, os.path.join(FOLDER, f"{case}{suffix}.safetensors"))
    return True


os.makedirs(FOLDER, exist_ok=True)
for case in sys.argv[1:] or CASES:
    seed = 1
    while not make(case, seed):
        seed += 1
    print(f"{case}: seed {seed}", flush=True)
