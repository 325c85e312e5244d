//! Activations, dropout, linear layers, embeddings: each layer against its function and PyTorch's printed form, every gradient.

mod common;
#[path = "layers_activation/linear.rs"]
mod linear;
mod passes;
#[path = "layers_activation/sparse.rs"]
mod sparse;

use ndnn::{
    autograd::{gradcheck, gradgradcheck},
    functional::{self as F, GELUApproximate, PyNumber},
    prelude::*,
    random::{self, Generator, SeedableRng},
};
use serde_json::Value as Json;

type T = Tensor<f64>;

/// Values on all pieces of all functions, and on none of their kinks.
fn x() -> T {
    tensor![[-7.3, -3.2, -1.4, -0.7, -0.3, -0.05], [0.04, 0.3, 0.8, 1.6, 2.7, 7.1]; f64]
}

/// Every layer without parameters, with its function.
type Pair = (Box<dyn Forward<f64>>, Box<dyn Fn(&T) -> Result<T>>);

macro_rules! pairs {
    ($($layer:expr, |$x:ident| $function:expr;)*) => {
        vec![$((Box::new($layer) as Box<dyn Forward<f64>>, Box::new(|$x: &T| $function) as Box<dyn Fn(&T) -> Result<T>>)),*]
    };
}

fn pairs() -> Vec<Pair> {
    pairs! {
        CELU, |x| F::celu(x, 1.);
        CELU::new(2.), |x| F::celu(x, 2.);
        CELU::new(-2.), |x| F::celu(x, -2.);
        ELU, |x| Ok(F::elu(x, 1.));
        ELU.alpha(0.5), |x| Ok(F::elu(x, 0.5));
        GELU, |x| Ok(F::gelu(x, GELUApproximate::None));
        GELU.approximate("tanh"), |x| Ok(F::gelu(x, GELUApproximate::Tanh));
        GLU, |x| F::glu(x, -1);
        GLU::new(0), |x| F::glu(x, 0);
        Hardshrink, |x| Ok(F::hardshrink(x, 0.5));
        Hardshrink::new(1), |x| Ok(F::hardshrink(x, 1.));
        Hardsigmoid, |x| Ok(F::hardsigmoid(x));
        Hardswish, |x| Ok(F::hardswish(x));
        Hardtanh, |x| F::hardtanh(x, -1., 1.);
        Hardtanh::new(-2., 0.5), |x| F::hardtanh(x, -2., 0.5);
        LeakyReLU, |x| Ok(F::leaky_relu(x, 0.01));
        LeakyReLU::new(0.2), |x| Ok(F::leaky_relu(x, 0.2));
        LogSigmoid, |x| Ok(F::logsigmoid(x));
        LogSoftmax::new(1), |x| F::log_softmax(x, 1);
        Mish, |x| Ok(F::mish(x));
        ReLU, |x| Ok(F::relu(x));
        ReLU6, |x| Ok(F::relu6(x));
        SquaredReLU, |x| Ok(F::squared_relu(x));
        SELU, |x| Ok(F::selu(x));
        SiLU, |x| Ok(F::silu(x));
        Sigmoid, |x| Ok(F::sigmoid(x));
        Softmax::new(0), |x| F::softmax(x, 0);
        Softmin::new(-1), |x| F::softmin(x, -1);
        Softplus, |x| Ok(F::softplus(x, 1., 20.));
        Softplus::new(2, 3), |x| Ok(F::softplus(x, 2., 3.));
        Softshrink, |x| F::softshrink(x, 0.5);
        Softsign, |x| Ok(F::softsign(x));
        Tanh, |x| Ok(F::tanh(x));
        Tanhshrink, |x| Ok(F::tanhshrink(x));
        Threshold::new(0.5, 3.), |x| Ok(F::threshold(x, 0.5, 3.));
        RReLU::new(0.2, 0.2), |x| F::rrelu(x, 0.2, 0.2, true);
        PReLU::new().dtype::<f64>(), |x| F::prelu(x, &Tensor::full([1], 0.25));
        Flatten.start_dim(0), |x| x.flatten(0, -1);
        Unflatten::new(1, [2, -1]), |x| x.unflatten(1, [2, x.shape()[1] as isize / 2]);
        Identity, |x| Ok(x.clone());
    }
}

fn value_and_grad(x: &T, f: impl Fn(&T) -> Result<T>) -> (T, T) {
    let x = x.set_requires_grad(true);
    let y = f(&x).unwrap();
    (&y * &y.detach()).sum().backward().unwrap();
    (y.detach(), x.grad().unwrap())
}

