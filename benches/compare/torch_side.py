"""PyTorch's side of the comparison: `torch_side.py WORKLOAD FILE SECONDS`, the threads in OMP_NUM_THREADS.

`torch_side.py --make FOLDER WORKLOAD…` writes each workload's weights and data, WORKLOAD.safetensors, for both sides.
It does, measures and prints the same as main.rs; see there.
"""

import json
import os
import sys
import time

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

# The inputs of a function after x.
INPUTS = ("weight", "bias", "conv1", "scale1", "shift1", "conv2", "scale2", "shift2")
CHECKED = 20  # steps whose losses are compared
CHUNK = 64  # samples whose scores are held at a time


def network(name):
    if name == "B":
        return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
    if name == "adam":
        return nn.Sequential(nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1024))
    if name == "D":
        return nn.Sequential(
            nn.Linear(1024, 4096), nn.GELU(), nn.Linear(4096, 4096), nn.GELU(), nn.Linear(4096, 1024)
        )
    return nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))


def training(data, name, loss_function, make_optimizer):
    x, target, model = data.pop("x"), data.pop("target"), network(name)
    model.load_state_dict(data)
    optimizer = make_optimizer(model.parameters())

    def step(_):
        optimizer.zero_grad()
        loss = loss_function(model(x), target)
        loss.backward()
        optimizer.step()
        return [loss]

    return step


def adam_step(data, name):
    x, target, model = data.pop("x"), data.pop("target"), network(name)
    model.load_state_dict(data)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    F.mse_loss(model(x), target).backward()

    def step(_):
        optimizer.step()
        return [model[0].weight[0, 0].detach().clone()]

    return step


def inference(data, name):
    x, model = data.pop("x"), network(name)
    model.load_state_dict(data)
    model.eval()

    def step(_):
        with torch.no_grad():
            return [model(x)]

    return step


def basic_block(x, *weights):
    """ResNet-18's: two convolutions, each with batch norm, and the input added."""
    conv1, scale1, shift1, conv2, scale2, shift2 = weights
    norm = lambda x, scale, shift: F.batch_norm(x, None, None, scale, shift, training=True)
    y = F.relu(norm(F.conv2d(x, conv1, padding=1), scale1, shift1))
    return F.relu(norm(F.conv2d(y, conv2, padding=1), scale2, shift2) + x)


def row_work(data, name):
    """(prepare, step) of one function's forward or backward pass."""
    function, direction = name.split("-")
    x, target = data["x"].requires_grad_(), data.get("target")
    inputs = [x] + [data[n].requires_grad_() for n in INPUTS if n in data]
    call = {
        "softmax": lambda: F.softmax(x, 1),
        "layer_norm": lambda: F.layer_norm(x, x.shape[1:], *inputs[1:]),
        "group_norm": lambda: F.group_norm(x, 32, *inputs[1:]),
        "embedding": lambda: F.embedding(target, x),
        "embedding_bag": lambda: F.embedding_bag(target, x),
        "gelu": lambda: F.gelu(x),
        "tanh": lambda: torch.tanh(x),
        "cross_entropy": lambda: F.cross_entropy(x, target),
        "chunk": lambda: x.narrow(2, 384, 384).contiguous(),
        "reshape": lambda: x.transpose(0, 1).reshape(128, 2048),
        "t": lambda: x.t().contiguous(),
        "heads": lambda: x.transpose(1, 2).contiguous(),
        "pad": lambda: F.pad(x, (1, 1)),
        "pad_reflect": lambda: F.pad(x, (0, 0, 1, 1), "reflect"),
        "conv_column": lambda: F.conv2d(*inputs),
        "max_pool1d": lambda: F.max_pool1d(x, 2),
        "max_pool2d": lambda: F.max_pool2d(x, 2),
        "avg_pool2d": lambda: F.avg_pool2d(x, 2),
        "adaptive_avg_pool2d": lambda: F.adaptive_avg_pool2d(x, 7),
        "bilinear": lambda: F.interpolate(x, scale_factor=2.0, mode="bilinear"),
        "bilinear_down": lambda: F.interpolate(x, scale_factor=0.75, mode="bilinear"),
        "conv_transpose2d": lambda: F.conv_transpose2d(*inputs, stride=2, padding=1),
        "basic_block": lambda: basic_block(*inputs),
    }[function]
    if direction == "forward":
        return None, lambda _: [call()]
    # A backward pass frees its graph, so each one gets a new graph.
    return call, lambda y: torch.autograd.grad(y, inputs, data["grad"])


