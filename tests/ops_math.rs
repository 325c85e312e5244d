//! Elementwise operations: first and second derivatives against central differences, and PyTorch's results at the
//! edges.

#[path = "ops_math/ends.rs"]
mod ends;
mod passes;

use ndnn::{
    Result,
    autograd::{grad, grad_with},
    functional as F,
    prelude::*,
};

type T64 = Tensor<f64>;
type Function<'a> = &'a dyn Fn(&[T64]) -> Result<T64>;

/// Weights that differ from element to element, so that no error cancels.
fn weights(like: &T64) -> T64 {
    Tensor::from_vec(like.shape(), (0..like.numel()).map(|i| (1. + i as f64).cos()).collect()).unwrap()
}

fn gradients(f: Function, inputs: &[T64], create_graph: bool) -> Vec<T64> {
    let out = f(inputs).unwrap();
    let inputs: Vec<&T64> = inputs.iter().collect();
    grad_with(&[&out], &[Some(&weights(&out))], &inputs, create_graph)
        .unwrap()
        .into_iter()
        .zip(&inputs)
        .map(|(g, x)| g.unwrap_or_else(|| x.detach().zeros_like()))
        .collect()
}

/// The derivatives of `Σ f·w` with respect to every input, by central differences.
fn differences(f: Function, inputs: &[T64]) -> Vec<T64> {
    let total = |inputs: &[T64]| {
        let out = f(inputs).unwrap().detach();
        (&out * &weights(&out)).sum().item().unwrap()
    };
    (0..inputs.len())
        .map(|k| {
            let values = inputs[k].to_vec();
            let slopes = (0..values.len())
                .map(|i| {
                    let at = |step: f64| {
                        let mut moved = values.clone();
                        moved[i] += step;
                        let mut inputs = inputs.to_vec();
                        inputs[k] = Tensor::from_vec(inputs[k].shape(), moved).unwrap().set_requires_grad(true);
                        total(&inputs)
                    };
                    (8. * (at(1e-4) - at(-1e-4)) - (at(2e-4) - at(-2e-4))) / 12e-4
                })
                .collect();
            Tensor::from_vec(inputs[k].shape(), slopes).unwrap()
        })
        .collect()
}

fn close(name: &str, got: &[T64], want: &[T64]) {
    for (k, (got, want)) in got.iter().zip(want).enumerate() {
        assert_eq!(got.shape(), want.shape(), "{name}: input {k}");
        for (a, b) in got.to_vec().into_iter().zip(want.to_vec()) {
            assert!((a - b).abs() <= 1e-7 * b.abs().max(1.), "{name}, input {k}: {a} is not {b}");
        }
    }
}

fn check(name: &str, f: Function, inputs: &[T64]) {
    let inputs: Vec<T64> = inputs.iter().map(|x| x.set_requires_grad(true)).collect();
    close(name, &gradients(f, &inputs, false), &differences(f, &inputs));
    for k in 0..inputs.len() {
        let slope = |x: &[T64]| Ok(gradients(f, x, true)[k].clone());
        if slope(&inputs).unwrap().requires_grad() {
            close(&format!("{name}, twice"), &gradients(&slope, &inputs, false), &differences(&slope, &inputs));
        } else {
            let flat: Vec<T64> = inputs.iter().map(|x| x.detach().zeros_like()).collect();
            close(&format!("{name}, twice"), &flat, &differences(&slope, &inputs));
        }
    }
}

macro_rules! check_unary {
    ($($name:ident($($arg:expr),*): $values:expr;)*) => {$(
        check(stringify!($name), &|x| Ok(x[0].$name($($arg),*)), &[Tensor::from($values.to_vec())]);
    )*};
}

