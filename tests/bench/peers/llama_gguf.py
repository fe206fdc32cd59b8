"""Random weights as llama.cpp reads them: llama_gguf.py small|smollm2_135m|vit FORMAT FILE.gguf

Matrices in FORMAT (f32, bf16, q8_0, q4_0), vectors and tables of positions in f32. In q4_0 the table of tokens is finer,
as in the files that people have: Q6_K, or Q8_0 where its rows are not made of 256. Blocks are random bytes behind a
small scale, so nothing has to be quantised. There is no vocabulary: tokens are numbers."""
import sys

import gguf
import numpy

random = numpy.random.default_rng(0)
TYPES = gguf.GGMLQuantizationType


def normal(shape):
    return random.standard_normal(shape, dtype=numpy.float32) * numpy.float32(0.02)


def blocks(rows, columns, kind):
    size, width = gguf.GGML_QUANT_SIZES[kind]
    data = random.integers(0, 256, (rows, columns // size, width), dtype=numpy.uint8)
    scale = numpy.frombuffer(numpy.float16(1e-3).tobytes(), dtype=numpy.uint8)
    at = width - 2 if kind == TYPES.Q6_K else 0
    data[:, :, at : at + 2] = scale
    return data.reshape(rows, -1)


def add(writer, name, shape, format="f32"):
    kind = TYPES[format.upper()]
    if kind == TYPES.F32:
        writer.add_tensor(name, normal(shape))
    elif kind == TYPES.BF16:
        data = (normal(shape).view(numpy.uint32) >> 16).astype(numpy.uint16)
        writer.add_tensor(name, data.view(numpy.uint8), raw_dtype=kind)
    else:
        writer.add_tensor(name, blocks(*shape, kind), raw_dtype=kind)


def add_linear(writer, name, outputs, inputs, format, bias=True):
    add(writer, name + ".weight", (outputs, inputs), format)
    if bias:
        add(writer, name + ".bias", (outputs,))


def add_norm(writer, name, width, bias=True):
    add(writer, name + ".weight", (width,))
    if bias:
        add(writer, name + ".bias", (width,))


def language_model(path, arch, vocab, context, width, depth, heads, groups, hidden, format):
    gpt = arch == "gpt2"
    writer = gguf.GGUFWriter(path, arch)
    writer.add_vocab_size(vocab)
    writer.add_context_length(context)
    writer.add_block_count(depth)
    writer.add_embedding_length(width)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(heads)
    writer.add_head_count_kv(groups)
    writer.add_tokenizer_model("no_vocab")
    if gpt:
        writer.add_layer_norm_eps(1e-5)
        add(writer, "position_embd.weight", (context, width))
    else:
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_dimension_count(width // heads)
        writer.add_rope_freq_base(1e5)
    finer = "q6_k" if width % 256 == 0 else "q8_0"
    add(writer, "token_embd.weight", (vocab, width), finer if format == "q4_0" else format)
    add_norm(writer, "output_norm", width, gpt)
    for layer in range(depth):
        block = f"blk.{layer}."
        add_norm(writer, block + "attn_norm", width, gpt)
        add_norm(writer, block + "ffn_norm", width, gpt)
        if gpt:
            add_linear(writer, block + "attn_qkv", 3 * width, width, format)
        else:
            add_linear(writer, block + "attn_q", width, width, format, False)
            add_linear(writer, block + "attn_k", width // heads * groups, width, format, False)
            add_linear(writer, block + "attn_v", width // heads * groups, width, format, False)
            add_linear(writer, block + "ffn_gate", hidden, width, format, False)
        add_linear(writer, block + "attn_output", width, width, format, gpt)
        add_linear(writer, block + "ffn_up", hidden, width, format, gpt)
        add_linear(writer, block + "ffn_down", width, hidden, format, gpt)
    return writer


def vision_encoder(path, format, image=224, patch=16, width=768, depth=12, heads=12):
    writer = gguf.GGUFWriter(path, "clip")
    for name, value in {
        "image_size": image, "patch_size": patch, "embedding_length": width, "feed_forward_length": 4 * width,
        "block_count": depth, "attention.head_count": heads, "projection_dim": width,
    }.items():
        writer.add_uint32("clip.vision." + name, value)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", False)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.feature_layer", [depth])
    writer.add_array("clip.vision.image_mean", [0.48145466, 0.4578275, 0.40821073])
    writer.add_array("clip.vision.image_std", [0.26862954, 0.26130258, 0.27577711])
    add(writer, "v.class_embd", (width,))
    add(writer, "v.patch_embd.weight", (width, 3, patch, patch))
    add(writer, "v.position_embd.weight", ((image // patch) ** 2 + 1, width))
    add_norm(writer, "v.pre_ln", width)
    for layer in range(depth):
        block = f"v.blk.{layer}."
        add_norm(writer, block + "ln1", width)
        add_norm(writer, block + "ln2", width)
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add_linear(writer, block + name, width, width, format)
        add_linear(writer, block + "ffn_up", 4 * width, width, format)
        add_linear(writer, block + "ffn_down", width, 4 * width, format)
    for name in ("mm.0", "mm.2"):  # a projection of two layers, the least that its reader knows: 1 % of the FLOPs
        add_linear(writer, name, width, width, format)
    return writer


what, format, path = sys.argv[1:]
if what == "vit":
    writer = vision_encoder(path, format)
elif what == "small":
    writer = language_model(path, "gpt2", 50257, 1024, 768, 12, 12, 12, 3072, format)
else:
    writer = language_model(path, "llama", 49152, 2048, 576, 30, 9, 3, 1536, format)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