#[test]
fn a_layer_is_its_function() {
    for (layer, function) in pairs() {
        assert_eq!(
            value_and_grad(&x(), |x| layer.forward(x)),
            value_and_grad(&x(), &function),
            "{}",
            &*layer as &dyn Module
        );
    }
}

#[test]
fn gradients_are_right_twice() {
    for (layer, function) in pairs() {
        for (x, what) in [(x(), "as it lies"), (x().t().unwrap(), "transposed")] {
            let f = |t: &[T]| function(&t[0]);
            let name = format!("{} {what}", &*layer as &dyn Module);
            gradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
            gradgradcheck(f, &[x], Default::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
    }
    let inputs = [x(), tensor![0.1, 0.2, 0.3, -0.4, 0.5, 0.6; f64]];
    gradcheck(|t| F::prelu(&t[0], &t[1]), &inputs, Default::default()).unwrap();
    gradgradcheck(|t| F::prelu(&t[0], &t[1]), &inputs, Default::default()).unwrap();
    let noisy = |t: &[T]| random::with(&mut Generator::seed_from_u64(1), || F::rrelu(&t[0], 0.1, 0.5, true));
    gradcheck(noisy, &[x()], Default::default()).unwrap();
    gradgradcheck(noisy, &[x()], Default::default()).unwrap();
}

/// PyTorch's slope at the kinks, at infinity and for NaN; the mathematical one where PyTorch has ∞ · 0.
#[test]
fn kinks() {
    let slope = |f: &dyn Fn(&T) -> T, at: f64| {
        let x = T::scalar(at).set_requires_grad(true);
        f(&x).backward().unwrap();
        x.grad().unwrap().item().unwrap()
    };
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let same = |a: f64, b: f64| a == b || (a - b).abs() < 1e-12 || (a.is_nan() && b.is_nan());
    let table: Vec<(&str, Box<dyn Fn(&T) -> T>, Vec<(f64, f64)>)> = vec![
        ("relu", Box::new(F::relu), vec![(0., 0.), (nan, 1.), (inf, 1.)]),
        ("squared_relu", Box::new(F::squared_relu), vec![(0., 0.), (1e200, 2e200), (nan, nan), (inf, inf), (-inf, 0.)]),
        ("relu6", Box::new(F::relu6), vec![(0., 0.), (6., 0.), (nan, 0.)]),
        ("hardtanh", Box::new(|x| F::hardtanh(x, -1., 1.).unwrap()), vec![(-1., 0.), (1., 0.), (nan, 0.)]),
        ("threshold", Box::new(|x| F::threshold(x, 1., 5.)), vec![(1., 0.), (nan, 1.)]),
        ("leaky_relu", Box::new(|x| F::leaky_relu(x, 0.1)), vec![(0., 0.1), (nan, 0.1), (-inf, 0.1)]),
        ("elu", Box::new(|x| F::elu(x, 2.)), vec![(0., 2.), (nan, 1.), (inf, 1.), (-inf, 0.), (800., 1.)]),
        ("celu", Box::new(|x| F::celu(x, 2.).unwrap()), vec![(0., 1.), (nan, 1.), (-inf, 0.)]),
        (
            "gelu",
            Box::new(|x| F::gelu(x, GELUApproximate::None)),
            vec![(0., 0.5), (nan, nan), (inf, 1.), (-inf, 0.), (50., 1.)],
        ),
        ("hardshrink", Box::new(|x| F::hardshrink(x, 0.5)), vec![(0.5, 0.), (-0.5, 0.), (nan, 0.), (inf, 1.)]),
        ("softshrink", Box::new(|x| F::softshrink(x, 0.5).unwrap()), vec![(0.5, 0.), (-0.5, 0.), (inf, 1.)]),
        ("hardsigmoid", Box::new(F::hardsigmoid), vec![(3., 0.), (-3., 0.), (nan, 0.)]),
        ("hardswish", Box::new(F::hardswish), vec![(3., 1.), (-3., 0.), (nan, 1.), (-inf, 0.), (0., 0.5)]),
        ("logsigmoid", Box::new(F::logsigmoid), vec![(inf, 0.), (-inf, 1.), (nan, nan), (0., 0.5)]),
        ("mish", Box::new(F::mish), vec![(0., 0.6), (50., 1.), (800., 1.), (-800., 0.), (inf, 1.), (-inf, 0.)]),
        ("silu", Box::new(F::silu), vec![(0., 0.5), (inf, 1.), (-inf, 0.), (-800., 0.)]),
        ("softplus", Box::new(|x| F::softplus(x, 1., 20.)), vec![(inf, 1.), (-inf, 0.), (20.1, 1.), (nan, nan)]),
        ("tanhshrink", Box::new(F::tanhshrink), vec![(0., 0.), (inf, 1.), (nan, nan)]),
    ];
    for (name, f, points) in table {
        for (at, expected) in points {
            let got = slope(&*f, at);
            assert!(same(got, expected), "{name} at {at}: {got}, expected {expected}");
            let value = f(&T::scalar(nan)).item().unwrap();
            assert!(value.is_nan(), "{name} of NaN is {value}");
        }
    }
}

#[test]
fn far_out() {
    assert_eq!(F::mish(&tensor![1000., -1000.]), tensor![1000., 0.]);
    assert_eq!(F::softplus(&tensor![1000., -1000.], 1., 1e9), tensor![1000., 0.]);
    assert_eq!(F::logsigmoid(&tensor![1000., -1000.]), tensor![0., -1000.]);
    // Second derivatives where a power overflows.
    for f in [|x: &T| F::elu(x, 1.), |x: &T| F::mish(x), |x: &T| F::softplus(x, 1., 20.)] {
        let x = tensor![800., -800.; f64].set_requires_grad(true);
        let slopes = ndnn::autograd::grad_with(&[&f(&x).sum()], &[None], &[&x], true).unwrap();
        slopes[0].as_ref().unwrap().sum().backward().unwrap();
        assert_eq!(x.grad().unwrap(), tensor![0., 0.; f64]);
    }
}

// ------------------------------------------------------------------------------------------------------------- dropout

#[test]
fn dropout_statistics() {
    let x = T::full([400, 50], 2.);
    // Not from the generator of the process, from which other tests draw at the same time.
    let y = random::with(&mut Generator::seed_from_u64(1), || {
        ndnn::manual_seed(7);
        let y = F::dropout(&x, 0.3, true).unwrap();
        ndnn::manual_seed(7);
        assert_eq!(F::dropout(&x, 0.3, true).unwrap(), y, "the same seed, another mask");
        assert_ne!(F::dropout(&x, 0.3, true).unwrap(), y, "the next draw, the same mask");
        y
    });
    let kept = y.to_vec().iter().filter(|&&v| v != 0.).count() as f64 / 20_000.;
    assert!((kept - 0.7).abs() < 0.02, "kept {kept}");
    assert!(y.to_vec().iter().all(|&v| v == 0. || (v - 2. / 0.7).abs() < 1e-12));

    // SELU's mean 0 and variance 1 are kept.
    let normal = T::randn([400, 50]);
    let z = F::alpha_dropout(&normal, 0.3, true).unwrap();
    let mean = z.mean().item().unwrap();
    let variance = (&z * &z).mean().item().unwrap() - mean * mean;
    assert!(mean.abs() < 0.05 && (variance - 1.).abs() < 0.1, "mean {mean}, variance {variance}");
}

#[test]
fn dropout_is_linear_in_its_input() {
    let x = T::randn([3, 4, 5, 2, 2]);
    type Function = fn(&T, f64, bool) -> Result<T>;
    let all: [Function; 6] = [
        F::dropout,
        |x, p, training| F::dropout1d(&x.flatten(2, -1)?, p, training),
        F::dropout2d,
        F::dropout3d,
        F::alpha_dropout,
        F::feature_alpha_dropout,
    ];
    for (i, f) in all.into_iter().enumerate() {
        let call = |x: &T, p, training| random::with(&mut Generator::seed_from_u64(3), || f(x, p, training)).unwrap();
        gradcheck(|t| Ok(call(&t[0], 0.4, true)), std::slice::from_ref(&x), Default::default()).unwrap();
        gradgradcheck(|t| Ok(call(&t[0], 0.4, true)), std::slice::from_ref(&x), Default::default()).unwrap();
        assert_eq!(call(&x, 0.4, false).to_vec(), x.to_vec());
        assert_eq!(call(&x, 0., true).to_vec(), x.to_vec());
        assert_eq!(call(&x, 1., true).to_vec(), vec![0.; x.numel()]);
        for p in [-0.1, 1.5, f64::NAN] {
            assert!(f(&x, p, true).is_err(), "function {i} took p = {p}");
        }
    }
}

#[test]
fn channels_drop_whole() {
    let whole = |y: &T, lead: usize| {
        let rows = y.reshape([lead as isize, -1]).unwrap();
        rows.view().outer_iter().all(|row| row.iter().all(|v| v == row.first().unwrap()))
    };
    ndnn::manual_seed(0);
    let cases: [(fn(&T, f64, bool) -> Result<T>, &[usize], usize); 7] = [
        (F::dropout1d, &[8, 6, 5], 48),
        (F::dropout1d, &[8, 5], 8),
        (F::dropout2d, &[8, 6, 5, 5], 48),
        (F::dropout2d, &[8, 6, 5], 48),
        (F::dropout3d, &[4, 6, 2, 3, 2], 24),
        (F::dropout3d, &[6, 2, 3, 2], 6),
        (F::feature_alpha_dropout, &[8, 6, 5], 48),
    ];
    for (f, shape, channels) in cases {
        let y = f(&T::ones(shape), 0.5, true).unwrap();
        assert!(whole(&y, channels) && y.to_vec().iter().any(|&v| v != y.to_vec()[0]), "{shape:?}");
    }
    assert!(F::dropout1d(&T::ones([3]), 0.5, false).is_err());
    assert!(F::dropout1d(&T::ones([3, 2, 2, 2]), 0.5, false).is_err());
    assert!(F::dropout2d(&T::ones([3]), 0.5, true).is_err());
    assert!(F::dropout3d(&T::scalar(1.), 0.5, true).is_err());
    assert!(F::dropout(&T::scalar(1.), 0.5, true).is_ok());
}

#[test]
fn eval_is_the_identity() {
    let mut model = sequential![Dropout::new(0.9), AlphaDropout::default(), FeatureAlphaDropout::default(), RReLU];
    let mut channels = sequential![Dropout1d::default(), Dropout2d::default()];
    let x: Tensor = Tensor::ones([4, 3, 2]);
    assert_ne!(channels.forward(&x).unwrap(), x);
    assert_ne!(model.forward(&x).unwrap(), x);
    model.eval();
    channels.eval();
    assert_eq!(channels.forward(&model.forward(&x).unwrap()).unwrap(), x);
}

#[test]
#[should_panic(expected = "dropout probability has to be between 0 and 1, but got 1.5")]
fn impossible_probability() {
    Dropout2d::new(1.5);
}

#[test]
#[should_panic(expected = "Hardtanh: min_val must be below max_val, got 1.0 and 1.0")]
fn empty_range() {
    Hardtanh::new(1., 1.);
}

#[test]
#[should_panic(expected = "CELU: expected an alpha other than 0, got 0")]
fn celu_of_0() {
    let _ = CELU.alpha(0);
}

#[test]
#[should_panic(expected = "Softshrink: expected a lambd of 0 or more, got -0.5")]
fn softshrink_apart() {
    Softshrink::new(-0.5);
}

/// Setters come in any order, so they do not refuse bounds that the next one may mend; a call does.
#[test]
fn bounds_one_after_the_other() {
    let x = tensor![1.0, 2.5, 9.0];
    assert_eq!(Hardtanh.min_val(2).max_val(5).forward(&x).unwrap(), tensor![2.0, 2.5, 5.0]);
    let error = Hardtanh.min_val(2).forward(&x).unwrap_err().to_string();
    assert!(error.contains("min_val 2 is above max_val 1"), "{error}");
    assert_eq!(RReLU.lower(1).upper(1).forward(&x).unwrap(), x);
}

#[test]
fn gumbel() {
    let logits = tensor![[0., 1., 3.], [2., 0., 0.]; f64];
    let f = |t: &[T]| random::with(&mut Generator::seed_from_u64(5), || F::gumbel_softmax(&t[0], 0.7, false, -1));
    gradcheck(f, std::slice::from_ref(&logits), Default::default()).unwrap();
    let hard = F::gumbel_softmax(&logits, 1., true, 0).unwrap();
    assert_eq!(hard.sum_dim(0isize, false).unwrap(), T::ones([3]));
    assert!(hard.to_vec().iter().all(|&v| v == 0. || v == 1.));
    // The frequencies of the samples match the probabilities.
    let many = F::gumbel_softmax(&T::zeros([10_000, 2]).try_add(&tensor![0., 3f64.ln(); f64]).unwrap(), 1., true, -1);
    let share = many.unwrap().mean_dim(0isize, false).unwrap().to_vec()[1];
    assert!((share - 0.75).abs() < 0.02, "{share}");
}

// ------------------------------------------------------------------------------------------------------- printed forms

/// A module built from the arguments of PyTorch's constructor, and its printed form; `None` if it is not of this
/// family.
fn build(target: &str, args: &[Json], kwargs: &Json) -> Option<(Box<dyn Module>, String)> {
    let get = |i: usize, name: &str| args.get(i).or_else(|| kwargs.get(name));
    let scalar = |i, name: &str, default: f64| match get(i, name) {
        Some(v) if v.is_i64() => PyNumber::from(v.as_i64().unwrap() as i32),
        Some(v) => PyNumber::from(v.as_f64().unwrap()),
        None => PyNumber::from(default),
    };
    let int = |i, name: &str, default: i64| get(i, name).map_or(default, |v| v.as_i64().unwrap()) as isize;
    let size = |i, name: &str| int(i, name, 1) as usize;
    let flag = |i, name: &str, default: bool| get(i, name).map_or(default, |v| v.as_bool().unwrap());
    let p = || scalar(0, "p", 0.5).get();
    macro_rules! made {
        ($module:expr) => {{
            let module = $module;
            let text = module.to_string();
            (Box::new(module) as Box<dyn Module>, text)
        }};
    }
    Some(match target {
        "CELU" => made!(CELU::new(scalar(0, "alpha", 1.)).inplace(flag(1, "inplace", false))),
        "ELU" => made!(ELU::new(scalar(0, "alpha", 1.)).inplace(flag(1, "inplace", false))),
        "GELU" => made!(match get(0, "approximate").and_then(Json::as_str) {
            Some("tanh") => GELU.approximate(GELUApproximate::Tanh),
            _ => GELU,
        }),
        "GLU" => made!(GLU::new(int(0, "dim", -1))),
        "Hardshrink" => made!(Hardshrink::new(scalar(0, "lambd", 0.5))),
        "Hardsigmoid" => made!(Hardsigmoid),
        "Hardswish" => made!(Hardswish),
        "Hardtanh" => made!(Hardtanh::new(scalar(0, "min_val", -1.), scalar(1, "max_val", 1.))),
        "LeakyReLU" => made!(LeakyReLU::new(scalar(0, "negative_slope", 0.01)).inplace(flag(1, "inplace", false))),
        "LogSigmoid" => made!(LogSigmoid),
        "LogSoftmax" => made!(LogSoftmax::new(int(0, "dim", -1))),
        "Mish" => made!(Mish),
        "PReLU" => made!(PReLU::new().num_parameters(size(0, "num_parameters"))),
        "RReLU" => made!(RReLU::new(scalar(0, "lower", 1. / 8.), scalar(1, "upper", 1. / 3.))),
        "ReLU" => made!(ReLU.inplace(flag(0, "inplace", false))),
        "ReLU6" => made!(ReLU6.inplace(flag(0, "inplace", false))),
        "SELU" => made!(SELU.inplace(flag(0, "inplace", false))),
        "SiLU" => made!(SiLU.inplace(flag(0, "inplace", false))),
        "Sigmoid" => made!(Sigmoid),
        "Softmax" => made!(Softmax::new(int(0, "dim", -1))),
        "Softmax2d" => made!(Softmax2d),
        "Softmin" => made!(Softmin::new(int(0, "dim", -1))),
        "Softplus" => made!(Softplus::new(scalar(0, "beta", 1.), scalar(1, "threshold", 20.))),
        "Softshrink" => made!(Softshrink::new(scalar(0, "lambd", 0.5))),
        "Softsign" => made!(Softsign),
        "Tanh" => made!(Tanh),
        "Tanhshrink" => made!(Tanhshrink),
        "Threshold" => made!(Threshold::new(scalar(0, "threshold", 0.), scalar(1, "value", 0.))),
        "AlphaDropout" => made!(AlphaDropout::new(p()).inplace(flag(1, "inplace", false))),
        "Dropout" => made!(Dropout::new(p()).inplace(flag(1, "inplace", false))),
        "Dropout1d" => made!(Dropout1d::new(p()).inplace(flag(1, "inplace", false))),
        "Dropout2d" => made!(Dropout2d::new(p()).inplace(flag(1, "inplace", false))),
        "Dropout3d" => made!(Dropout3d::new(p()).inplace(flag(1, "inplace", false))),
        "FeatureAlphaDropout" => made!(FeatureAlphaDropout::new(p()).inplace(flag(1, "inplace", false))),
        "Bilinear" => {
            let [in1, in2, out] = [size(0, "in1_features"), size(1, "in2_features"), size(2, "out_features")];
            made!(Bilinear::new(in1, in2, out).bias(flag(3, "bias", true)))
        }
        "Linear" => made!(Linear::new(size(0, "in_features"), size(1, "out_features")).bias(flag(2, "bias", true))),
        "Identity" => made!(Identity),
        "Flatten" => made!(Flatten.start_dim(int(0, "start_dim", 1)).end_dim(int(1, "end_dim", -1))),
        "Unflatten" => {
            let sizes = args[1].as_array().unwrap().iter().map(|v| v.as_i64().unwrap() as isize);
            made!(Unflatten::new(int(0, "dim", 0), sizes.collect::<Vec<_>>()))
        }
        _ => return None,
    })
}

#[test]
fn printed_and_named_as_in_pytorch() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/reference.json"));
    let reference: Json = serde_json::from_str(&text.unwrap()).unwrap();
    let mut checked = 0;
    for module in reference["modules"].as_array().unwrap() {
        let target = module["target"].as_str().unwrap();
        let Some((built, text)) = build(target, module["args"].as_array().unwrap(), &module["kwargs"]) else {
            continue;
        };
        assert_eq!(text, module["repr"].as_str().unwrap());
        assert_eq!(built.num_parameters(), module["num_parameters"].as_u64().unwrap() as usize, "{text}");
        let state = built.state_dict();
        let names: Vec<&str> = state.keys().collect();
        let expected = module["state"].as_array().unwrap();
        assert_eq!(names, expected.iter().map(|e| e[0].as_str().unwrap()).collect::<Vec<_>>(), "{text}");
        for entry in expected {
            let shape: Vec<usize> = entry[1].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
            assert_eq!(state.get(entry[0].as_str().unwrap()).unwrap().shape(), shape, "{text}");
        }
        checked += 1;
    }
    assert!(checked > 80, "only {checked} modules were checked");
    assert_eq!(ReLU.inplace(true).to_string(), "ReLU(inplace=True)");
    assert_eq!(SquaredReLU::new().to_string(), "SquaredReLU()");
    assert_eq!(ELU.inplace(true).to_string(), "ELU(alpha=1.0, inplace=True)");
    assert_eq!(Dropout::new(0.5).inplace(true).to_string(), "Dropout(p=0.5, inplace=True)");
}

#[test]
fn dtype_and_clone() {
    let model = sequential![f64; Linear::new(3, 4), ReLU, PReLU::new(), Dropout::new(0.), Softmax::new(-1)];
    assert_eq!(model.clone().forward(&x().reshape([4, 3]).unwrap()).unwrap().dtype(), ndnn::DType::F64);
    let wide = PReLU::new().num_parameters(3).init(0.5);
    assert_eq!(wide.weight.tensor().detach(), Tensor::full([3], 0.5));
}

/// Both passes at every special point; where a function is flat the gradient is 0, whatever the incoming gradient.
fn beside_infinities<R: Real>(tolerance: f64) {
    type Row<'a, R> = (&'a str, &'a dyn Fn(&Tensor<R>) -> Result<Tensor<R>>, &'a dyn Fn(f64) -> bool);
    let never = |_: f64| false;
    let rows: [Row<R>; 27] = [
        ("relu", &|x| Ok(F::relu(x)), &|x| x <= 0.),
        ("squared_relu", &|x| Ok(F::squared_relu(x)), &|x| x <= 0.),
        ("relu6", &|x| Ok(F::relu6(x)), &|x| x <= 0. || x >= 6.),
        ("hardtanh", &|x| F::hardtanh(x, -1., 1.), &|x| x.abs() >= 1.),
        ("threshold", &|x| Ok(F::threshold(x, 0.5, 7.)), &|x| x <= 0.5),
        ("hardshrink", &|x| Ok(F::hardshrink(x, 0.5)), &|x| x.abs() <= 0.5),
        ("softshrink", &|x| F::softshrink(x, 0.5), &|x| x.abs() <= 0.5),
        ("hardsigmoid", &|x| Ok(F::hardsigmoid(x)), &|x| x.abs() >= 3.),
        ("hardswish", &|x| Ok(F::hardswish(x)), &|x| x <= -3.),
        ("leaky_relu, slope 0", &|x| Ok(F::leaky_relu(x, 0.)), &|x| x <= 0.),
        ("elu, alpha 0", &|x| Ok(F::elu(x, 0.)), &|x| x <= 0.),
        ("dropout of all", &|x| F::dropout(x, 1., true), &|_| true),
        ("alpha_dropout of all", &|x| F::alpha_dropout(x, 1., true), &|_| true),
        ("leaky_relu", &|x| Ok(F::leaky_relu(x, 0.01)), &never),
        ("elu", &|x| Ok(F::elu(x, 1.)), &never),
        ("celu", &|x| F::celu(x, 2.), &never),
        ("selu", &|x| Ok(F::selu(x)), &never),
        ("silu", &|x| Ok(F::silu(x)), &never),
        ("mish", &|x| Ok(F::mish(x)), &never),
        ("gelu", &|x| Ok(F::gelu(x, GELUApproximate::None)), &never),
        ("gelu, tanh", &|x| Ok(F::gelu(x, GELUApproximate::Tanh)), &never),
        ("softplus", &|x| Ok(F::softplus(x, 1., 20.)), &never),
        ("logsigmoid", &|x| Ok(F::logsigmoid(x)), &never),
        ("softsign", &|x| Ok(F::softsign(x)), &never),
        ("tanhshrink", &|x| Ok(F::tanhshrink(x)), &never),
        ("prelu", &|x| F::prelu(x, &Tensor::full([1], R::of(0.25))), &never),
        ("rrelu", &|x| random::with(&mut Generator::seed_from_u64(1), || F::rrelu(x, 0.1, 0.5, true)), &never),
    ];
    for (name, f, flat) in rows {
        passes::check(name, f, flat, tolerance);
    }
}

