//! The elementary functions of `f32` against `f64`, over all exponents, with each set of vector instructions.

use ndnn::{Capability, functional as F, prelude::*, set_cpu_capability};

const ALL: [Capability; 3] = [Capability::Default, Capability::Avx2, Capability::Avx512];

/// A function, the same function in f64, and its maximum error in ulp.
type Row = (&'static str, fn(&Tensor) -> Tensor, fn(f64) -> f64, f64);

const ROWS: [Row; 7] = [
    ("exp", |x| x.exp(), f64::exp, 1.5),
    ("expm1", |x| x.expm1(), f64::exp_m1, 2.),
    ("log", |x| x.log(), f64::ln, 1.5),
    ("log1p", |x| x.log1p(), f64::ln_1p, 1.5),
    ("tanh", |x| x.tanh(), f64::tanh, 2.),
    ("sigmoid", |x| x.sigmoid(), |x| 1. / (1. + (-x).exp()), 2.),
    ("erf", |x| x.erf(), libm::erf, 2.),
];

/// The distance between neighbouring numbers at `x`.
fn ulp(x: f64) -> f64 {
    if x.abs() < f64::from(f32::MIN_POSITIVE) {
        return 2f64.powi(-149);
    }
    let exponent = (x.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    2f64.powi(exponent.min(127) - 23)
}

/// Bit patterns with all exponents and signs and mixed mantissas, and all numbers near those where the formula changes.
fn points() -> Vec<f32> {
    use std::f32::consts::{FRAC_1_SQRT_2, SQRT_2};
    const CLOSE: [f32; 16] =
        [0., 1e-8, 0.1733, 0.35, 0.5, FRAC_1_SQRT_2, 0.9, 1., SQRT_2, 2., 10., 18., 20., 88.72284, 103.97208, 3.4e38];
    const PIECES: [f32; 7] = [0.0625, 0.125, 0.375, 1.375, 3.375, 8.375, 9.25];
    let spread = (0..500_000u32).map(|i| f32::from_bits(i.wrapping_mul(8_589).wrapping_add(i)));
    let middle = (0..200_000).map(|i| (i - 100_000) as f32 * 0.000_231);
    let dense = CLOSE
        .iter()
        .chain(&PIECES)
        .flat_map(|x| (0..600).map(move |k| f32::from_bits((x.to_bits() + k).saturating_sub(300))));
    let dense: Vec<f32> = dense.collect();
    spread.chain(middle).chain(dense.iter().copied()).chain(dense.iter().map(|x| -x)).filter(|x| !x.is_nan()).collect()
}

/// One test, since the capability belongs to the process.
#[test]
fn every_function_is_within_its_bound_with_every_set_of_instructions() {
    let points = points();
    let x: Tensor = points.iter().copied().collect();
    for capability in ALL {
        set_cpu_capability(capability);
        for (name, f, exact, bound) in ROWS {
            let y = f(&x);
            let mut worst = (0., 0.);
            for (&x, &y) in points.iter().zip(y.view().iter()) {
                let want = exact(f64::from(x));
                if want.is_nan() || (want as f32).is_infinite() || y.is_infinite() {
                    // At the edge to infinity the largest number is accepted too.
                    let same = y.is_nan() == want.is_nan() && (want.is_nan() || y == want as f32);
                    assert!(
                        same || y.abs() == f32::MAX || want.abs() > 3.4028e38,
                        "{name}({x:e}) is {y:e}, not {want:e}"
                    );
                    continue;
                }
                let off = (f64::from(y) - want).abs() / ulp(want);
                if off > worst.0 {
                    worst = (off, x);
                }
            }
            assert!(worst.0 <= bound, "{capability:?}: {name} is {:.2} ulp off at {:e}", worst.0, worst.1);
        }
        special_values();
        tanh_ends_at_1(&points);
        neither_length_nor_place_changes_a_bit(&points);
        gelu_is_the_normal_distribution();
        gradients_are_those_of_the_formula();
    }
    set_cpu_capability(Capability::Avx512);
}

fn special_values() {
    const INF: f32 = f32::INFINITY;
    let x = [0., -0., INF, -INF, f32::NAN, 1., -1.];
    let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan());
    let (e, nan) = (std::f32::consts::E, f32::NAN);
    let table: [(&str, fn(&Tensor) -> Tensor, [f32; 5]); 7] = [
        ("exp", |x| x.exp(), [1., 1., INF, 0., nan]),
        ("expm1", |x| x.expm1(), [0., -0., INF, -1., nan]),
        ("log", |x| x.log(), [-INF, -INF, INF, nan, nan]),
        ("log1p", |x| x.log1p(), [0., -0., INF, nan, nan]),
        ("tanh", |x| x.tanh(), [0., -0., 1., -1., nan]),
        ("sigmoid", |x| x.sigmoid(), [0.5, 0.5, 1., 0., nan]),
        ("erf", |x| x.erf(), [0., -0., 1., -1., nan]),
    ];
    for (name, f, want) in table {
        // Long enough for the vector loop, and once for what is left over by it.
        for n in [1, 40] {
            for (x, want) in x.iter().zip(want) {
                let y = f(&Tensor::full([n], *x));
                assert!(y.view().iter().all(|&y| same(y, want)), "{name}({x}) is {y}, not {want}");
            }
        }
    }
    assert_eq!(tensor![1., 0.].exp(), tensor![e, 1.]);
    assert_eq!((tensor![1.].log(), tensor![-1.].log1p()), (tensor![0.], tensor![-INF]));
}

fn tanh_ends_at_1(points: &[f32]) {
    let tanh: Tensor = points.iter().map(|x| x.abs()).collect::<Tensor>().tanh();
    for (x, &y) in points.iter().map(|x| x.abs()).zip(tanh.view().iter()) {
        assert!((0. ..=1.).contains(&y) && (x < 10. || y == 1.), "tanh({x:e}) is {y:e}");
        assert!(x >= f32::MIN_POSITIVE || y == x, "tanh({x:e}) is {y:e}");
    }
}

/// Few elements, elements at the end of a vector, and elements that are not contiguous give the same bits as many
/// together.
fn neither_length_nor_place_changes_a_bit(points: &[f32]) {
    let points: Vec<f32> = points.iter().copied().step_by(997).collect();
    let bits = |y: &Tensor| y.view().iter().map(|y| y.to_bits()).collect::<Vec<u32>>();
    let apart: Tensor = points.iter().flat_map(|&x| [0.5, x, 2.]).collect();
    let apart = apart.reshape([-1, 3]).unwrap().select(1, 1).unwrap();
    for (name, f, _, _) in ROWS {
        let want = bits(&f(&points.iter().copied().collect()));
        assert!(bits(&f(&apart)) == want, "{name} of elements that lie apart");
        for len in 1..=33 {
            for (part, want) in points.chunks(len).zip(want.chunks(len)).take(40) {
                assert!(bits(&f(&part.iter().copied().collect())) == want, "{name} of {len} elements");
            }
        }
    }
}

fn gelu_is_the_normal_distribution() {
    let x: Tensor = (-9000..9000).map(|i| i as f32 * 0.001).collect();
    let y = F::gelu(&x, F::GELUApproximate::None);
    for (&x, &y) in x.view().iter().zip(y.view().iter()) {
        let want = f64::from(x) * 0.5 * libm::erfc(-f64::from(x) * std::f64::consts::FRAC_1_SQRT_2);
        let bound = 4e-7 * f64::from(x).abs();
        assert!((f64::from(y) - want).abs() <= bound, "gelu({x}) is {y}, not {want}");
    }
    assert_eq!(F::gelu(&tensor![-100., 100.], F::GELUApproximate::None), tensor![0., 100.]);
}

/// The single pass over numbers against the formula on tensors.
fn gradients_are_those_of_the_formula() {
    let x: Tensor = (0..1000).map(|i| (i as f32 - 499.5) * 0.02).collect();
    let functions: [fn(&Tensor) -> Tensor; 6] =
        [|x| x.tanh(), |x| x.sigmoid(), |x| x.exp(), F::silu, F::mish, |x| F::gelu(x, F::GELUApproximate::None)];
    for f in functions {
        let leaf = x.set_requires_grad(true);
        let y = f(&leaf).sum();
        let slow = ndnn::autograd::grad(&[&y], &[&leaf], true).unwrap()[0].clone().unwrap();
        let fast = ndnn::autograd::grad(&[&y], &[&leaf], false).unwrap()[0].clone().unwrap();
        assert!(fast.allclose(&slow.detach(), 1e-5, 1e-6, false).unwrap());
    }
}
