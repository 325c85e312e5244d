//! The gradient of an elementwise function at infinities: the fast and the differentiable pass agree, and where the
//! function is flat the gradient is 0, whatever the incoming gradient.

use ndnn::{Real, Result, Tensor, autograd::grad_with};

/// Points and gradients for which ordinary formulas fail.
const POINTS: [f64; 26] = [
    f64::NAN,
    f64::NEG_INFINITY,
    -3e38,
    -2e19,
    -1e4,
    -100.,
    -40.,
    -8.,
    -6.,
    -3.,
    -1.,
    -0.5,
    -1e-30,
    -0.,
    0.,
    1e-30,
    0.5,
    1.,
    3.,
    6.,
    8.,
    40.,
    1e4,
    2e19,
    3e38,
    f64::INFINITY,
];
const GRADIENTS: [f64; 5] = [1., f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1e30];

/// The gradient of `f` at `x`, in the fast or in the differentiable pass.
pub fn slope<T: Real>(f: &dyn Fn(&Tensor<T>) -> Result<Tensor<T>>, x: f64, g: f64, create_graph: bool) -> f64 {
    let x = Tensor::from_vec([1], vec![T::of(x)]).unwrap().set_requires_grad(true);
    let y = f(&x).unwrap();
    let g = Tensor::full(y.shape(), T::of(g));
    let grads = grad_with(&[&y], &[Some(&g)], &[&x], create_graph).unwrap();
    grads[0].as_ref().unwrap().to_vec()[0].as_f64()
}

/// Both passes agree at every point, to `tolerance` relative to the slope or to 1, and the gradient is 0 where `flat`
/// says so.
pub fn check<T: Real>(
    name: &str,
    f: &dyn Fn(&Tensor<T>) -> Result<Tensor<T>>,
    flat: &dyn Fn(f64) -> bool,
    tolerance: f64,
) {
    for x in POINTS {
        for g in GRADIENTS {
            let [fast, slow] = [false, true].map(|create_graph| slope(f, x, g, create_graph));
            let near = (fast - slow).abs() <= tolerance * g.abs().max(fast.abs());
            let same = fast == slow || fast.is_nan() && slow.is_nan() || g.is_finite() && near;
            assert!(same, "{name} at {x}, gradient {g}: {fast} in the fast pass, {slow} in the other");
            assert!(!flat(x) || fast == 0., "{name} at {x}, gradient {g}: {fast}, expected 0");
        }
    }
}