#[test]
fn flat_regions_pass_nothing() {
    beside_infinities::<f32>(1e-6);
    beside_infinities::<f64>(1e-12);
    let x = tensor![-1.0, 3.0, 7.0; f64].set_requires_grad(true);
    F::relu6(&x).sqrt().sum().backward().unwrap();
    assert!(x.grad().unwrap().allclose(&tensor![0.0, 0.5 / 3f64.sqrt(), 0.0; f64], 1e-12, 0., false).unwrap());
    // The row that is padding.
    let table = tensor![[1.0], [2.0]].set_requires_grad(true);
    let found = F::embedding(&tensor![0, 1], &table, F::EmbeddingOptions::default().padding_idx(0)).unwrap();
    let g = tensor![[f32::INFINITY], [f32::INFINITY]];
    for create_graph in [true, false] {
        let got = ndnn::autograd::grad_with(&[&found], &[Some(&g)], &[&table], create_graph).unwrap();
        assert_eq!(got[0].as_ref().unwrap().detach(), tensor![[0.0], [f32::INFINITY]]);
    }
}

/// The mixed second derivative with respect to weight and input is that of `w · min(x, 0)`, which has none at 0.
#[test]
fn prelu_at_0_twice() {
    let (x, w) = (tensor![-1., 0., 1.; f64].set_requires_grad(true), tensor![0.25; f64].set_requires_grad(true));
    let dw = ndnn::autograd::grad(&[&F::prelu(&x, &w).unwrap().sum()], &[&w], true).unwrap().remove(0).unwrap();
    dw.sum().backward().unwrap();
    assert_eq!(x.grad().unwrap(), tensor![1., 0., 0.; f64]);
    let dx = ndnn::autograd::grad(&[&F::prelu(&x, &w).unwrap().sum()], &[&x], true).unwrap().remove(0).unwrap();
    assert_eq!(dx.detach(), tensor![0.25, 0.25, 1.; f64]);
    w.zero_grad();
    dx.sum().backward().unwrap();
    assert_eq!(w.grad().unwrap(), tensor![1.; f64]);
    // A weight of 0 lets nothing through, an infinite one does not reach what is above 0.
    let inf = f64::INFINITY;
    let (x, w) = (tensor![[-1., 1.], [-1., 1.]; f64].set_requires_grad(true), tensor![0., inf; f64]);
    let y = F::prelu(&x, &w).unwrap();
    for create_graph in [true, false] {
        let g = ndnn::autograd::grad_with(&[&y], &[Some(&Tensor::full([2, 2], inf))], &[&x], create_graph);
        assert_eq!(g.unwrap().remove(0).unwrap().to_vec(), [0., inf, 0., inf]);
    }
}

