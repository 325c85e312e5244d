//! Shapes, joining and splitting, indexing, scattering, sorting.

use ndnn::{AnyTensor, Error, Real, Reduce, Result, Tensor};

use super::{Called, list, out};
use crate::args::{Args, KW};

const TARGETS: &[&str] = &[
    "argsort",
    "broadcast_to",
    "bucketize",
    "cat",
    "chunk",
    "diag_embed",
    "diagonal",
    "expand",
    "flatten",
    "flip",
    "gather",
    "index_add",
    "index_copy",
    "index_fill",
    "index_select",
    "masked_select",
    "movedim",
    "narrow",
    "permute",
    "repeat",
    "repeat_interleave",
    "reshape",
    "roll",
    "scatter",
    "scatter_add",
    "scatter_reduce",
    "select",
    "sort",
    "split",
    "squeeze",
    "stack",
    "t",
    "take_along_dim",
    "tile",
    "topk",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    if !TARGETS.contains(&target) {
        return Ok(None);
    }
    // Tensors are values: a given one cannot be written to, so the argument does not exist.
    if a.has(KW, "out") {
        return Err(Error::value(target, "there is no `out`"));
    }
    let dim = |i| a.int_or(i, "dim", 0);
    let x = || a.tensor(0, "input|self");
    let index = |i| a.long(i, "index");
    Ok(Some(match target {
        "argsort" => {
            a.ignore(KW, "stable");
            out![x()?.argsort(a.int_or(1, "dim", -1)?, a.bool_or(2, "descending", false)?)?]
        }
        "sort" => {
            a.ignore(KW, "stable");
            let (values, indices) = x()?.sort(a.int_or(1, "dim", -1)?, a.bool_or(2, "descending", false)?)?;
            out![values, indices]
        }
        "topk" => {
            // Sorted is one of the orders that `sorted=False` allows.
            a.ignore(4, "sorted");
            let (k, dim, largest) = (a.size(1, "k")?, a.int_or(2, "dim", -1)?, a.bool_or(3, "largest", true)?);
            let (values, indices) = x()?.topk(k, dim, largest)?;
            out![values, indices]
        }
        "bucketize" => {
            a.ignore(KW, "out_int32");
            out![x()?.bucketize(&a.detached(1, "boundaries")?, a.bool_or(KW, "right", false)?)?]
        }
        "broadcast_to" | "expand" => out![x()?.expand(a.rest_ints(1, "size|shape")?)?],
        "reshape" | "view" => out![x()?.reshape(a.rest_ints(1, "shape|size")?)?],
        "cat" => out![Tensor::cat(&a.tensors(0, "tensors")?, dim(1)?)?],
        "stack" => out![Tensor::stack(&a.tensors(0, "tensors")?, dim(1)?)?],
        "chunk" => list(x()?.chunk(a.size(1, "chunks")?, dim(2)?)?),
        "split" if a.is_list(1, "split_size|split_sizes") => {
            list(x()?.split_with_sizes(a.sizes(1, "split_size|split_sizes")?, dim(2)?)?)
        }
        "split" => list(x()?.split(a.size(1, "split_size")?, dim(2)?)?),
        "unbind" => match a.any(0, "input")? {
            AnyTensor::I64(x) => list(x.unbind(dim(1)?)?),
            _ => list(x()?.unbind(dim(1)?)?),
        },
        "diag_embed" => {
            out![x()?.diag_embed(a.int_or(1, "offset", 0)?, a.int_or(2, "dim1", -2)?, a.int_or(3, "dim2", -1)?)?]
        }
        "diagonal" => {
            out![x()?.diagonal(a.int_or(1, "offset", 0)?, a.int_or(2, "dim1", 0)?, a.int_or(3, "dim2", 1)?)?]
        }
        "tril" => out![x()?.tril(a.int_or(1, "diagonal", 0)?)?],
        "triu" => out![x()?.triu(a.int_or(1, "diagonal", 0)?)?],
        "flatten" => out![x()?.flatten(a.int_or(1, "start_dim", 0)?, a.int_or(2, "end_dim", -1)?)?],
        "unflatten" => out![x()?.unflatten(a.int(1, "dim")?, a.ints(2, "sizes")?)?],
        "flip" => out![x()?.flip(a.rest_ints(1, "dims")?)?],
        "roll" => out![x()?.roll(a.ints(1, "shifts")?, a.opt_ints(2, "dims")?.unwrap_or_default())?],
        "repeat" => out![x()?.repeat(a.rest_ints(1, "repeats")?)?],
        "tile" => out![x()?.tile(a.rest_ints(1, "dims")?)?],
        "repeat_interleave" => out![repeat_interleave(a)?],
        "squeeze" if a.has(1, "dim") => out![x()?.squeeze_dim(a.ints(1, "dim")?)?],
        "squeeze" => out![x()?.squeeze()],
        "unsqueeze" => out![x()?.unsqueeze(a.int(1, "dim")?)?],
        "movedim" => out![x()?.movedim(a.ints(1, "source")?, a.ints(2, "destination")?)?],
        "permute" => out![x()?.permute(a.rest_ints(1, "dims")?)?],
        "t" => out![x()?.t()?],
        "transpose" => out![x()?.transpose(a.int(1, "dim0")?, a.int(2, "dim1")?)?],
        "narrow" => {
            let start = if a.is_tensor(2, "start") { scalar(&a.long(2, "start")?)? } else { a.int(2, "start")? };
            out![x()?.narrow(a.int(1, "dim")?, start, a.size(3, "length")?)?]
        }
        "select" => out![x()?.select(a.int(1, "dim")?, a.int(2, "index")?)?],
        "unfold" => {
            out![x()?.unfold(a.int(1, "dimension|dim")?, a.size(2, "size")?, a.size(3, "step")?)?]
        }
        "masked_select" => out![x()?.masked_select(&a.mask(1, "mask")?)?],
        "gather" => {
            a.ignore(KW, "sparse_grad");
            out![x()?.gather(a.int(1, "dim")?, &index(2)?)?]
        }
        "take_along_dim" => out![x()?.take_along_dim(&a.long(1, "indices")?, a.opt_int(2, "dim")?)?],
        "index_select" => out![x()?.index_select(a.int(1, "dim")?, &index(2)?)?],
        "index_add" => {
            let source = a.tensor(3, "source")? * T::of(a.float_or(KW, "alpha", 1.)?);
            out![x()?.index_add(a.int(1, "dim")?, &index(2)?, &source)?]
        }
        "index_copy" => out![x()?.index_copy(a.int(1, "dim")?, &index(2)?, &a.tensor(3, "source")?)?],
        "index_fill" => {
            out![x()?.index_fill(a.int(1, "dim")?, &index(2)?, &a.promoted(3, "value")?)?]
        }
        "scatter" => out![scatter(a)?],
        "scatter_add" => out![x()?.scatter_add(a.int(1, "dim")?, &index(2)?, &a.tensor(3, "src")?)?],
        "scatter_reduce" => out![scatter_reduce(a)?],
        _ => return Ok(None),
    }))
}

