//! The operations, one row each: `name: class kind (inputs and their shapes) [arguments] ndnn's call, the reference's
//! call;`. In the arguments, the name of an input is its shape.

// Some inputs are only used for their shape, and some arguments are copied.
#![allow(unused_variables, clippy::clone_on_copy, clippy::redundant_closure_call)]

use ndnn::{
    AnyTensor, DType, Element, Index, Reduce, Result, Tensor,
    functional::{
        self as F, BatchNormOptions, ConvOptions, ConvTransposeOptions, FoldOptions, MaxPoolOptions, PadOptions,
        PaddingMode,
    },
};

use crate::{
    naive::{Array, axis, broadcast, build, count},
    program::{Given, Kind, Program, Step},
    windows::Window,
};

/// A number as an element of this tensor's type.
fn like<T: Element>(_: &Tensor<T>, value: f64) -> T {
    T::of(value)
}

fn any(result: Result<impl Into<AnyTensor>>) -> Result<AnyTensor> {
    result.map(Into::into)
}

const TYPES: [DType; 4] = [DType::F64, DType::F32, DType::I64, DType::Bool];

/// How many of [`TYPES`] a class has.
macro_rules! types {
    (real) => {
        &TYPES[..2]
    };
    (number) => {
        &TYPES[..3]
    };
    (copies) => {
        &TYPES
    };
}

/// One expression for each type of a class.
macro_rules! on {
    (real, $t:ident, [$($x:ident),+], $body:expr) => { on!(@ $t, [$($x),+], $body; F64: [$($x),+], F32: [$($x),+]) };
    (number, $t:ident, [$($x:ident),+], $body:expr) => {
        on!(@ $t, [$($x),+], $body; F64: [$($x),+], F32: [$($x),+], I64: [$($x),+])
    };
    (copies, $t:ident, [$($x:ident),+], $body:expr) => {
        on!(@ $t, [$($x),+], $body; F64: [$($x),+], F32: [$($x),+], I64: [$($x),+], Bool: [$($x),+])
    };
    (@ $t:ident, $xs:tt, $body:expr; $($type:ident: [$($x:ident),+]),+) => {
        match $t {
            $([$(AnyTensor::$type($x)),+] => any($body),)+
            _ => unreachable!("inputs of one type"),
        }
    };
}

macro_rules! rows {
    (|$g:ident| $($name:ident: $class:ident $kind:ident ($($x:ident $(: $want:expr)?),+) [$($arg:ident = $value:expr),*]
     $ours:expr, $naive:expr;)*) => {
        pub const ROWS: &[(&str, Kind, fn(&mut Program) -> Step)] = &[$((stringify!($name), Kind::$kind, |$g: &mut Program| {
            let mut inputs: Vec<usize> = Vec::new();
            $(
                let want = rows!(@ $($want)?);
                let value = match (inputs.first().map(|&i| $g.dtype_of(i)), want) {
                    (None, want) => $g.input(types!($class), want),
                    (Some(dtype), None) => $g.input(&[dtype], None),
                    (Some(dtype), Some(want)) => $g.given(dtype, want),
                };
                inputs.push(value);
                let $x = $g.shape_of(value);
            )+
            $(let $arg = $value;)*
            let text: Vec<String> = vec![stringify!($name).into() $(, format!(concat!(stringify!($arg), "={:?}"), $arg))*];
            Step {
                text: text.join(" "),
                inputs,
                exact: stringify!($class) == "copies",
                ours: Box::new({
                    $(let $arg = $arg.clone();)*
                    move |inputs: &[&AnyTensor]| on!($class, inputs, [$($x),+], $ours)
                }),
                naive: Box::new(move |inputs: &[&Array]| {
                    let &[$($x),+] = inputs else { unreachable!() };
                    $naive
                }),
            }
        })),*];
    };
    (@) => { None };
    (@ $want:expr) => { Some($want) };
}

/// An operator in one of its forms. An operand passed by value is referenced nowhere else, so that its memory is
/// reused.
macro_rules! operator {
    ($how:ident, $x:ident $op:tt $y:ident, $try:ident) => {{
        let fresh = |t| t * like(t, 1.);
        match broadcast($x.shape(), $y.shape()).map_or(0, |_| $how) {
            0 => $x.$try($y),
            1 => Ok($x $op $y),
            2 => Ok(fresh($x) $op $y),
            3 => Ok($x $op fresh($y)),
            _ => Ok(fresh($x) $op fresh($y)),
        }
    }};
}