#[test]
fn unary_derivatives() {
    let any = [-2.3, -0.7, -0.2, 0.3, 0.8, 1.7];
    let positive = [0.2, 0.7, 1.3, 2.8];
    let unit = [-0.8, -0.3, 0.1, 0.6];
    check_unary! {
        abs(): any; sign(): any; sgn(): any; neg(): any; square(): any; exp(): any; exp2(): any; expm1(): any;
        log(): positive; log2(): positive; log10(): positive; log1p(): unit; sqrt(): positive; rsqrt(): positive;
        reciprocal(): any; sin(): any; cos(): any; tan(): unit; asin(): unit; acos(): unit; atan(): any; sinh(): any;
        cosh(): any; tanh(): any; asinh(): any; acosh(): [1.3, 2.1, 4.]; atanh(): unit; sigmoid(): any; floor(): any;
        ceil(): any; trunc(): any; round(): any; frac(): any; round_decimals(1): [0.12, 0.38]; nan_to_num(None, None, None): any;
        erf(): any; erfc(): any; ndtr(): any; erfinv(): unit; lgamma(): any; digamma(): any; polygamma(1): any; polygamma(2): any;
        logit(None): positive.map(|x| x / 3.); logit(Some(0.1)): [0.05, 0.3, 0.6, 0.95]; relu(): any;
        clamp(-1., 1.): any; clamp_min(0.1): any; clamp_max(0.1): any;
        pow_scalar(0.): any; pow_scalar(1.): any; pow_scalar(2.): any; pow_scalar(3.): any; pow_scalar(-1.): any;
        pow_scalar(-2.): any; pow_scalar(0.5): positive; pow_scalar(-0.5): positive; pow_scalar(2.3): positive;
        pow_scalar(4.): any; rpow(2.5): any; rpow(0.): positive;
    }
}

macro_rules! check_binary {
    ($($name:ident($x:expr, $y:expr);)*) => {$({
        let rows = Tensor::from_vec([2, 3], $x.to_vec()).unwrap();
        check(stringify!($name), &|x| x[0].$name(&x[1]), &[rows.clone(), Tensor::from($y.to_vec())]);
        check(stringify!($name), &|x| x[1].$name(&x[0]), &[rows.clone(), rows.t().unwrap().reshape([2, 3]).unwrap() + 0.037]);
        let column = rows.reshape([2, 3, 1]).unwrap();
        check(stringify!($name), &|x| x[0].$name(&x[1]), &[column, Tensor::scalar($y[1])]);
    })*};
}

#[test]
fn binary_derivatives() {
    let x = [0.7, 1.9, 0.4, 1.1, 2.6, 0.9];
    let signed = [0.71, -1.9, 0.4, -1.1, 2.6, 0.9];
    let y = [1.3, 0.6, 2.2];
    check_binary! {
        try_add(signed, y); try_sub(signed, y); try_mul(signed, y); try_div(signed, y); pow(x, y); atan2(signed, y);
        hypot(signed, y); copysign(signed, [1.3, -0.6, 2.2]); maximum(signed, y); minimum(signed, y); fmod(signed, y);
        remainder(signed, y); div_floor(signed, y); div_trunc(signed, y); xlogy(x, y); logaddexp(signed, y);
        logaddexp2(signed, y);
    }
}

#[test]
fn derivatives_of_three() {
    let x = Tensor::from_vec([2, 3], vec![0.7, -1.9, 0.4, -1.1, 2.6, 0.9]).unwrap();
    let (y, z) = (tensor![1.3, 0.6, 2.2; f64], tensor![[0.3], [0.8]; f64]);
    check("addcmul", &|t| t[0].addcmul(&t[1], &t[2], 0.7), &[y.clone(), x.clone(), z.clone()]);
    check("addcdiv", &|t| t[0].addcdiv(&t[1], &t[2], 0.7), &[y.clone(), x.clone(), z.clone()]);
    check("lerp", &|t| t[0].lerp(&t[1], &t[2]), &[y.clone(), x.clone(), z.clone()]);
    check("lerp", &|t| t[0].lerp(&t[1], 0.3), &[z.clone(), x.clone()]);
    check("clamp", &|t| t[0].clamp_tensor(Some(&t[1]), Some(&t[2])), &[x.clone(), z.clone(), y.clone()]);
    check("clamp", &|t| t[0].clamp_tensor(None, Some(&t[1])), &[x.clone(), z.clone()]);
    let mask = tensor![true, false, true];
    check("where", &|t| Tensor::where_(&mask, t[0].square(), t[1].exp()), &[x.clone(), z.clone()]);
    check("masked_fill", &|t| t[0].square().masked_fill(&mask, t[1].exp()), &[z, Tensor::scalar(0.3)]);
}

