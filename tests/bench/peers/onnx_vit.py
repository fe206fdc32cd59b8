"""ViT-B/16, pictures to features in ONNX Runtime: onnx_vit.py BATCH THREADS, the model of torch_models.py exported"""
import pathlib
import sys
import tempfile

import torch

import side
from torch_models import ViT

try:
    import onnxruntime
except ImportError:
    side.absent("no onnxruntime: sh tests/bench/peers/setup.sh")

batch, threads = int(sys.argv[1]), int(sys.argv[2])
torch.manual_seed(0)
pixels = torch.randn(batch, 3, 224, 224)
with tempfile.TemporaryDirectory() as folder:
    path = str(pathlib.Path(folder) / "vit.onnx")
    torch.onnx.export(ViT().eval(), (pixels,), path, input_names=["pixels"], dynamo=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
inputs = {"pixels": pixels.numpy()}
del pixels
side.serve(lambda: session.run(None, inputs))