rows! { |g|
    // ----------------------------------------------------------------------------------------------------- elementwise
    add: number Smooth (x, y: g.partner(&x)) [how = g.below(5)] operator!(how, x + y, try_add), x.zip(y, |a, b| a + b);
    sub: number Smooth (x, y: g.partner(&x)) [how = g.below(5)] operator!(how, x - y, try_sub), x.zip(y, |a, b| a - b);
    mul: number Smooth (x, y: g.partner(&x)) [how = g.below(5)] operator!(how, x * y, try_mul), x.zip(y, |a, b| a * b);
    div: real Flat (x, y: g.partner(&x)) [how = g.below(5)] operator!(how, x / y, try_div), x.zip(y, |a, b| a / b);
    quotient: real Smooth (x, y: g.partner(&x)) []
        x.try_div(&(y.square() + like(y, 0.5))), x.zip(y, |a, b| a / (b * b + 0.5));
    scaled: number Smooth (x) [by = g.between(-2, 2) as f64] Ok((x + like(x, 1.)) * like(x, by)), Some(x.map(|a| (a + 1.) * by));
    maximum: number Kinked (x, y: g.partner(&x)) [] x.maximum(y), x.zip(y, f64::max);
    minimum: number Kinked (x, y: g.partner(&x)) [] x.minimum(y), x.zip(y, f64::min);
    neg: number Smooth (x) [] Ok(-x), Some(x.map(|a| -a));
    square: number Smooth (x) [] Ok(x.square()), Some(x.map(|a| a * a));
    abs: number Kinked (x) [] Ok(x.abs()), Some(x.map(f64::abs));
    sign: number Flat (x) [] Ok(x.sign()), Some(x.map(|a| if a == 0. { 0. } else { a.signum() }));
    exp: real Smooth (x) [] Ok(x.exp()), Some(x.map(f64::exp));
    tanh: real Smooth (x) [] Ok(x.tanh()), Some(x.map(f64::tanh));
    sin: real Smooth (x) [] Ok(x.sin()), Some(x.map(f64::sin));
    sigmoid: real Smooth (x) [] Ok(x.sigmoid()), Some(x.map(|a| 1. / (1. + (-a).exp())));
    ndtr: real Smooth (x) [] Ok(x.ndtr()), Some(x.map(|a| 0.5 * libm::erfc(-a * std::f64::consts::FRAC_1_SQRT_2)));
    sqrt: real Smooth (x) [] Ok((x.square() + like(x, 0.5)).sqrt()), Some(x.map(|a| (a * a + 0.5).sqrt()));
    log: real Smooth (x) [] Ok((x.square() + like(x, 0.5)).log()), Some(x.map(|a| (a * a + 0.5).ln()));
    relu: real Kinked (x) [] Ok(F::relu(x)), Some(x.map(|a| a.max(0.)));
    silu: real Smooth (x) [] Ok(F::silu(x)), Some(x.map(|a| a / (1. + (-a).exp())));
    softplus: real Smooth (x) [] Ok(F::softplus(x, 1., 20.)), Some(x.map(|a| a.exp().ln_1p()));
    leaky_relu: real Kinked (x) [] Ok(F::leaky_relu(x, 0.1)), Some(x.map(|a| if a > 0. { a } else { 0.1 * a }));
    cube: real Smooth (x) [] Ok(x.pow_scalar(like(x, 3.))), Some(x.map(|a| a * a * a));
    hypot: real Flat (x, y: g.partner(&x)) [] x.hypot(y), x.zip(y, f64::hypot);
    fmod: real Flat (x, y: g.partner(&x)) [] x.fmod(y), x.zip(y, |a, b| a % b);
    lerp: real Smooth (x, y: x.clone(), z: g.partner(&x)) []
        x.lerp(y, z), x.zip(&y.zip(x, |b, a| b - a)?.zip(z, |d, w| d * w)?, |a, d| a + d);
    clamp_tensor: number Kinked (x, y: g.partner(&x), z: x.clone()) []
        x.clamp_tensor(Some(y), Some(z)), x.zip(y, f64::max)?.zip(z, f64::min);
    glu: real Smooth (x) [dim = g.axis(&x)] F::glu(x, dim), {
        let n = x.real_size(dim).filter(|n| n % 2 == 0)? / 2;
        x.along(dim, n, |v| (0..n).map(|i| v[i] / (1. + (-v[n + i]).exp())).collect())
    };
    clamp: number Kinked (x) [low = g.between(-3, 2) as f64, high = g.between(-2, 3) as f64]
        Ok(x.clamp(like(x, low), like(x, high))), Some(x.map(|a| a.max(low).min(high)));
    compare: copies Flat (x, y: g.partner(&x)) [op = g.below(6)]
        match op { 0 => x.eq(y), 1 => x.ne(y), 2 => x.lt(y), 3 => x.le(y), 4 => x.gt(y), _ => x.ge(y) },
        x.zip(y, |a, b| f64::from(match op { 0 => a == b, 1 => a != b, 2 => a < b, 3 => a <= b, 4 => a > b, _ => a >= b }));
    logic: copies Flat (x, y: g.partner(&x)) [op = g.below(3)]
        match op { 0 => x.logical_and(y), 1 => x.logical_or(y), _ => x.logical_xor(y) },
        x.zip(y, |a, b| f64::from(match op { 0 => a != 0. && b != 0., 1 => a != 0. || b != 0., _ => (a != 0.) != (b != 0.) }));
    where_: copies Smooth (x, y: g.partner(&x)) [mask = { let shape = g.partner(&x); g.mask(&shape) }]
        Tensor::where_(&mask.to(), x, y), Array::choose(&mask.array, x, y);
    masked_fill: copies Smooth (x) [mask = { let shape = g.partner(&x); g.mask(&shape) }, value = g.below(2) as f64]
        x.masked_fill(&mask.to(), like(x, value)),
        Array::choose(&mask.array, &Array { shape: vec![], data: vec![value] }, x);
    cast: copies Flat (x) [to = g.below(4)]
        Ok(match to {
            0 => AnyTensor::from(x.cast::<f64>()),
            1 => x.cast::<f32>().into(),
            2 => x.cast::<i64>().into(),
            _ => x.cast::<bool>().into(),
        }),
        Some(x.map(|a| match to { 0 => a, 1 => a as f32 as f64, 2 => a.trunc(), _ => f64::from(a != 0.) }));

    // ------------------------------------------------------------------------------------------------------ reductions
    sum: number Smooth (x) [dims = g.axes(&x), keep = g.percent(40)]
        x.sum_dim(dims.clone(), keep), x.reduce(&dims, keep, |v| v.iter().sum());
    mean: real Smooth (x) [dims = g.axes(&x), keep = g.percent(40)]
        x.mean_dim(dims.clone(), keep), x.reduce(&dims, keep, |v| v.iter().sum::<f64>() / v.len() as f64);
    var: real Smooth (x) [dims = g.axes(&x), keep = g.percent(40), less = g.below(2)]
        x.var_dim(dims.clone(), less as f64, keep), x.reduce(&dims, keep, |v| variance(v, less));
    logsumexp: real Smooth (x) [dims = g.axes(&x), keep = g.percent(40)]
        x.logsumexp(dims.clone(), keep), x.reduce(&dims, keep, |v| v.iter().map(|a| a.exp()).sum::<f64>().ln());
    std: real Flat (x) [dims = g.axes(&x), keep = g.percent(40)]
        x.std_dim(dims.clone(), 1., keep), x.reduce(&dims, keep, |v| variance(v, 1).sqrt());
    norm: real Flat (x) [dims = g.axes(&x), keep = g.percent(40)]
        x.norm(2., dims.clone(), keep), x.reduce(&dims, keep, |v| v.iter().map(|a| a * a).sum::<f64>().sqrt());
    amax: number Kinked (x) [dims = g.axes(&x), keep = g.percent(40)]
        x.amax(dims.clone(), keep), x.choice(&dims, keep, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    amin: number Kinked (x) [dims = g.axes(&x), keep = g.percent(40)]
        x.amin(dims.clone(), keep), x.choice(&dims, keep, |v| v.iter().copied().fold(f64::INFINITY, f64::min));
    max: number Kinked (x) [] x.max(), x.choice(&[], false, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    min: number Kinked (x) [] x.min(), x.choice(&[], false, |v| v.iter().copied().fold(f64::INFINITY, f64::min));
    max_dim: number Kinked (x) [dim = g.axis(&x), keep = g.percent(40)]
        x.max_dim(dim, keep).map(|m| m.0), x.choice(&[dim], keep, |v| v[first(v, |a, b| a > b)]);
    min_dim_places: number Flat (x) [dim = g.axis(&x), keep = g.percent(40)]
        x.min_dim(dim, keep).map(|m| m.1), x.choice(&[dim], keep, |v| first(v, |a, b| a < b) as f64);
    argmax: number Flat (x) [dim = g.axis(&x), keep = g.percent(40)]
        x.argmax(Some(dim), keep), x.choice(&[dim], keep, |v| first(v, |a, b| a > b) as f64);
    argmin_flat: number Flat (x) [keep = g.percent(40)]
        x.argmin(None, keep), x.choice(&[], keep, |v| first(v, |a, b| a < b) as f64);
    prod: real Smooth (x) [dim = g.axis(&x), keep = g.percent(40)]
        x.prod_dim(dim, keep), x.reduce(&[dim], keep, |v| v.iter().product());
    prod_all: real Smooth (x) [] Ok(x.prod()), x.reduce(&[], false, |v| v.iter().product());
    any_dim: copies Flat (x) [dim = g.axis(&x), keep = g.percent(40)]
        x.any_dim(dim, keep), x.reduce(&[dim], keep, |v| f64::from(v.iter().any(|&a| a != 0.)));
    count_nonzero: copies Flat (x) [dims = g.axes(&x)]
        x.count_nonzero(dims.clone()), x.reduce(&dims, false, |v| v.iter().filter(|&&a| a != 0.).count() as f64);

    // ------------------------------------------------------------------------------------------------- along one axis
    cumsum: number Smooth (x) [dim = g.axis(&x)] x.cumsum(dim), x.along(dim, x.size(dim)?, |v| running(v, |a, b| a + b));
    cumprod: real Smooth (x) [dim = g.axis(&x)] x.cumprod(dim), x.along(dim, x.size(dim)?, |v| running(v, |a, b| a * b));
    cummax: number Kinked (x) [dim = g.axis(&x)]
        x.cummax(dim).map(|m| m.0), x.along(dim, x.size(dim)?, |v| running(v, f64::max));
    cummin_places: number Flat (x) [dim = g.axis(&x)] x.cummin(dim).map(|m| m.1), x.along(dim, x.size(dim)?, |v| {
        (0..v.len()).map(|i| (0..=i).rfind(|&j| v[..=i].iter().all(|&a| v[j] <= a)).expect("one") as f64).collect()
    });
    logcumsumexp: real Smooth (x) [dim = g.axis(&x)]
        x.logcumsumexp(dim), x.map(f64::exp).along(dim, x.size(dim)?, |v| running(v, |a, b| a + b)).map(|y| y.map(f64::ln));
    diff: number Smooth (x) [dim = g.axis(&x)]
        x.diff(1, dim, None, None), x.along(dim, x.real_size(dim)?.saturating_sub(1), |v| v.windows(2).map(|w| w[1] - w[0]).collect());
    softmax: real Smooth (x) [dim = g.axis(&x)] x.softmax(dim), x.log_softmax(dim).map(|y| y.map(f64::exp));
    log_softmax: real Smooth (x) [dim = g.axis(&x)] x.log_softmax(dim), x.log_softmax(dim);
    sort: copies Kinked (x) [dim = g.axis(&x), falling = g.percent(50)]
        x.sort(dim, falling).map(|s| s.0), x.ordered(dim, x.size(dim)?, falling, false);
    argsort: copies Flat (x) [dim = g.axis(&x), falling = g.percent(50)]
        x.sort(dim, falling).map(|s| s.1), x.ordered(dim, x.size(dim)?, falling, true);
    topk: copies Kinked (x) [k = g.size(), dim = g.axis(&x), largest = g.percent(50)]
        x.topk(k, dim, largest).map(|t| t.0), x.ordered(dim, k, largest, false);
    topk_places: copies Flat (x) [k = g.size(), dim = g.axis(&x), largest = g.percent(50)]
        x.topk(k, dim, largest).map(|t| t.1), x.ordered(dim, k, largest, true);
    flip: copies Smooth (x) [dims = g.axes(&x)] x.flip(dims.clone()), x.flip(&dims);
    roll: copies Smooth (x) [shift = g.between(-6, 6), dim = g.axis(&x)] x.roll(shift, dim), x.roll(shift, dim);
    roll_flat: copies Smooth (x) [shift = g.between(-6, 6)]
        x.roll(shift, Vec::<isize>::new()), x.reshape(&[-1])?.roll(shift, 0)?.reshape(&x.shape.iter().map(|&n| n as isize).collect::<Vec<_>>());
    repeat_interleave: copies Smooth (x) [times = g.below(3), dim = g.axis(&x)]
        x.repeat_interleave(times, dim),
        (if x.ndim() == 0 { x.reshape(&[1])? } else { x.clone() })
            .along(dim, x.size(dim)? * times, |v| v.iter().flat_map(|&a| std::iter::repeat_n(a, times)).collect());
    pad: copies Smooth (x) [before = g.below(3), after = g.below(3), mode = g.below(4)]
        F::pad(x, [before as isize, after as isize], pad_mode(mode)), x.pad_last(before, after, MODES[mode], 1.);
    pad_all: copies Smooth (x) [pads = x.iter().map(|_| (g.between(-1, 2), g.between(-1, 2))).collect::<Vec<_>>()]
        x.constant_pad(&pads, like(x, 1.)), padded(x, &pads);

    // ------------------------------------------------------------------------------------------------------------ shapes
    reshape: copies Smooth (x) [sizes = g.resized(&x)] x.reshape(sizes.clone()), x.reshape(&sizes);
    contiguous: copies Smooth (x) [] Ok(x.contiguous()), Some(x.clone());
    permute: copies Smooth (x) [dims = g.order(&x)] x.permute(dims.clone()), x.permute(&dims);
    transpose: copies Smooth (x) [a = g.axis(&x), b = g.axis(&x)] x.transpose(a, b), x.transpose(a, b);
    expand: copies Smooth (x) [sizes = expanded(g, &x)] x.expand(sizes.clone()), x.expand(&sizes);
    squeeze: copies Smooth (x) [] Ok(x.squeeze()), x.squeeze(&(0..x.ndim() as isize).collect::<Vec<_>>());
    squeeze_dim: copies Smooth (x) [dims = g.axes(&x)] x.squeeze_dim(dims.clone()), x.squeeze(&dims);
    unsqueeze: copies Smooth (x) [dim = g.between(-(x.len() as isize) - 2, x.len() as isize + 1)] x.unsqueeze(dim), x.unsqueeze(dim);
    repeat: copies Smooth (x) [times = (0..x.len() + g.below(2)).map(|_| g.between(0, 2)).collect::<Vec<_>>()]
        x.repeat(times.clone()), x.repeat(&times);
    tile: copies Smooth (x) [times = (0..g.below(3)).map(|_| g.between(-1, 3).max(g.between(-1, 1))).collect::<Vec<_>>()]
        x.tile(times.clone()), x.tile(&times);
    flatten: copies Smooth (x) [a = g.axis(&x), b = g.axis(&x)] x.flatten(a, b), {
        let (a, b) = (axis(a, x.ndim())?, axis(b, x.ndim())?);
        let joined = if x.ndim() == 0 { 1 } else if b < a { return None } else { count(&x.shape[a..=b]) };
        let sizes = [&x.shape[..a], &[joined], x.shape.get(b + 1..).unwrap_or(&[])].concat();
        Some(Array { shape: sizes, data: x.data.clone() })
    };
    movedim: copies Smooth (x) [from = g.axis(&x), to = g.axis(&x)] x.movedim(from, to), {
        let (from, to) = (axis(from, x.ndim())?, axis(to, x.ndim())?);
        let mut order: Vec<isize> = (0..x.ndim() as isize).collect();
        if x.ndim() > 0 {
            let moved = order.remove(from);
            order.insert(to, moved);
        }
        x.permute(&order)
    };
    diag_embed: copies Smooth (x) [k = g.between(-2, 2)] x.diag_embed(k, -2, -1), {
        let (n, lead) = x.shape.split_last()?;
        let size = n + k.unsigned_abs();
        Some(build(&[lead, &[size, size]].concat(), |at| {
            let (row, column) = (at[lead.len()] as isize, at[lead.len() + 1] as isize);
            let i = row.min(column) as usize;
            if column - row == k { x.get(&[&at[..lead.len()], &[i]].concat()) } else { 0. }
        }))
    };
    tril: copies Smooth (x) [k = g.between(-3, 3)] x.tril(k), x.triangle(|above| above <= k);
    triu: copies Smooth (x) [k = g.between(-3, 3)] x.triu(k), x.triangle(|above| above >= k);
    diagonal: copies Smooth (x) [k = g.between(-3, 3), a = g.axis(&x), b = g.axis(&x)] x.diagonal(k, a, b), x.diagonal(k, a, b);

    // ------------------------------------------------------------------------------------------------- parts and joining
    narrow: copies Smooth (x) [dim = g.axis(&x), start = g.between(-4, 3), len = g.size()]
        x.narrow(dim, start, len), x.narrow(dim, start, len);
    slice: copies Smooth (x) [dim = g.axis(&x), range = (g.pick(&[None, Some(-2), Some(1), Some(2)]), g.pick(&[None, Some(-1), Some(3), Some(9)])), step = g.pick(&[0, 1, 1, 2, 2, 3])]
        x.slice(dim, range.0, range.1, step), x.slice(dim, range.0, range.1, step);
    select: copies Smooth (x) [dim = g.axis(&x), at = g.between(-3, 2)] x.select(dim, at), x.select(dim, at);
    index: copies Smooth (x) [entries = entries(g, &x)] x.index(entries.clone()), indexed(x, &entries);
    unfold: copies Smooth (x) [dim = g.axis(&x), size = g.below(4), step = g.below(3)]
        x.unfold(dim, size, step), x.unfold(dim, size, step);
    split: copies Smooth (x) [size = g.below(4), dim = g.axis(&x), k = g.below(5)]
        x.split(size, dim).map(|p| p[k % p.len()].clone()), x.split(size, dim, k);
    chunk: copies Smooth (x) [chunks = g.below(4), dim = g.axis(&x), k = g.below(5)]
        x.chunk(chunks, dim).map(|p| p[k % p.len()].clone()), x.chunk(chunks, dim, k);
    index_select: copies Smooth (x) [dim = g.axis(&x), index = { let n = g.beside(count(&x)); g.index(&[n], &x, dim) }]
        x.index_select(dim, &index.to()), x.index_select(dim, &index.array);
    gather: copies Smooth (x) [dim = g.axis(&x), index = { let s = g.smaller(&x); let s = g.resized_axis(&s, dim); g.index(&s, &x, dim) }]
        x.gather(dim, &index.to()), x.gather(dim, &index.array);
    scatter_add: number Smooth (x, y: g.shape(x.len())) [dim = g.axis(&x), index = reach(g, &x, &y, dim)]
        x.scatter_add(dim, &index.to(), y), x.scatter(dim, &index.array, y, |old, new| old + new);
    masked_select: copies Smooth (x) [mask = { let shape = g.partner(&x); g.mask(&shape) }] x.masked_select(&mask.to()), {
        let marked = x.zip(&mask.array, |a, m| if m != 0. { a } else { f64::NAN })?;
        let data: Vec<f64> = marked.data.into_iter().filter(|a| !a.is_nan()).collect();
        Some(Array { shape: vec![data.len()], data })
    };
    scatter: copies Flat (x, y: g.shape(x.len())) [dim = g.axis(&x), index = reach(g, &x, &y, dim)]
        x.scatter(dim, &index.to(), y), x.scatter(dim, &index.array, y, |_, new| new);
    scatter_amax: real Flat (x, y: g.shape(x.len())) [dim = g.axis(&x), index = reach(g, &x, &y, dim)]
        x.scatter_reduce(dim, &index.to(), y, Reduce::Amax, true), x.scatter(dim, &index.array, y, f64::max);
    index_add: number Smooth (x, y: { let dim = g.axis(&x); g.resized_axis(&x, dim) }) [dim = g.axis(&x), index = {
            let n = axis(dim, x.len()).and_then(|at| y.get(at)).map_or(1, |&n| n);
            g.index(&[n], &x, dim)
        }]
        x.index_add(dim, &index.to(), y), index_added(x, dim, &index.array, y);
    cat: copies Smooth (x, y: { let dim = g.axis(&x); g.resized_axis(&x, dim) }, z: x.clone()) [dim = g.axis(&x)]
        Tensor::cat(&[x, y, z], dim), Array::cat(&[x, y, z], dim);
    stack: copies Smooth (x, y: x.clone()) [dim = g.between(-(x.len() as isize) - 2, x.len() as isize + 1)]
        Tensor::stack(&[x, y, x], dim), Array::stack(&[x, y, x], dim);

    // ------------------------------------------------------------------------------------------------ products and windows
    matmul: number Smooth (x, y: g.factor(&x)) [] x.matmul(y), x.matmul(y);
    matmul_turned: real Smooth (x, y: vec![g.beside(count(&x)), x.last().copied().unwrap_or(1)]) [] y.t().and_then(|y| x.matmul(&y)), x.matmul(&y.transpose(0, 1).filter(|y| y.ndim() <= 2)?);
    linear: real Smooth (x, w: { let o = g.beside(count(&x)); vec![o, x.last().copied().unwrap_or(1)] }, b: w[..w.len().min(1)].to_vec()) []
        F::linear(x, w, Some(b)), x.linear(w, Some(b));
    linear_vector: real Smooth (x, w: vec![x.last().copied().unwrap_or(1)]) [] F::linear(x, w, None), x.linear(w, None);
    bmm: real Smooth (x: g.shape(3), y: { let n = g.beside(count(&x)); vec![x[0], x[2], n] }) []
        x.bmm(y), x.matmul(y).filter(|_| x.ndim() == 3 && y.ndim() == 3 && x.shape[0] == y.shape[0]);
    outer: number Smooth (x, y: vec![g.beside(count(&x))]) []
        x.outer(y), x.unsqueeze(-1)?.zip(y, |a, b| a * b).filter(|_| x.ndim() == 1 && y.ndim() == 1);
    attention: real Smooth (x: g.shape(3), k: [&x[..x.len() - 2], &[1 + g.below(3), x[x.len() - 1]]].concat(), v: k.clone()) []
        F::scaled_dot_product_attention(x, k, v, None, Default::default()), attended(x, k, v);
    embedding: real Smooth (w: g.shape(2)) [index = { let shape: Vec<usize> = (0..g.below(3)).map(|_| g.beside(count(&w))).collect(); g.index(&shape, &w, 0) }]
        F::embedding(&index.to(), w, Default::default()), {
            let rows = w.index_select(0, &index.array.reshape(&[-1])?).filter(|_| w.ndim() == 2)?;
            Some(Array { shape: [&index.array.shape[..], &w.shape[1..]].concat(), data: rows.data })
        };
    cross_entropy: real Smooth (x: vec![1 + g.below(4), 1 + g.below(4)]) [index = g.index(&x[..1], &x, 1)]
        F::cross_entropy(x, &index.to::<i64>(), Default::default()), {
            let picked = x.log_softmax(1)?.gather(1, &index.array.unsqueeze(1)?).filter(|_| x.shape[0] == index.array.shape[0] && x.ndim() == 2)?;
            picked.reduce(&[], false, |v| -v.iter().sum::<f64>() / v.len() as f64)
        };
    batch_norm: real Smooth (x: { let ndim = 2 + g.below(3); g.shape(ndim) }, w: vec![x[1]], b: vec![x[1]]) []
        F::batch_norm(x, None, None, Some(w), Some(b), BatchNormOptions::default().training(true).eps(0.1)), batch_normed(x, w, b);
    group_norm: real Smooth (x: { let ndim = 2 + g.below(3); g.shape(ndim) }, w: vec![x[1]], b: vec![x[1]]) [groups = 1 + g.below(3)]
        F::group_norm(x, groups, Some(w), Some(b), 0.1), group_normed(x, groups, w, b);
    layer_norm: real Smooth (x, w: x[g.below(x.len() + 1)..].to_vec(), b: w.clone()) []
        F::layer_norm(x, w.shape(), Some(w), Some(b), 0.1), x.layer_norm(&w.shape, w, b, 0.1);
    conv1d: real Smooth (x: images(g, 1), w: kernels(g, &x, 1), b: vec![w[0]]) [window = window(g, &x, &w, 1), mode = g.below(4)]
        F::conv1d(x, w, Some(b), ConvOptions::default().stride(window.stride[1]).padding(window.padding[1]).dilation(window.dilation[1]).groups(window.groups).padding_mode(padding_mode(mode))),
        convolved(x, w, Some(b), window, mode);
    conv2d: real Smooth (x: images(g, 2), w: kernels(g, &x, 2)) [window = window(g, &x, &w, 2)]
        F::conv2d(x, w, None, ConvOptions::default().stride(window.stride).padding(window.padding).dilation(window.dilation).groups(window.groups)),
        x.conv2d(w, None, window);
    conv_transpose2d: real Smooth (x: images(g, 2), w: { let w = kernels(g, &x, 2); [&[x[x.len().saturating_sub(3)], w[0]], &w[2..]].concat() }) [window = window(g, &x, &w, 2), groups = 1 + g.below(2)]
        F::conv_transpose2d(x, w, None, ConvTransposeOptions::default().stride(window.stride).padding(window.padding).dilation(window.dilation).groups(groups)),
        x.conv_transpose2d(w, Window { groups, ..window });
    im2col: real Smooth (x: images(g, 2)) [kernel = [1 + g.below(3), 1 + g.below(3)], window = window(g, &x, &x, 2)]
        F::unfold(x, kernel, FoldOptions::default().stride(window.stride).padding(window.padding).dilation(window.dilation)),
        x.im2col(kernel, window);
    max_pool1d: real Kinked (x: images(g, 1)) [kernel = 1 + g.below(3), window = window(g, &x, &x, 1)]
        F::max_pool1d(x, kernel, MaxPoolOptions::default().stride(window.stride[1]).padding(window.padding[1]).dilation(window.dilation[1])),
        x.lifted()?.max_pool2d([1, kernel], window)?.lowered();
    max_pool2d: real Kinked (x: images(g, 2)) [kernel = [1 + g.below(3), 1 + g.below(3)], window = window(g, &x, &x, 2)]
        F::max_pool2d(x, kernel, MaxPoolOptions::default().stride(window.stride).padding(window.padding).dilation(window.dilation)),
        x.max_pool2d(kernel, window);
    adaptive_avg_pool2d: real Smooth (x: images(g, 2)) [size = [g.below(5), g.below(5)]]
        F::adaptive_avg_pool2d(x, size), x.adaptive_pool2d(size, x.ndim().saturating_sub(2), |v| v.iter().sum::<f64>() / v.len() as f64);
    adaptive_max_pool2d: real Kinked (x: images(g, 2)) [size = [g.below(5), g.below(5)]]
        F::adaptive_max_pool2d(x, size), x.adaptive_pool2d(size, 1, |v| v.iter().copied().fold(f64::NEG_INFINITY, f64::max));
}

// -------------------------------------------------------------------------------- what some rows need on either side

/// An index that is no larger than either shape.
fn reach(g: &mut Program, shape: &[usize], source: &[usize], dim: isize) -> Given {
    let least: Vec<usize> = shape.iter().zip(source).map(|(&a, &b)| a.min(b)).collect();
    let reached = g.smaller(&least);
    g.index(&reached, shape, dim)
}

fn index_added(x: &Array, dim: isize, index: &Array, source: &Array) -> Option<Array> {
    let (at, n) = (axis(dim, x.ndim())?, x.size(dim)? as f64);
    let mut wanted = x.shape.clone();
    wanted.get_mut(at).into_iter().for_each(|n| *n = index.data.len());
    let fits = source.shape == wanted && (x.ndim() > 0 || index.data.len() == 1);
    if !fits || index.ndim() > 1 || index.data.iter().any(|&i| i < 0. || i >= n) {
        return None;
    }
    let mut out = x.clone();
    for (k, &place) in index.data.iter().enumerate() {
        let one = source.take(dim, &[k])?;
        let spread =
            out.along(dim, out.size(dim)?, |v| (0..v.len()).map(|i| f64::from(i as f64 == place)).collect())?;
        out = out.zip(&spread.zip(&one, |s, a| s * a)?, |a, b| a + b)?;
    }
    Some(out)
}

fn attended(q: &Array, k: &Array, v: &Array) -> Option<Array> {
    let root = (q.size(-1)? as f64).sqrt();
    q.map(|a| a / root).matmul(&k.transpose(-2, -1)?)?.log_softmax(-1)?.map(f64::exp).matmul(v)
}

fn batch_normed(x: &Array, w: &Array, b: &Array) -> Option<Array> {
    let channels = *x.shape.get(1)?;
    // A channel with one value has no variance, even if there are no channels; channels without values give no result.
    if x.shape[0] * count(&x.shape[2..]) == 1 || w.shape != [channels] || b.shape != [channels] {
        return None;
    }
    let dims: Vec<isize> = (0..x.ndim() as isize).filter(|&d| d != 1).collect();
    let mean = x.reduce(&dims, true, |v| v.iter().sum::<f64>() / v.len() as f64)?;
    let var = x.reduce(&dims, true, |v| variance(v, 0))?;
    let normal = x.zip(&mean, |a, m| a - m)?.zip(&var, |a, v| a / (v + 0.1).sqrt())?;
    Some(build(&x.shape, |at| normal.get(at) * w.data[at[1]] + b.data[at[1]]))
}

fn group_normed(x: &Array, groups: usize, w: &Array, b: &Array) -> Option<Array> {
    let [n, channels] = *x.shape.first_chunk()?;
    let len = count(&x.shape[2..]);
    if channels == 0 || len == 0 || channels % groups != 0 || w.shape != [channels] || b.shape != [channels] {
        return None;
    }
    let size = channels / groups * len;
    if n == 1 && size == 1 {
        return None;
    }
    let mut out = x.clone();
    for (row, part) in out.data.chunks_mut(size).enumerate() {
        let (mean, var) = (part.iter().sum::<f64>() / size as f64, variance(part, 0));
        for (i, value) in part.iter_mut().enumerate() {
            let channel = (row * size + i) / len % channels;
            *value = (*value - mean) / (var + 0.1).sqrt() * w.data[channel] + b.data[channel];
        }
    }
    Some(out)
}

fn variance(v: &[f64], less: usize) -> f64 {
    let mean = v.iter().sum::<f64>() / v.len() as f64;
    v.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / v.len().saturating_sub(less) as f64
}

/// The place of the first element that precedes all others.
fn first(v: &[f64], before: fn(f64, f64) -> bool) -> usize {
    (0..v.len()).find(|&i| !v.iter().any(|&x| before(x, v[i]))).expect("an element")
}

fn running(v: &[f64], f: fn(f64, f64) -> f64) -> Vec<f64> {
    (0..v.len()).map(|i| v[1..=i].iter().fold(v[0], |a, &b| f(a, b))).collect()
}

const MODES: [&str; 4] = ["constant", "reflect", "replicate", "circular"];

fn pad_mode(mode: usize) -> PadOptions {
    if mode == 0 { 1.0.into() } else { padding_mode(mode).into() }
}

fn padding_mode(mode: usize) -> PaddingMode {
    MODES[mode].into()
}

/// Lengthens each axis by ones, or cuts it.
fn padded(x: &Array, pads: &[(isize, isize)]) -> Option<Array> {
    let mut out = x.clone();
    for (i, &(before, after)) in pads.iter().enumerate() {
        let n = out.shape[i] as isize;
        if n + before.min(0) + after.min(0) < 0 {
            return None;
        }
        let element = |lane: &[f64], i: isize| if (0..n).contains(&i) { lane[i as usize] } else { 1. };
        let places = -before..n + after;
        out = out.along(i as isize, places.len(), |lane| places.clone().map(|i| element(lane, i)).collect())?;
    }
    Some(out)
}

/// Sizes to which the shape expands, possibly with axes in front, and -1 for axes that keep their length.
fn expanded(g: &mut Program, shape: &[usize]) -> Vec<isize> {
    let (mut sizes, mut total) = (Vec::new(), count(shape));
    let mut wider = |g: &mut Program| {
        let n = g.beside(total);
        total *= n;
        n as isize
    };
    if g.percent(50) {
        sizes.push(wider(g));
    }
    for &n in shape {
        sizes.push(match g.percent(30) {
            true => -1,
            false if n == 1 || g.percent(2) => wider(g),
            false => n as isize,
        });
    }
    sizes
}

fn entries(g: &mut Program, shape: &[usize]) -> Vec<Index> {
    let mut entries = Vec::new();
    let wanted = g.below(shape.len() + 1) + usize::from(g.percent(5));
    for _ in 0..wanted {
        entries.push(match g.below(4) {
            0 => Index::At(g.between(-2, 1)),
            1 => Index::Slice(None, Some(g.between(-1, 4)), 1 + g.below(2)),
            _ => Index::Slice(Some(g.between(-3, 2)), None, 1 + g.below(2)),
        });
    }
    if g.percent(30) {
        entries.insert(g.below(entries.len() + 1), Index::NewAxis);
    }
    if g.percent(30) {
        entries.insert(g.below(entries.len() + 1), Index::Ellipsis);
    }
    entries
}

fn indexed(x: &Array, entries: &[Index]) -> Option<Array> {
    let named = entries.iter().filter(|e| !matches!(e, Index::NewAxis | Index::Ellipsis)).count();
    let open = x.ndim().checked_sub(named)?;
    let (mut out, mut at) = (x.clone(), 0);
    for entry in entries {
        (out, at) = match *entry {
            Index::At(i) => (out.select(at, i)?, at),
            Index::Slice(start, end, step) => (out.slice(at, start, end, step)?, at + 1),
            Index::NewAxis => (out.unsqueeze(at)?, at + 1),
            _ => (out, at + open as isize),
        };
    }
    Some(out)
}

/// The shape of a stack of images over `n` axes, or of a single image.
fn images(g: &mut Program, n: usize) -> Vec<usize> {
    let large = g.mode == crate::program::Mode::Large;
    let mut shape = if g.percent(70) { vec![if g.percent(10) { 0 } else { 1 + g.below(3) }] } else { vec![] };
    shape.push(g.pick(&[1, 2, 2, 4]));
    shape.extend((0..n).map(|_| if large { 30 + g.below(40) } else { 1 + g.below(5) }));
    shape
}

/// The shape of kernels for them, in 1 or 2 groups.
fn kernels(g: &mut Program, images: &[usize], n: usize) -> Vec<usize> {
    let channels = images[images.len().saturating_sub(n + 1)];
    let groups = if channels.is_multiple_of(2) && g.percent(40) { 2 } else { 1 };
    let mut shape = vec![groups * (1 + g.below(2)), channels / groups];
    shape.extend((0..n).map(|_| 1 + g.below(3)));
    shape
}

/// Options over two axes; for one axis only the second counts.
fn window(g: &mut Program, images: &[usize], kernels: &[usize], n: usize) -> Window {
    let channels = images[images.len().saturating_sub(n + 1)];
    let mut two = |low: usize, high: usize, off: usize| {
        let pair = [low + g.below(high - low + 1), low + g.below(high - low + 1)];
        if n == 1 { [off, pair[1]] } else { pair }
    };
    let (stride, padding, dilation) = (two(1, 3, 1), two(0, 1, 0), two(1, 2, 1));
    Window { stride, padding, dilation, groups: (channels / kernels[1].max(1)).max(1) }
}

/// A convolution over one axis, with any padding.
fn convolved(x: &Array, w: &Array, b: Option<&Array>, window: Window, mode: usize) -> Option<Array> {
    let (mut x, mut window) = (x.clone(), window);
    if mode > 0 {
        x = x.pad_last(window.padding[1], window.padding[1], MODES[mode], 0.)?;
        window.padding = [0, 0];
    }
    x.lifted()?.conv2d(&w.lifted()?, b, window)?.lowered()
}