/// NaN counts as equal here, and -0 as 0.
fn same(got: &T64, want: &[f64]) {
    let got = got.to_vec();
    assert_eq!(got.len(), want.len());
    let differ = got.iter().zip(want).any(|(a, b)| a != b && !(a.is_nan() && b.is_nan()));
    assert!(!differ, "{got:?} is not {want:?}");
}

fn slopes(f: impl Fn(&T64) -> T64, x: &[f64]) -> T64 {
    let x = Tensor::from(x).set_requires_grad(true);
    f(&x).sum().backward().unwrap();
    x.grad().unwrap()
}

const NAN: f64 = f64::NAN;
const INF: f64 = f64::INFINITY;

#[test]
fn edges_of_unary_operations() {
    let x: T64 = Tensor::from(vec![0., 1., -1., NAN, INF, -INF, 0.5, 2.5, -0.5]);
    same(&x.sign(), &[0., 1., -1., 0., 1., -1., 1., 1., -1.]);
    same(&x.relu(), &[0., 1., 0., NAN, INF, 0., 0.5, 2.5, 0.]);
    same(&x.round(), &[0., 1., -1., NAN, INF, -INF, 0., 2., -0.]);
    same(&x.clamp(-1., 1.), &[0., 1., -1., NAN, 1., -1., 0.5, 1., -0.5]);
    same(&x.clamp(1., -1.), &[-1., -1., -1., NAN, -1., -1., -1., -1., -1.]);
    same(&x.nan_to_num(None, None, Some(-5.)), &[0., 1., -1., 0., f64::MAX, -5., 0.5, 2.5, -0.5]);
    let v = x.to_vec();
    same(&slopes(|x| x.abs(), &v), &[0., 1., -1., 0., 1., -1., 1., 1., -1.]);
    same(&slopes(|x| x.relu(), &v), &[0., 1., 0., 1., 1., 0., 1., 1., 0.]);
    same(&slopes(|x| x.clamp(-1., 1.), &v), &[1., 0., 0., 0., 0., 0., 1., 0., 1.]);
    same(&slopes(|x| x.nan_to_num(None, None, None), &v), &[1., 1., 1., 0., 0., 0., 1., 1., 1.]);
    same(&slopes(|x| x.logit(None), &[0., 1., -1., NAN, 0.5]), &[INF, INF, NAN, NAN, 4.]);
    same(&slopes(|x| x.logit(Some(0.25)), &[0., 1., NAN, 0.5]), &[0., 0., 0., 4.]);
    same(&Tensor::from(vec![1500., 2500., 1234.]).round_decimals(-3), &[2000., 2000., 1000.]);
    same(&tensor![1.2345, 0.0005, 1e300, 1.2355; f64].round_decimals(3), &[1.234, 0., 1e300, 1.236]);
    same(&tensor![-1000., 1000., NAN; f64].sigmoid(), &[0., 1., NAN]);
}