fn scalar(start: &Tensor<i64>) -> Result<isize> {
    if start.ndim() != 0 {
        return Err(Error::shape("narrow", format!("expected a scalar start, got {:?}", start.shape())));
    }
    Ok(start.item()? as isize)
}

fn repeat_interleave<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let (x, dim) = (a.tensor(0, "input")?, a.opt_int(2, "dim")?);
    a.ignore(KW, "output_size");
    match a.is_tensor(1, "repeats") {
        true => x.repeat_interleave_each(&a.long(1, "repeats")?, dim),
        false => x.repeat_interleave(a.size(1, "repeats")?, dim),
    }
}

fn scatter<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let (x, dim, index) = (a.tensor(0, "input")?, a.int(1, "dim")?, a.long(2, "index")?);
    if !a.is_tensor(3, "src|value") {
        return x.scatter_value(dim, &index, T::of(a.float(3, "src|value")?));
    }
    let src = a.tensor(3, "src|value")?;
    match a.str_or(KW, "reduce", "")? {
        "add" => x.scatter_add(dim, &index, &src),
        "multiply" => x.scatter_reduce(dim, &index, &src, Reduce::Prod, true),
        _ => x.scatter(dim, &index, &src),
    }
}

fn scatter_reduce<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let reduce = match a.str_or(4, "reduce", "")? {
        "sum" => Reduce::Sum,
        "prod" => Reduce::Prod,
        "mean" => Reduce::Mean,
        "amin" => Reduce::Amin,
        "amax" => Reduce::Amax,
        other => return Err(Error::value("scatter_reduce", format!("there is no reduction {other:?}"))),
    };
    let (dim, index) = (a.int(1, "dim")?, a.long(2, "index")?);
    a.tensor(0, "input")?.scatter_reduce(
        dim,
        &index,
        &a.tensor(3, "src")?,
        reduce,
        a.bool_or(KW, "include_self", true)?,
    )
}