def loss_work(data, name):
    """A loss and the gradients of its inputs."""
    x, target = data["x"].requires_grad_(), data["target"]
    inputs = [x] + [data[n].requires_grad_() for n in ("weight",) if n in data]
    lengths = [torch.full((x.shape[1],), n) for n in (x.shape[0], target.shape[-1])]
    options = nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK) if name == "Lchunks" else None

    def step(_):
        if name == "N":
            loss = F.ctc_loss(x.log_softmax(2), target, *lengths)
        else:
            loss = F.linear_cross_entropy(*inputs, target, options=options)
        torch.autograd.grad(loss, inputs)
        return [loss]

    return step


def recurrent_work(data, name):
    """A recurrent layer from 64 to 128: the gradients of its parameters, or, if there is a state, inference."""
    x, weight = data.pop("x"), data.pop("weight", None)
    state = (data.pop("h"), data.pop("c")) if "h" in data else None
    layer = nn.GRU(64, 128) if name == "Fgru" else nn.LSTM(64, 128)
    layer.load_state_dict(data)

    def inference(_):
        with torch.no_grad():
            return [layer(x, state)[0]]

    def training(_):
        loss = (layer(x)[0] * weight).mean()
        return torch.autograd.grad(loss, list(layer.parameters()))

    return inference if state else training


def attention_work(data, name):
    """The result and the gradients of the inputs and weights: of a layer of a transformer, or of attention alone."""
    grad = data.pop("grad")
    inputs = [data.pop(n).requires_grad_() for n in ("x", "key", "value") if n in data]
    if name == "G":
        layer = encoder_layer()
        layer.load_state_dict(data)
        inputs += layer.parameters()
        call = lambda: layer(inputs[0])
    else:
        call = lambda: F.scaled_dot_product_attention(*inputs, is_causal=True)

    def step(_):
        y = call()
        return [y, *torch.autograd.grad(y, inputs, grad)]

    return step


def encoder_layer():
    return nn.TransformerEncoderLayer(256, 8, 1024, dropout=0.0)


def work(name, data):
    if name in ("F", "Fgru", "F1", "F1000"):
        return None, recurrent_work(data, name)
    if name in ("N", "L", "Lchunks"):
        return None, loss_work(data, name)
    if name in ("G", "G2"):
        return None, attention_work(data, name)
    if name == "A":
        return None, training(data, name, F.cross_entropy, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9))
    if name == "Aadam":
        return None, training(data, name, F.cross_entropy, lambda p: torch.optim.Adam(p, lr=1e-3))
    if name == "adam":
        return None, adam_step(data, name)
    if name == "B":
        return None, training(data, name, F.mse_loss, lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.9))
    if name == "D":
        return None, training(data, name, F.mse_loss, lambda p: torch.optim.SGD(p, lr=1.0))
    if name in ("C1", "C1024"):
        return None, inference(data, name)
    return row_work(data, name)


def measure(prepare, step, seconds, least):
    """The nanoseconds of each step, and the last result. A result replaces the one before it, as in any loop."""
    times, result, prepared, end = [], None, None, time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        if prepare:
            prepared = prepare()
        start = time.perf_counter_ns()
        result = step(prepared)
        times.append(time.perf_counter_ns() - start)
        prepared = None
    return times, result