#[test]
fn edges_of_binary_operations() {
    let pair = |f: fn(&T64, &T64) -> Result<T64>, x: &[f64], y: &[f64]| {
        let (x, y) = (Tensor::from(x).set_requires_grad(true), Tensor::from(y).set_requires_grad(true));
        let out = f(&x, &y).unwrap();
        out.sum().backward().unwrap();
        [out.detach(), x.grad().unwrap(), y.grad().unwrap()]
    };
    let expect = |got: [T64; 3], want: [&[f64]; 3]| got.iter().zip(want).for_each(|(a, b)| same(a, b));
    let (x, y) = ([0., 1., NAN, 1., INF], [0., 2., 1., NAN, INF]);
    expect(
        pair(|x, y| x.maximum(y), &x, &y),
        [&[0., 2., NAN, NAN, INF], &[0.5, 0., 1., 1., 0.5], &[0.5, 1., 1., 1., 0.5]],
    );
    expect(
        pair(|x, y| x.minimum(y), &x, &y),
        [&[0., 1., NAN, NAN, INF], &[0.5, 1., 1., 1., 0.5], &[0.5, 0., 1., 1., 0.5]],
    );
    expect(
        pair(|x, y| x.pow(y), &[0., 0., 0., 0., -1., 2.], &[0., 1., 2., -1., 2., 0.]),
        [&[1., 0., 0., INF, 1., 1.], &[0., 1., 0., -INF, -2., 0.], &[0., 0., 0., -INF, NAN, 2f64.ln()]],
    );
    expect(
        pair(|x, y| x.xlogy(y), &[0., 0., 0., 1., -1.], &[0., 1., -1., 0., 0.]),
        [&[0., 0., 0., -INF, INF], &[0., 0., 0., -INF, -INF], &[NAN, 0., 0., INF, -INF]],
    );
    expect(pair(|x, y| x.hypot(y), &[0., 3.], &[0., 4.]), [&[0., 5.], &[NAN, 0.6], &[NAN, 0.8]]);
    // At the origin both passes are finite; PyTorch's second one is NaN.
    let (y, x) = (Tensor::scalar(0f64).set_requires_grad(true), Tensor::scalar(0f64).set_requires_grad(true));
    let first = grad(&[&y.atan2(&x).unwrap()], &[&y, &x], true).unwrap();
    for first in first.into_iter().map(Option::unwrap) {
        assert_eq!(first.item().unwrap(), 0.);
        let second = grad(&[&first], &[&y, &x], true).unwrap();
        assert!(second.into_iter().flatten().all(|second| second.item().unwrap() == 0.));
    }
    expect(pair(|x, y| x.atan2(y), &[0., 0.], &[0., 1.]), [&[0., 0.], &[0., 1.], &[0., 0.]]);
    expect(
        pair(|x, y| x.logaddexp(y), &[INF, -INF, INF, NAN], &[INF, -INF, -INF, 1.]),
        [&[INF, -INF, INF, NAN], &[NAN, NAN, 1., NAN], &[NAN, NAN, 0., NAN]],
    );
    expect(
        pair(|x, y| x.div_floor(y), &[-1., 1., 1., -7., 0.3], &[INF, 0., INF, 2., 0.1]),
        [&[-1., INF, 0., -4., 2.], &[0.; 5], &[0.; 5]],
    );
    expect(pair(|x, y| x.remainder(y), &[-7., 7.], &[2., -2.]), [&[1., -1.], &[1., 1.], &[4., 4.]]);
    expect(pair(|x, y| x.fmod(y), &[-7., 7.], &[2., -2.]), [&[-1., 1.], &[1., 1.], &[3., 3.]]);
    let bounds: Vec<T64> = [[1., 1., 1., 3., 0., 5.], [1., 0., 2., 2., -1., 4.], [1., 1., 2., 2., 1., 3.]]
        .map(|v| Tensor::from(v.to_vec()).set_requires_grad(true))
        .to_vec();
    bounds[0].clamp_tensor(Some(&bounds[1]), Some(&bounds[2])).unwrap().sum().backward().unwrap();
    let got = [0, 1, 2].map(|i| bounds[i].grad().unwrap());
    expect(got, [&[1., 0.5, 0., 0., 1., 0.], &[0., 0., 1., 0., 0., 0.], &[0., 0.5, 0., 1., 0., 1.]]);
    same(&slopes(|x| x.rpow(0.), &[0., 1., -1.]), &[0., 0., -INF]);
    same(&slopes(|x| x.pow_scalar(0.), &[0., INF]), &[0., 0.]);
}

#[test]
fn integers_and_masks() {
    let x = tensor![7, -7, 0];
    assert_eq!(x.div_floor(2).unwrap(), tensor![3, -4, 0]);
    assert_eq!(x.div_trunc(-1).unwrap(), tensor![-7, 7, 0]);
    assert_eq!(x.remainder(-2).unwrap(), tensor![-1, -1, 0]);
    assert_eq!(x.fmod(tensor![2, 2, -1]).unwrap(), tensor![1, -1, 0]);
    assert!(x.div_floor(&x).unwrap_err().to_string().contains("divided by zero"));
    assert_eq!(x.clamp(-1, 3), tensor![3, -1, 0]);
    assert_eq!(x.abs().maximum(3).unwrap(), tensor![7, 7, 3]);
    let (a, b) = (x.gt(0).unwrap(), x.ne(0).unwrap());
    assert_eq!(
        (&a & &b, &a | !&b, a.clone() ^ &b),
        (a.clone(), tensor![true, false, true], tensor![false, true, false])
    );
    assert_eq!(x.logical_xor(&a).unwrap(), tensor![false, true, false]);
    assert_eq!(Tensor::where_(&a, &x, 1).unwrap(), tensor![7, 1, 1]);
    assert!(x == x.clone() && x.eq(&x).unwrap() == tensor![true, true, true]);
    assert!(x.lt(tensor![1, 2]).is_err() && x.masked_fill(&tensor![[true], [false]], 0).unwrap().shape() == [2, 3]);
    assert!(tensor![1.0].masked_fill(&tensor![true], tensor![1.0]).is_err());
}