#[test]
fn the_ends_of_activations() {
    let inf = f64::INFINITY;
    let ends: [(&str, fn(&T) -> T, [f64; 2]); 7] = [
        ("squared_relu", F::squared_relu, [0., inf]),
        ("silu", F::silu, [0., inf]),
        ("mish", F::mish, [0., inf]),
        ("gelu", |x| F::gelu(x, GELUApproximate::None), [0., inf]),
        ("gelu, tanh", |x| F::gelu(x, GELUApproximate::Tanh), [0., inf]),
        ("hardswish", F::hardswish, [0., inf]),
        ("softsign", F::softsign, [-1., 1.]),
    ];
    for (name, f, ends) in ends {
        assert_eq!(f(&tensor![-inf, inf; f64]).to_vec(), ends, "{name}");
    }
    assert_eq!(F::hardswish(&tensor![3e38]), tensor![3e38]);
    // x³ overflows.
    let x = tensor![-3e38, -2e19, 2e19, 3e38, f32::INFINITY].set_requires_grad(true);
    F::gelu(&x, GELUApproximate::Tanh).sum().backward().unwrap();
    assert_eq!(x.grad().unwrap(), tensor![0., 0., 1., 1., 1.]);
    // Computed from the input: the output has no digits left of 1 - y.
    let x = tensor![-40., 40.; f64].set_requires_grad(true);
    let tail = (-40f64).exp();
    for (f, want) in [(F::sigmoid as fn(&T) -> T, tail), (|x| F::tanh(&(x * 0.5)), 2. * tail)] {
        for create_graph in [true, false] {
            let got = ndnn::autograd::grad(&[&f(&x).sum()], &[&x], create_graph).unwrap().remove(0).unwrap();
            assert!(got.detach().allclose(&tensor![want, want; f64], 1e-13, 0., false).unwrap(), "{got} is not {want}");
        }
    }
    let x = tensor![-100.0, 100.0];
    let tails = [F::softplus(&x, 1., 20.).to_vec()[0], -F::logsigmoid(&x).to_vec()[1]];
    assert!(tails.iter().all(|t| (t - 3.78e-44).abs() <= 2e-45), "{tails:?}");
    let far: T = F::gelu(&tensor![-6.; f64], GELUApproximate::Tanh);
    let inner = 2. * (2. / std::f64::consts::PI).sqrt() * (-6. + 0.044715 * -216.);
    assert!((far.to_vec()[0] / (-6. / (1. + (-inner).exp())) - 1.).abs() < 1e-12, "{far}");
}

