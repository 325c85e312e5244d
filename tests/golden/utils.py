"""Writes utils.safetensors: torch.nn.utils, step by step. `python tests/golden/utils.py`, with PyTorch 2.15.

For each case: the state before training (`NAME/0/…`), the input, and, for each of three steps of SGD, the output, the loss's gradients
by name and the state after the step; then the weight after removal (`NAME/removed`). All in float64.
"""

import pathlib
import warnings

import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.utils import parametrizations as P
from torch.nn.utils import parametrize, prune

warnings.simplefilter("ignore")
torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
out = {}


def put(name, tensor):
    out[name] = tensor.detach().clone().contiguous()


def train(name, layer, x, remove):
    put(f"{name}/x", x)
    for key, value in layer.state_dict().items():
        put(f"{name}/0/{key}", value)
    sgd = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    for step in range(1, 4):
        sgd.zero_grad()
        y = layer(x)
        put(f"{name}/{step}/y", y)
        (y.sin() * (1 + torch.arange(y.numel()).reshape(y.shape) / y.numel())).sum().backward()
        for key, p in layer.named_parameters():
            if p.grad is not None:
                put(f"{name}/{step}/grad/{key}", p.grad)
        sgd.step()
        for key, value in layer.state_dict().items():
            put(f"{name}/{step}/{key}", value)
    layer.eval()
    put(f"{name}/eval", layer(x))
    if remove is not None:
        remove(layer)
        put(f"{name}/removed", layer.weight)


def linear(inputs=4, outputs=3):
    return nn.Linear(inputs, outputs), torch.randn(5, inputs)


def unparametrize(layer):
    parametrize.remove_parametrizations(layer, "weight")


for dim in (0, 1, None):
    layer, x = linear()
    train(f"weight_norm.{dim}", P.weight_norm(layer, dim=dim), x, unparametrize)
    layer, x = linear()
    train(f"old_weight_norm.{dim}", nn.utils.weight_norm(layer, dim=dim), x, nn.utils.remove_weight_norm)

for dim, steps in ((0, 1), (1, 3)):
    for shape in ("linear", "conv"):
        for kind, apply, remove in (
            ("spectral_norm", P.spectral_norm, unparametrize),
            ("old_spectral_norm", nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
        ):
            layer, x = linear() if shape == "linear" else (nn.Conv1d(2, 3, 2), torch.randn(2, 2, 5))
            train(f"{kind}.{shape}.{dim}.{steps}", apply(layer, n_power_iterations=steps, dim=dim), x, remove)
layer, x = linear()
layer = P.spectral_norm(layer, "bias")
train("spectral_norm.bias", layer, x, None)

for shape in ((4, 4), (5, 3), (3, 5)):
    for mapping in ("matrix_exp", "cayley", "householder"):
        for trivial in (True, False):
            layer, x = linear(*shape)
            layer = P.orthogonal(layer, orthogonal_map=mapping, use_trivialization=trivial)
            train(f"orthogonal.{shape[0]}x{shape[1]}.{mapping}.{trivial}", layer, x, unparametrize)

layer, x = linear(3, 3)
P.orthogonal(P.spectral_norm(layer), orthogonal_map="cayley", use_trivialization=False)
train("several", layer, x, unparametrize)


def pruned(name, apply, layer, x):
    put(f"prune.{name}/before", layer.weight)
    apply(layer)
    train(f"prune.{name}", layer, x, lambda layer: prune.remove(layer, "weight"))


scores = torch.rand(3, 4)
put("scores", scores)
mask = torch.tensor([[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0]])


def twice(layer):
    prune.l1_unstructured(layer, "weight", 3)
    prune.ln_structured(layer, "weight", 1, 2, 0)
    prune.custom_from_mask(layer, "weight", mask)
    prune.l1_unstructured(layer, "weight", 0.5)


for name, apply in {
    "identity": lambda m: prune.identity(m, "weight"),
    "l1.count": lambda m: prune.l1_unstructured(m, "weight", 5),
    "l1.share": lambda m: prune.l1_unstructured(m, "weight", 0.3),
    "l1.scores": lambda m: prune.l1_unstructured(m, "weight", 0.5, scores),
    "ln.2": lambda m: prune.ln_structured(m, "weight", 2, 2, 1),
    "ln.1": lambda m: prune.ln_structured(m, "weight", 0.4, 1, 0),
    "ln.inf": lambda m: prune.ln_structured(m, "weight", 1, float("-inf"), -1),
    "ln.scores": lambda m: prune.ln_structured(m, "weight", 1, 3, 0, scores),
    "custom": lambda m: prune.custom_from_mask(m, "weight", mask),
    "twice": twice,
}.items():
    pruned(name, apply, *linear())

first, second = nn.Linear(4, 3), nn.Linear(3, 2)
prune.l1_unstructured(first, "weight", 2)
for layer, name in ((first, "first"), (second, "second")):
    put(f"global/{name}/before", getattr(layer, "weight_orig", layer.weight))
prune.global_unstructured([(first, "weight"), (second, "weight")], prune.L1Unstructured, amount=0.4)
for layer, name in ((first, "first"), (second, "second")):
    put(f"global/{name}/after", layer.weight)

for name, layer, bn, x in (
    ("conv", nn.Conv2d(2, 3, 2), nn.BatchNorm2d(3), torch.randn(2, 2, 4, 4)),
    ("plain", nn.Conv1d(2, 3, 2, bias=False), nn.BatchNorm1d(3, eps=1e-3, affine=False), torch.randn(2, 2, 4)),
    ("linear", nn.Linear(2, 3), nn.BatchNorm1d(3), torch.randn(4, 2)),
):
    for tensor in (bn.running_mean, bn.running_var, *bn.parameters()):
        tensor.data.uniform_(0.5, 2)
    layer.eval()
    bn.eval()
    fused = (nn.utils.fuse_linear_bn_eval if name == "linear" else nn.utils.fuse_conv_bn_eval)(layer, bn)
    for key, module in (("layer", layer), ("bn", bn), ("fused", fused)):
        for entry, value in module.state_dict().items():
            put(f"fuse.{name}/{key}/{entry}", value)
    put(f"fuse.{name}/x", x)
    put(f"fuse.{name}/y", fused(x))

weight, bn = torch.randn(2, 3, 2), nn.BatchNorm1d(3).eval()
bn.running_var.uniform_(0.5, 2)
w, b = nn.utils.fuse_conv_bn_weights(weight, None, torch.arange(3.0), bn.running_var, 1e-5, None, None, transpose=True)
put("fuse.transpose/weight", weight)
put("fuse.transpose/var", bn.running_var)
put("fuse.transpose/fused", w)
put("fuse.transpose/bias", b)

save_file(out, pathlib.Path(__file__).with_name("utils.safetensors"))