#[test]
fn closeness() {
    let (x, y) = (tensor![INF, INF, NAN, 1.0; f64], tensor![INF, -INF, NAN, 1.000001; f64]);
    assert_eq!(x.isclose(&y, 1e-5, 1e-8, false).unwrap(), tensor![true, false, false, true]);
    assert_eq!(x.isclose(&y, 0., 0., true).unwrap(), tensor![true, false, true, false]);
    assert!(x.isclose(&y, 0., -0.4, false).is_err() && x.isclose(&y, NAN, 0., false).is_err());
    assert!(!x.allclose(&y, 1., 1., true).unwrap());
}

#[test]
fn f32_is_as_good_as_f32_can_be() {
    let x: Vec<f32> = (-400..400).map(|i| i as f32 / 80. + 0.003).collect();
    let (x, wide) = (Tensor::from(x.clone()), Tensor::from(x).cast::<f64>());
    macro_rules! compare {
        ($($name:ident),*) => {$(
            for (a, b) in x.$name().to_vec().into_iter().zip(wide.$name().to_vec()) {
                let a = f64::from(a);
                assert!(
                    (a - b).abs() <= 1e-6 * b.abs() || (a.is_nan() && b.is_nan()),
                    "{}: {a} is not {b}", stringify!($name)
                );
            }
        )*};
    }
    compare!(exp, exp2, expm1, log, log2, log10, log1p, sqrt, rsqrt, sin, tan, atan, sinh, cosh, tanh, asinh, acosh);
    compare!(atanh, sigmoid, erf, erfc, ndtr, lgamma, digamma);
}

/// Of a large order only the parity matters, of which an f32 knows nothing.
#[test]
fn polygamma_of_a_large_order_has_the_gradient_that_is_differentiated_again() {
    for order in [1 << 24, (1 << 24) + 1] {
        let x = tensor![1.0f32].set_requires_grad(true);
        let y = x.polygamma(order);
        let slopes = [true, false].map(|again| grad_with(&[&y], &[None], &[&x], again).unwrap().remove(0).unwrap());
        let want = if order % 2 == 0 { f32::INFINITY } else { f32::NEG_INFINITY };
        assert_eq!(slopes.map(|slope| slope.item().unwrap()), [want; 2]);
    }
}

#[test]
fn operators_by_value_reuse_memory_that_nothing_else_holds() {
    let address = |x: &Tensor| x.view().as_ptr();
    let y = Tensor::full([3, 4], 2.0);
    let x = Tensor::full([3, 4], 5.0);
    let at = address(&x);
    let x = x - &y;
    assert_eq!((address(&x), &x), (at, &Tensor::full([3, 4], 3.0)));

    // An operand that is referenced twice, has another shape, is transposed, or is recorded: the result is a new array,
    // and the old one is unchanged.
    let held = x.clone();
    let product = x * &y;
    assert_eq!((&held, &product), (&Tensor::full([3, 4], 3.0), &Tensor::full([3, 4], 6.0)));
    assert_eq!(tensor![1.0] + tensor![[1.0], [2.0]], tensor![[2.0], [3.0]]);
    assert_eq!(
        tensor![[1.0, 2.0], [3.0, 4.0]].t().unwrap() - tensor![[1.0, 1.0], [1.0, 1.0]],
        tensor![[0.0, 2.0], [1.0, 3.0]]
    );
    let leaf = tensor![3.0].set_requires_grad(true);
    (leaf.clone() * leaf.clone()).sum().backward().unwrap();
    assert_eq!(leaf.grad(), Some(tensor![6.0]));
    assert!(!no_grad(|| leaf.clone() / tensor![3.0]).requires_grad());
    assert_eq!(leaf, tensor![3.0]);
}