#[test]
fn what_is_dropped_is_0() {
    let x = Tensor::full([100], f32::INFINITY).set_requires_grad(true);
    let y = F::dropout(&x, 0.5, true).unwrap();
    assert!(y.to_vec().iter().all(|&v| v == 0. || v == f32::INFINITY));
    let g = ndnn::autograd::grad_with(&[&y], &[Some(&x.detach())], &[&x], false).unwrap().remove(0).unwrap();
    assert_eq!(g, y.detach());
}

#[test]
fn a_shut_gate_and_a_weight_of_0_pass_nothing() {
    let slopes = |f: &dyn Fn(&Tensor, &Tensor) -> Result<Tensor>, [a, b, g]: [f32; 3], create_graph| {
        let [a, b] = [a, b].map(|v| tensor![v].set_requires_grad(true));
        let y = f(&a, &b).unwrap();
        let grads = ndnn::autograd::grad_with(&[&y], &[Some(&tensor![g])], &[&a, &b], create_graph).unwrap();
        grads.into_iter().map(|g| g.unwrap().to_vec()[0]).collect::<Vec<_>>()
    };
    let inf = f32::INFINITY;
    for create_graph in [false, true] {
        let glu = |a: &Tensor, b: &Tensor| F::glu(&Tensor::cat(&[a, b], 0)?, 0);
        assert_eq!(slopes(&glu, [1e30, 1e30, 1e30], create_graph), [1e30, 0.]);
        assert_eq!(slopes(&glu, [1e30, -1e30, 1e30], create_graph), [0., 0.]);
        assert_eq!(slopes(&glu, [2., 0., 1.], create_graph), [0.5, 0.5]);
        for g in [inf, f32::NAN] {
            assert_eq!(slopes(&|x, w| F::prelu(x, w), [-1., 0., g], create_graph)[0], 0.);
            assert_eq!(slopes(&|x, w| F::prelu(x, w), [0., 0., g], create_graph), [0., 0.]);
        }
    }
    gradgradcheck(|x| F::glu(&x[0], 1), &[x()], Default::default()).unwrap();
    // Both mixed derivatives at 0 are 0, as in PyTorch; below 0 they are 1.
    let (x, w) = (tensor![0.0, -2.0].set_requires_grad(true), tensor![0.0].set_requires_grad(true));
    let slope = ndnn::autograd::grad(&[&F::prelu(&x, &w).unwrap().sum()], &[&x], true).unwrap().remove(0).unwrap();
    assert_eq!(ndnn::autograd::grad(&[&slope.sum()], &[&w], false).unwrap().remove(0).unwrap(), tensor![1.0]);
}
