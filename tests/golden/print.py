"""Writes print.json: how PyTorch prints tensors. `python tests/golden/print.py`, with PyTorch 2.15."""

import json
import pathlib

import torch

nan, inf = float("nan"), float("inf")
cases = []


def add(name, tensor, permute=None, precision=4):
    """A tensor as its elements, or `{"arange": step}`; `permute` is applied to it before printing (so that it is not contiguous)."""
    shown = tensor if permute is None else tensor.permute(permute)
    torch.set_printoptions(precision=precision)
    data = [str(x) if isinstance(x, float) else x for x in tensor.detach().reshape(-1).tolist()]
    if len(data) > 100:
        step = float(data[1])
        if torch.equal(tensor.detach().reshape(-1), (torch.arange(len(data)) * step).to(tensor.dtype)):
            data = {"arange": step}
    cases.append(
        {
            "name": name,
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "data": data,
            "permute": permute,
            "precision": precision,
            "text": str(shown),
        }
    )


def ramp(n, step, dtype=torch.float32):
    return torch.arange(n, dtype=dtype) * step


def f32(*x):
    return torch.tensor(x, dtype=torch.float32)


def f64(*x):
    return torch.tensor(x, dtype=torch.float64)


add("negative zero among others", f32(-0.0, 0.0, 1.5))
add("negative zeros only", f32(-0.0, 0.0))
add("negative zero in whole numbers", f32(-0.0, 2.0))
add("negative zero in scientific", f32(-0.0, 1e-9))
add("rounds up to a wider number", f32(9.99999, 0.5))
add("rounds up to zero", f64(-0.00012, 0.05))
add("a tie that the conversion to double decides", f32(0.00005, 0.12345, 0.00015, 1.00005))
add("halves", f64(0.5, 1.5, 2.5, 0.03125, 0.09375))
add("limits of f32", f32(3.4028235e38, 1.1754944e-38, 1e-45))
add("limits of f64", f64(1.7976931348623157e308, 5e-324))
add("three-digit exponents of both signs", f64(-1e-100, 1e100, 1.0))
add("ratio of exactly 1000", f32(1.0, 1000.0))
add("ratio just above 1000", f32(1.0, 1001.0))
add("largest of exactly 1e8", f32(1e8))
add("just above 1e8", f64(1e8 + 1))
add("smallest of exactly 1e-4", f64(1e-4, 1e-3))
add("1e-4 in f32", f32(1e-4, 1e-3))
add("just below 1e-4", f64(0.99e-4))
add("nan only", f32(nan, nan))
add("inf and zero", f32(inf, 0.0, -inf))
add("nan and inf in columns", torch.tensor([[1.5, nan, -inf], [inf, -2.25, 0.0]]))
add("nan in scientific", f64(nan, 1e-9, -inf, 1.0))
add("inf wider than the column", f32(-inf, 1.0, 2.0))
add("large i64", torch.tensor([2**63 - 1, -(2**63), 0]))
add("i64 above 2^53", torch.tensor([[2**53 + 1], [-5]]))
add("bool matrix", torch.tensor([[True, False], [False, False]]))
add("all false", torch.zeros(3, dtype=torch.bool))
for dtype in (torch.float32, torch.float64, torch.int64, torch.bool):
    for shape in ([0], [0, 3], [3, 0], [1, 0, 2]):
        add(f"empty {dtype} {shape}", torch.zeros(shape, dtype=dtype))
    add(f"0-d {dtype}", torch.ones((), dtype=dtype))
add("0-d with grad", torch.tensor(2.5, requires_grad=True))
add("0-d f64 with grad", torch.tensor(2.5, dtype=torch.float64, requires_grad=True))
add("empty with grad", torch.zeros(0, 3, dtype=torch.float64, requires_grad=True))
add("a suffix that fits no more", torch.full((7,), 1000.5).requires_grad_())
for n in range(4, 12):
    add(f"suffixes after {n}", torch.full((n,), 1.5, dtype=torch.float64).requires_grad_())
    add(f"suffixes after a matrix of {n}", torch.full((2, n), 1.5, dtype=torch.float64).requires_grad_())
add("long row", torch.arange(60))
add("long row of floats", torch.linspace(-3, 3, 40))
add("long rows in a matrix", torch.linspace(-3, 3, 60).reshape(2, 30))
add("long rows in 3 axes", torch.linspace(0, 9, 72, dtype=torch.float64).reshape(2, 2, 18))
add("long row of bools", torch.arange(30) % 3 == 0)
add("transposed", torch.arange(6.0).reshape(2, 3), permute=[1, 0])
add("permuted", torch.arange(24).reshape(2, 3, 4), permute=[2, 0, 1])
add("permuted and summarised", torch.arange(2400).reshape(20, 30, 4), permute=[2, 1, 0])
add("5 axes", torch.arange(32.0).reshape(2, 2, 2, 2, 2))
add("6 axes of 1", torch.ones(1, 1, 1, 1, 1, 1))
add("summarised at 1001", torch.arange(1001))
add("not summarised at 1000", ramp(1000, 0.25))
add("summarised vector of f64", ramp(1500, 2**-11, torch.float64))
add("summarised 3 axes", ramp(8 * 9 * 20, 2**-10).reshape(8, 9, 20))
add("summarised with a short axis", ramp(2000, 0.125).reshape(2, 1000))
add("summarised in the middle", torch.arange(1200).reshape(3, 200, 2))
add("summarised, the wide one hidden", torch.where(torch.arange(1100) == 500, 1e30, 1.0))
add("summarised with grad", ramp(2000, 0.125).requires_grad_())
add("more axes than the line is wide", torch.full((1,) * 12 + (40,), 12345.678))
add("summarised, 7 rows", ramp(1400, 0.125).reshape(7, 200))
add("summarised, 6 rows", ramp(1200, 0.125).reshape(6, 200))
add("precision 2", f32(1.23456, 100.0), precision=2)
add("precision 0", f64(1.5, 2.5, 100.25), precision=0)
add("precision 8 in scientific", f64(1e-7, 1.0), precision=8)

out = pathlib.Path(__file__).with_suffix(".json")
out.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