def sums(tensor):
    """Equal of equal tensors: the sum of magnitudes, the sum as its share, elements against the mean magnitude."""
    flat = tensor.detach().flatten().double()
    magnitude = flat.abs().sum().item()
    elements = [flat[i].item() / (magnitude / flat.numel()) for i in (0, flat.numel() // 2, flat.numel() - 1)]
    return [magnitude, flat.sum().item() / magnitude, *elements]


def memory(field):
    """MiB of this process: VmRSS is now, VmHWM the most since the last reset."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024


def main(name, file, seconds):
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    prepare, step = work(name, {k: v.clone() for k, v in load_file(file).items()})
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = memory("VmRSS")
    values = []
    for _ in range(CHECKED):
        result = step(prepare() if prepare else None)
        if result[0].numel() == 1:
            values.append(result[0].item())
    measure(prepare, step, seconds / 5, 1)
    times, result = measure(prepare, step, seconds, 10)
    peak = memory("VmHWM")
    if not values:
        values = [value for tensor in result for value in sums(tensor)]
    times.sort()
    quantile = lambda q: times[int((len(times) - 1) * q)] / 1e3
    print(json.dumps({
        "values": values, "steps": len(times), "mean": sum(times) / len(times) / 1e3,
        "median": quantile(0.5), "p10": quantile(0.1), "p90": quantile(0.9), "before": before, "peak": peak,
    }))  # fmt: skip


def twice(distinct, *answers):
    """Every input stands in the batch twice with different answers: learning by heart cannot bring the loss to 0, where
    gradients become subnormal numbers, which cost more."""
    return {"x": torch.cat([distinct, distinct]), "target": torch.cat(answers)}


# The shapes of the inputs of these workloads; the others have (4096, 512).
SHAPES = {
    "group_norm": (16, 64, 56, 56),
    "embedding": (50000, 64),
    "embedding_bag": (50000, 64),
    "gelu": (2048, 2048),
    "tanh": (2048, 2048),
    "cross_entropy": (1024, 10000),
    "chunk": (8, 3, 1152),
    "reshape": (64, 128, 32),
    "t": (256, 256),
    "heads": (64, 16, 4, 16),
    "pad": (64, 64, 64, 1),
    "pad_reflect": (64, 64, 64, 1),
    "conv_column": (4, 128, 256, 1),
    "max_pool1d": (4, 128, 256),
    "max_pool2d": (16, 32, 64, 64),
    "avg_pool2d": (16, 32, 64, 64),
    "adaptive_avg_pool2d": (16, 64, 30, 30),
    "bilinear": (8, 32, 56, 56),
    "bilinear_down": (8, 32, 112, 112),
    "conv_transpose2d": (16, 64, 28, 28),
    "basic_block": (8, 64, 56, 56),
}


def make(name):
    torch.manual_seed(0)
    if name in ("A", "Aadam"):
        data = twice(torch.randn(32, 784), torch.arange(32) % 10, (torch.arange(32) + 3) % 10)
    elif name == "B":
        data = twice(torch.randn(16, 2), torch.randn(16, 1), torch.randn(16, 1))
    elif name == "adam":
        data = {"x": torch.randn(32, 1024), "target": torch.randn(32, 1024)}
    elif name == "D":
        data = twice(torch.randn(64, 1024), torch.randn(64, 1024), torch.randn(64, 1024))
    elif name == "N":
        return {"x": torch.randn(50, 32, 20), "target": torch.randint(1, 20, (32, 15))}
    elif name in ("F", "Fgru"):
        layer = nn.GRU(64, 128) if name == "Fgru" else nn.LSTM(64, 128)
        return {"x": torch.randn(50, 32, 64), "weight": torch.randn(50, 32, 128)} | layer.state_dict()
    elif name in ("F1", "F1000"):
        state = {"h": torch.randn(1, 1, 128), "c": torch.randn(1, 1, 128)}
        return {"x": torch.randn(1000 if name == "F1000" else 1, 1, 64)} | state | nn.LSTM(64, 128).state_dict()
    elif name in ("L", "Lchunks"):
        target = torch.randint(8192, (1024,))
        return {"x": torch.randn(1024, 128), "weight": torch.randn(8192, 128) / 11, "target": target}
    elif name == "G":
        x, grad = torch.randn(2, 128, 8, 256)
        return {"x": x, "grad": grad} | encoder_layer().state_dict()
    elif name == "G2":
        return dict(zip(("x", "key", "value", "grad"), torch.randn(4, 1, 8, 2048, 64).unbind()))
    elif name in ("C1", "C1024"):
        data = {"x": torch.randn(int(name[1:]), 784)}
    else:
        data = {"x": torch.randn(SHAPES.get(name, (4096, 512))) * 2}
        if name.startswith("layer_norm"):
            data |= {"weight": torch.rand(512) + 0.5, "bias": torch.randn(512)}
        if name == "group_norm":
            data |= {"weight": torch.rand(64) + 0.5, "bias": torch.randn(64)}
        if name.startswith("embedding"):
            data |= {"target": torch.randint(50000, (4096, 20))}
        if name.startswith("cross_entropy"):
            data |= {"target": torch.randint(10000, (1024,))}
        if name == "conv_column":
            data |= {"weight": torch.randn(16, 128, 64, 1) / 90, "bias": torch.randn(16)}
        if name == "conv_transpose2d":
            data |= {"weight": torch.randn(64, 32, 4, 4) / 16, "bias": torch.randn(32)}
        if name == "basic_block":
            for i in "12":
                data |= {"conv" + i: torch.randn(64, 64, 3, 3) / 24, "scale" + i: torch.rand(64) + 0.5, "shift" + i: torch.randn(64)}
        prepare, step = row_work(dict(data), name + "-forward")
        data["grad"] = torch.randn_like(step(prepare)[0])
        return {key: value.detach() for key, value in data.items()}
    return data | network(name).state_dict()


if __name__ == "__main__":
    if sys.argv[1] == "--make":
        for name in sys.argv[3:]:
            save_file(make(name), os.path.join(sys.argv[2], name + ".safetensors"))
    else:
        main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
