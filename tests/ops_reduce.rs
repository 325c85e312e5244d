//! Reductions, running operations, softmax and products: first and second gradients against finite differences, kernels
//! against plain loops, and PyTorch's results at the edges.

use ndnn::{
    Reduce, Result, Tensor,
    autograd::{gradcheck, gradgradcheck},
    tensor,
};

type X = Tensor<f64>;

const INF: f64 = f64::INFINITY;
const NAN: f64 = f64::NAN;

/// Values without ties or zeros.
fn values(shape: &[usize], seed: usize) -> X {
    let n = shape.iter().product();
    let value = |i: usize| 1.5 * ((i + 1) as f64 * 0.7 + seed as f64 * 1.3).sin() + 0.05 * i as f64 + 0.01;
    X::from_vec(shape, (0..n).map(value).collect()).unwrap()
}

/// The same values in column-major memory.
fn strided<T: ndnn::Element>(x: &Tensor<T>) -> Tensor<T> {
    if x.ndim() < 2 {
        return x.clone();
    }
    let back: Vec<isize> = (0..x.ndim() as isize).rev().collect();
    let turned = x.permute(back.clone()).unwrap();
    Tensor::from_vec(turned.shape(), turned.to_vec()).unwrap().permute(back).unwrap()
}

/// First and second derivatives, for row-major and for column-major inputs.
fn check(name: &str, f: impl Fn(&[X]) -> Result<X>, inputs: &[X]) {
    let turned: Vec<X> = inputs.iter().map(strided).collect();
    for (layout, inputs) in [("row-major", inputs), ("column-major", &turned)] {
        let done = gradcheck(&f, inputs, Default::default());
        done.unwrap_or_else(|e| panic!("{name}, {layout}: {e}"));
        let done = gradgradcheck(&f, inputs, Default::default());
        done.unwrap_or_else(|e| panic!("{name}, {layout}, second order: {e}"));
    }
}

#[test]
fn gradients_of_reductions() {
    for shape in [&[][..], &[4], &[3, 4], &[2, 3, 2]] {
        let x = values(shape, 1);
        check("sum", |t| Ok(t[0].sum()), std::slice::from_ref(&x));
        check("mean", |t| Ok(t[0].mean()), std::slice::from_ref(&x));
        check("prod", |t| Ok(t[0].prod()), std::slice::from_ref(&x));
        check("max", |t| t[0].max(), std::slice::from_ref(&x));
        check("logsumexp", |t| t[0].logsumexp((), false), std::slice::from_ref(&x));
        for dim in 0..shape.len().max(1) as isize {
            let x = || [x.clone()];
            check("sum_dim", |t| t[0].sum_dim(dim, true), &x());
            check("mean_dim", |t| t[0].mean_dim(dim, false), &x());
            check("prod_dim", |t| t[0].prod_dim(dim, false), &x());
            check("amax", |t| t[0].amax(dim, false), &x());
            check("amin", |t| t[0].amin(dim, true), &x());
            check("max_dim", |t| Ok(t[0].max_dim(dim, false)?.0), &x());
            check("min_dim", |t| Ok(t[0].min_dim(dim, true)?.0), &x());
            check("logsumexp", |t| t[0].logsumexp(dim, true), &x());
            check("softmax", |t| t[0].softmax(dim), &x());
            check("log_softmax", |t| t[0].log_softmax(dim), &x());
            check("cumsum", |t| t[0].cumsum(dim), &x());
            check("cumprod", |t| t[0].cumprod(dim), &x());
            check("logcumsumexp", |t| t[0].logcumsumexp(dim), &x());
            check("cummax", |t| Ok(t[0].cummax(dim)?.0), &x());
            check("cummin", |t| Ok(t[0].cummin(dim)?.0), &x());
            if !shape.is_empty() {
                check("var_dim", |t| t[0].var_dim(dim, 0.5, false), &x());
                check("std_dim", |t| t[0].std_dim(dim, 0., true), &x());
                check("diff", |t| t[0].diff(1, dim, None, None), &x());
                check("diff", |t| t[0].diff(2, dim, Some(&t[0]), Some(&t[0])), &x());
            }
            for p in [0.5, 1., 1.5, 2., 3., INF, -INF, -1., -2.5] {
                check(&format!("norm {p}"), |t| t[0].norm(p, dim, false), &x());
            }
        }
    }
    check("sum over two", |t| t[0].sum_dim([0, -1], false), &[values(&[2, 3, 2], 2)]);
    check("amax over two", |t| t[0].amax([0, -1], true), &[values(&[2, 3, 2], 2)]);
    check("var over all", |t| Ok(t[0].var() + t[0].std()), &[values(&[2, 3], 3)]);
    check("norm over all", |t| t[0].norm(2., (), true), &[values(&[2, 3], 3)]);
    check("trace", |t| t[0].trace(), &[values(&[2, 3], 3)]);
}

#[test]
fn gradients_of_products_with_zeros() {
    for x in [tensor![2., 0., 3., -1.; f64], tensor![0., 2., 0., 1.; f64], tensor![0., 0., 0.; f64]] {
        check("prod", |t| Ok(t[0].prod()), std::slice::from_ref(&x));
        check("cumprod", |t| t[0].cumprod(0), &[x]);
    }
    check("prod_dim", |t| t[0].prod_dim(1, true), &[tensor![[2., 0.], [0., 0.], [3., 4.]; f64]]);
}

#[test]
fn gradients_of_matrix_products() {
    let shapes: &[(&[usize], &[usize])] = &[
        (&[3], &[3]),
        (&[2, 3], &[3]),
        (&[3], &[3, 2]),
        (&[2, 3], &[3, 4]),
        (&[2, 2, 3], &[3]),
        (&[3], &[2, 3, 2]),
        (&[2, 2, 3], &[3, 2]),
        (&[2, 3], &[2, 3, 2]),
        (&[2, 1, 2, 3], &[3, 3, 2]),
        (&[2, 3], &[3, 1]),
        (&[1, 3], &[3, 2]),
    ];
    for &(a, b) in shapes {
        check(&format!("matmul {a:?} {b:?}"), |t| t[0].matmul(&t[1]), &[values(a, 1), values(b, 2)]);
    }
    let two = |a: &[usize], b: &[usize]| [values(a, 1), values(b, 2)];
    let three = |a: &[usize], b: &[usize], c: &[usize]| [values(c, 3), values(a, 1), values(b, 2)];
    check("bmm", |t| t[0].bmm(&t[1]), &two(&[2, 2, 3], &[2, 3, 2]));
    check("mv", |t| t[0].mv(&t[1]), &two(&[2, 3], &[3]));
    check("dot", |t| t[0].dot(&t[1]), &two(&[3], &[3]));
    check("outer", |t| t[0].outer(&t[1]), &two(&[3], &[2]));
    check("inner", |t| t[0].inner(&t[1]), &two(&[2, 3], &[2, 2, 3]));
    check("addmm", |t| t[0].addmm(&t[1], &t[2], 0.2, 0.6), &three(&[2, 3], &[3, 2], &[2]));
    check("addmv", |t| t[0].addmv(&t[1], &t[2], 0.2, 0.6), &three(&[2, 3], &[3], &[]));
    check("baddbmm", |t| t[0].baddbmm(&t[1], &t[2], 0.2, 0.6), &three(&[2, 2, 3], &[2, 3, 2], &[2, 1]));
    check("tensordot", |t| t[0].tensordot(&t[1], 2), &two(&[2, 3, 2], &[3, 2, 2]));
    check("tensordot", |t| t[0].tensordot_dims(&t[1], [0, 1], [2, 0]), &two(&[2, 3, 2], &[3, 2, 2]));
}

#[test]
fn gradients_of_einsum() {
    let equations: &[(&str, &[&[usize]])] = &[
        ("i,j->ij", &[&[3], &[2]]),
        ("ij,jk->ki", &[&[2, 3], &[3, 2]]),
        ("bij,bjk->bik", &[&[2, 2, 3], &[2, 3, 2]]),
        ("...ij,...jk", &[&[2, 1, 2, 3], &[2, 3, 2]]),
        ("...ik, ...j -> ij", &[&[2, 3], &[4]]),
        ("ii->i", &[&[3, 3]]),
        ("iij,jk->k", &[&[2, 2, 3], &[3, 2]]),
        ("i,ij,j", &[&[2], &[2, 3], &[3]]),
        ("ij,ij->i", &[&[2, 3], &[2, 3]]),
        ("ij,jk->ik", &[&[2, 1], &[3, 2]]),
        ("i...->...", &[&[2, 3]]),
        ("ab,cb,cd,ad->", &[&[2, 2], &[3, 2], &[3, 2], &[2, 2]]),
    ];
    for (equation, shapes) in equations {
        let inputs: Vec<X> = shapes.iter().enumerate().map(|(i, s)| values(s, i)).collect();
        check(equation, |t| Tensor::einsum(equation, &t.iter().collect::<Vec<_>>()), &inputs);
    }
}

#[test]
fn einsum_says_what_is_wrong() {
    let x = values(&[2, 2], 0);
    for (equation, operands) in [
        ("ij->ijk", vec![&x]),
        ("ij->ii", vec![&x]),
        ("i->i", vec![&x]),
        ("ij,jk->ik", vec![&x]),
        ("i1,j->i", vec![&x, &x]),
        (".ij->i", vec![&x]),
        ("ij->i->j", vec![&x]),
        ("......->", vec![&x]),
        ("ij,jk->ik", vec![&x, &values(&[3, 2], 0)]),
        ("ii", vec![&values(&[1, 2], 0)]),
        ("é", vec![&x]),
    ] {
        let error = Tensor::einsum(equation, &operands).expect_err(equation).to_string();
        assert!(error.starts_with("einsum: "), "{error}");
    }
    assert_eq!(Tensor::einsum("Ab,bA", &[&x, &x]).unwrap(), Tensor::einsum("ij,ji->", &[&x, &x]).unwrap());
    assert_eq!(Tensor::einsum("ba", &[&x]).unwrap(), x.t().unwrap());
    assert_eq!(Tensor::einsum("", &[&X::scalar(2.)]).unwrap(), X::scalar(2.));
}

#[test]
fn gradients_where_there_is_no_derivative() {
    let gradient = |x: X, f: &dyn Fn(&X) -> X| {
        let x = x.set_requires_grad(true);
        f(&x).sum().backward().unwrap();
        x.grad().unwrap()
    };
    let zeros = || X::zeros([3]);
    for p in [0.5, 1., 1.5, 2., 2.5, 3., INF, -INF, -1., -2.5] {
        assert_eq!(gradient(zeros(), &|x| x.norm(p, (), false).unwrap()), zeros(), "norm {p} at 0");
    }
    assert_eq!(gradient(tensor![2., 1., -2.; f64], &|x| x.norm(INF, 0, false).unwrap()), tensor![0.5, 0., -0.5; f64]);
    for p in [INF, -INF] {
        for x in [tensor![f64::NAN, 0.; f64], tensor![1., f64::NAN; f64], tensor![f64::NAN, f64::NAN; f64]] {
            assert!(x.norm(p, 0, false).unwrap().item().unwrap().is_nan());
            assert_eq!(gradient(x, &|x| x.norm(p, 0, false).unwrap()), tensor![0., 0.; f64], "as PyTorch");
        }
    }
    assert_eq!(gradient(X::ones([3]), &|x| x.std()), zeros());
    assert_eq!(gradient(tensor![1., 2., 2.; f64], &|x| x.amax(0, false).unwrap()), tensor![0., 0.5, 0.5; f64]);
    assert_eq!(gradient(tensor![1., 2., 2.; f64], &|x| x.max_dim(0, false).unwrap().0), tensor![0., 1., 0.; f64]);
    assert_eq!(gradient(tensor![1., NAN, NAN; f64], &|x| x.max().unwrap()), tensor![0., 0.5, 0.5; f64]);
    assert_eq!(gradient(tensor![-INF, 1.; f64], &|x| x.logsumexp(0, false).unwrap()), tensor![0., 1.; f64]);
    let unused = gradient(X::full([2, 2], NAN), &|x| x.addmm(&X::ones([2, 2]), &X::ones([2, 2]), 0., 1.).unwrap());
    assert_eq!(unused, X::zeros([2, 2]));
}

#[test]
fn nan_and_infinity() {
    let x = tensor![1., NAN, 3., NAN; f64];
    assert!(x.max().unwrap().item().unwrap().is_nan() && x.amin((), false).unwrap().item().unwrap().is_nan());
    assert_eq!(
        (x.argmax(None, false).unwrap(), x.min_dim(0, false).unwrap().1),
        (Tensor::scalar(1), Tensor::scalar(1))
    );
    assert_eq!(x.cummax(0).unwrap().1, tensor![0, 1, 1, 3]);
    assert_eq!(tensor![1., 2., 2., 1.].cummax(0).unwrap().1, tensor![0, 1, 2, 2]);
    assert_eq!(X::full([3], -INF).logsumexp(0, false).unwrap(), X::scalar(-INF));
    assert_eq!(tensor![1., INF; f64].logsumexp(0, false).unwrap(), X::scalar(INF));
    assert_eq!(tensor![-INF, -INF; f64].logcumsumexp(0).unwrap(), tensor![-INF, -INF; f64]);
    assert_eq!(X::full([2], -INF).amax(0, false).unwrap(), X::scalar(-INF));
    assert!(X::full([2], -INF).softmax(0).unwrap().to_vec().iter().all(|x| x.is_nan()));
    assert!(X::ones([1]).var().item().unwrap().is_nan());
    assert_eq!(values(&[3], 0).var_dim((), 5., false).unwrap(), X::scalar(INF));
}

#[test]
fn empty_tensors() {
    let x = X::zeros([0, 3]);
    assert_eq!(x.sum_dim(0, false).unwrap(), X::zeros([3]));
    assert_eq!(x.prod_dim(0, true).unwrap(), X::ones([1, 3]));
    assert!(x.mean().item().unwrap().is_nan());
    assert_eq!(x.logsumexp(0, false).unwrap(), X::full([3], -INF));
    assert_eq!(x.amax(1, false).unwrap().shape(), [0]);
    assert_eq!(x.argmax(Some(1), true).unwrap().shape(), [0, 1]);
    assert_eq!(x.max_dim(1, false).unwrap().0.shape(), [0]);
    assert_eq!(x.norm(2., (), false).unwrap(), X::scalar(0.));
    for error in [
        x.amax((), false).map(drop),
        x.amin(0, false).map(drop),
        x.max().map(drop),
        x.min_dim(0, false).map(drop),
        x.argmin(None, false).map(drop),
        x.norm(INF, 0, false).map(drop),
        x.norm(-1., (), false).map(drop),
    ] {
        error.unwrap_err();
    }
    for dim in [0, 1] {
        assert_eq!(x.softmax(dim).unwrap().shape(), [0, 3]);
        assert_eq!(x.cumsum(dim).unwrap().shape(), [0, 3]);
        assert_eq!(x.cumprod(dim).unwrap().shape(), [0, 3]);
        assert_eq!(x.logcumsumexp(dim).unwrap().shape(), [0, 3]);
        assert_eq!(x.cummin(dim).unwrap().0.shape(), [0, 3]);
        assert_eq!(x.var_dim(dim, 1., false).unwrap().numel(), if dim == 0 { 3 } else { 0 });
    }
    assert_eq!(X::zeros([3, 0]).matmul(&X::zeros([0, 2])).unwrap(), X::zeros([3, 2]));
    assert_eq!(X::zeros([2, 1, 3, 0]).matmul(&X::zeros([5, 0, 4])).unwrap(), X::zeros([2, 5, 3, 4]));
    assert_eq!(X::zeros([0]).dot(&X::zeros([0])).unwrap(), X::scalar(0.));
    check("sum of none", |t| t[0].sum_dim(0, false), std::slice::from_ref(&x));
    check("prod of none", |t| t[0].prod_dim(0, false), std::slice::from_ref(&x));
    check("product of none", |t| t[0].matmul(&t[1]), &[X::zeros([2, 0]), X::zeros([0, 2])]);
}

#[test]
fn integers_and_masks() {
    let x = tensor![[3, -1, 3], [0, 7, 2]];
    assert_eq!(x.sum(), Tensor::scalar(14));
    assert_eq!(x.prod_dim(1, false).unwrap(), tensor![-9, 0]);
    assert_eq!(x.max().unwrap(), Tensor::scalar(7));
    assert_eq!(x.amin(0, false).unwrap(), tensor![0, -1, 2]);
    assert_eq!(x.argmax(Some(1), false).unwrap(), tensor![0, 1]);
    assert_eq!(x.cumsum(1).unwrap(), tensor![[3, 2, 5], [0, 7, 9]]);
    assert_eq!(x.all_dim(1, false).unwrap(), tensor![true, false]);
    assert_eq!(tensor![[false, true], [false, false]].any_dim(0, true).unwrap(), tensor![[false, true]]);
    assert_eq!(tensor![0., NAN].any(), Tensor::scalar(true));
    let nothing: [isize; 0] = [];
    assert_eq!(x.all_dim(nothing, false).unwrap(), x.cast::<bool>());
    assert_eq!(x.count_nonzero(1).unwrap(), tensor![3, 2]);
    assert_eq!(x.mm(&x.t().unwrap()).unwrap(), tensor![[19, -1], [-1, 53]]);
}

#[test]
fn sums_of_many_f32_are_accurate() {
    for shape in [&[1_000_000][..], &[1_000_000, 1], &[500_000, 2], &[2, 500_000], &[1000, 10, 100]] {
        let x = Tensor::<f32>::full(shape, 0.1);
        let n = x.numel() as f64;
        assert!((x.sum().item().unwrap() as f64 / n - 0.1f32 as f64).abs() < 3e-8, "{shape:?}");
        let first = x.sum_dim(0, false).unwrap();
        let mean = first.to_vec()[0] as f64 / shape[0] as f64;
        assert!((mean - 0.1f32 as f64).abs() < 1e-7, "{shape:?}: {mean}");
    }
    let ones = Tensor::<f32>::full([1, 1_000_000], 0.1);
    let product = ones.matmul(&Tensor::ones([1_000_000])).unwrap().to_vec()[0];
    assert!((product / 1e6 - 0.1).abs() < 1e-7, "{product}");
    let end = *ones.cumsum(1).unwrap().to_vec().last().unwrap();
    assert!((end / 1e6 - 0.1).abs() < 1e-7, "{end}");
}

#[test]
fn bits_do_not_depend_on_threads() {
    let run = |threads| {
        ndnn::set_num_threads(threads);
        let (a, b) = (values(&[301, 257], 1).cast::<f32>(), values(&[257, 203], 2).cast::<f32>());
        let big = values(&[700, 500], 3).cast::<f32>();
        let stack = values(&[40, 60, 50], 4).cast::<f32>();
        let stack = stack.matmul(&stack.transpose(1, 2).unwrap()).unwrap();
        let sums = [big.sum(), big.sum_dim(0, false).unwrap(), big.sum_dim(1, false).unwrap()];
        let others = [a.mm(&b).unwrap(), stack, big.softmax(0).unwrap(), big.log_softmax(1).unwrap()];
        sums.iter().chain(&others).flat_map(|t| t.to_vec()).map(f32::to_bits).collect::<Vec<_>>()
    };
    assert_eq!(run(1), run(3));
}

// ------------------------------------------------------------------------------------------- kernels against plain loops

fn plain_matmul(a: &X, b: &X) -> Vec<f64> {
    let (m, k, n) = (a.shape()[0], a.shape()[1], b.shape()[1]);
    let (a, b) = (a.to_vec(), b.to_vec());
    let at = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
    (0..m * n).map(|ij| at(ij / n, ij % n)).collect()
}

fn near(name: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{name}");
    let scale = b.iter().fold(1., |m: f64, x| m.max(x.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= 1e-10 * scale, "{name}: element {i} is {x}, expected {y}");
    }
}

#[test]
fn large_products() {
    for (m, k, n) in [(301, 257, 203), (3, 2000, 1500), (1500, 2000, 3), (1, 3000, 2000), (2000, 3000, 1)] {
        let (a, b) = (values(&[m, k], 1), values(&[k, n], 2));
        let expected = plain_matmul(&a, &b);
        near("rows", &a.mm(&b).unwrap().to_vec(), &expected);
        near("columns", &strided(&a).mm(&strided(&b)).unwrap().to_vec(), &expected);
    }
}

/// The gradient, which both passes must agree on.
fn gradient<T: ndnn::Real>(x: &Tensor<T>, f: &dyn Fn(&Tensor<T>) -> Tensor<T>) -> Vec<f64> {
    let pass = |create_graph| {
        let x = x.detach().set_requires_grad(true);
        let y = f(&x).sum();
        let dx = ndnn::autograd::grad(&[&y], &[&x], create_graph).unwrap().remove(0).unwrap();
        dx.to_vec().into_iter().map(|d| d.as_f64()).collect::<Vec<_>>()
    };
    let fast = pass(false);
    assert_eq!(format!("{fast:?}"), format!("{:?}", pass(true)));
    fast
}

#[track_caller]
fn close_to(got: &[f64], want: &[f64], tolerance: f64) {
    let close = |(&a, &b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs();
    assert!(got.len() == want.len() && got.iter().zip(want).all(close), "{got:?}, expected {want:?}");
}

#[test]
fn products_whose_parts_overflow() {
    let x = tensor![1e-30, 1e30, 1e30, 1e-30];
    close_to(&gradient(&x, &|x| x.prod()), &[1e30, 1e-30, 1e-30, 1e30], 1e-6);
    let x = tensor![0.0, 1e20, 1e20, 1e20];
    close_to(&gradient(&x, &|x| x.prod()), &[INF, 0., 0., 0.], 1e-6);
    close_to(&gradient(&x.cast::<f64>(), &|x| x.prod()), &[1e60, 0., 0., 0.], 1e-6);
    close_to(&gradient(&tensor![0.0, 1e20, 0.0, 1e-20], &|x| x.prod()), &[0.; 4], 0.);
    close_to(&gradient(&tensor![5.0], &|x| x.prod()), &[1.], 0.);
    close_to(&gradient(&Tensor::<f32>::zeros([0]), &|x| x.prod()), &[], 0.);
    for order in [[1e30, 1e30, 1e-30, 1e-30], [1e-30, 1e-30, 1e30, 1e30]] {
        let x: Tensor = order.into_iter().collect();
        assert!((x.prod().item().unwrap() - 1.).abs() < 1e-5);
        let last = x.cumprod(0).unwrap().to_vec()[3];
        assert!((last - 1.).abs() < 1e-5, "{last}");
    }
    // Products far beyond the exponents of f64, in columns; and a partial product that would be subnormal.
    let x = X::from_vec([8, 2], (0..16).map(|i| if i < 8 { 1e-250 } else { 1e250 }).collect()).unwrap();
    close_to(&x.prod_dim(0, false).unwrap().to_vec(), &[1., 1.], 1e-12);
    close_to(&gradient(&x, &|x| x.prod_dim(0, true).unwrap()), &[[1e250; 8], [1e-250; 8]].concat(), 1e-12);
    close_to(&[tensor![1e-200, 1e-115, 1e200, 1e115; f64].prod().item().unwrap()], &[1.], 1e-14);
    assert_eq!(tensor![1e300, 1e300; f64].prod().item().unwrap(), INF);
    assert!(tensor![NAN, 0.0; f64].prod().item().unwrap().is_nan());
    // yₖ = x₀ … xₖ: the gradient of each is Σ of products, here 1 + 1e30 + 1 and so on.
    let dx = gradient(&tensor![1e-30, 1e30, 1e30, 1e-30], &|x| x.cumprod(0).unwrap().narrow(0, 3, 1).unwrap());
    close_to(&dx, &[1e30, 1e-30, 1e-30, 1e30], 1e-6);
    let x = tensor![2.0, 0.0, 3.0, 4.0; f64];
    close_to(&gradient(&x, &|x| x.cumprod(0).unwrap()), &[1., 2. * (1. + 3. + 12.), 0., 0.], 1e-15);
    close_to(&gradient(&tensor![0.0, 1e200, 1e200; f64], &|x| x.cumprod(0).unwrap()), &[INF, 0., 0.], 0.);
}

#[test]
fn products_differentiate_twice_at_zeros() {
    for x in [tensor![2.0, 3.0, -1.5, 0.5; f64], tensor![2.0, 0.0, -1.5, 0.5; f64], tensor![0.0, 3.0, 0.0, 0.5; f64]] {
        for f in [(|x: &X| Ok(x.prod())) as fn(&X) -> Result<X>, |x| x.cumprod(0), |x| x.reshape([2, 2])?.cumprod(1)] {
            gradcheck(|x| f(&x[0]), std::slice::from_ref(&x), Default::default()).unwrap();
            gradgradcheck(|x| f(&x[0]), std::slice::from_ref(&x), Default::default()).unwrap();
        }
        // The third derivative of the product of four is the remaining factor.
        let leaf = x.set_requires_grad(true);
        let mut y = leaf.prod();
        for i in 0..3 {
            let dx = ndnn::autograd::grad(&[&y], &[&leaf], true).unwrap().remove(0).unwrap();
            y = dx.narrow(0, i, 1).unwrap().sum();
        }
        assert_eq!(y.item().unwrap(), x.to_vec()[3]);
    }
}

#[test]
fn norms_of_any_size() {
    for p in [1., 1.5, 2., 3., 10., 50., 1e20, -1., -3.] {
        let want = gradient(&tensor![3.0, -4.0, 4.0; f64], &|x| x.norm(p, 0, false).unwrap());
        for size in [1e20, 1e30, 1e-20, 1e-30] {
            let x = tensor![3.0, -4.0, 4.0; f32] * size as f32;
            let got = gradient(&x, &|x| x.norm(p, 0, false).unwrap());
            close_to(&got, &want, 1e-4);
            let norm = x.norm(p, 0, false).unwrap().item().unwrap() as f64;
            let unit = tensor![3.0, -4.0, 4.0; f64].norm(p, 0, false).unwrap().item().unwrap();
            close_to(&[norm / size], &[unit], 1e-4);
        }
    }
    close_to(&gradient(&tensor![1e20, 1e20], &|x| x.norm(1e20, 0, false).unwrap()), &[0.5, 0.5], 1e-6);
    close_to(&gradient(&tensor![0.0, 0.0], &|x| x.norm(3., 0, false).unwrap()), &[0., 0.], 0.);
    close_to(&gradient(&tensor![3.0, f32::INFINITY], &|x| x.norm(2., 0, false).unwrap()), &[0., NAN], 0.);
    for p in [1.5, 2., 3., -2.] {
        gradcheck(|x| x[0].norm(p, 1, false), &[values(&[2, 3], 1)], Default::default()).unwrap();
        gradgradcheck(|x| x[0].norm(p, 1, false), &[values(&[2, 3], 1)], Default::default()).unwrap();
    }
}

#[test]
fn deviations_of_any_size() {
    for x in [tensor![1e30, -1e30, 2e30], tensor![1e-30, -1e-30, 2e-30]] {
        let size = x.to_vec()[0].abs() as f64;
        let unit = tensor![1.0, -1.0, 2.0; f64];
        close_to(&[x.std().item().unwrap() as f64 / size], &[unit.std().item().unwrap()], 1e-5);
        close_to(&gradient(&x, &|x| x.std()), &gradient(&unit, &|x| x.std()), 1e-5);
    }
    assert_eq!(tensor![1e30, -1e30].var().item().unwrap(), f32::INFINITY);
    close_to(&gradient(&tensor![123456.79, 123456.79, 123456.79], &|x| x.std()), &[0.; 3], 0.);
    gradcheck(|x| x[0].std_dim(1, 1., true), &[values(&[2, 4], 3)], Default::default()).unwrap();
    gradgradcheck(|x| x[0].std_dim(1, 1., true), &[values(&[2, 4], 3)], Default::default()).unwrap();
    let both = |x: &[X]| x[0].var_mean_dim(1, 1., true).and_then(|(v, m)| v.try_mul(&m));
    gradcheck(both, &[values(&[2, 4], 3)], Default::default()).unwrap();
    gradgradcheck(both, &[values(&[2, 4], 3)], Default::default()).unwrap();
}

#[test]
fn norms_of_parts_of_any_size() {
    let norm = |x: &Tensor<f32>, p: f64| gradient(x, &|x| x.norm(p, 0, false).unwrap());
    // The gradient of a sum of absolute values is the sign, whatever the other elements are.
    for f in [INF, 1e30, 1.] {
        close_to(&norm(&tensor![f as f32, -1e-30, 0.0, -f as f32], 1.), &[1., -1., 0., -1.], 0.);
    }
    close_to(&norm(&tensor![1e30, 1e-30, 1e30], 0.5), &[2., 2e30, 2.], 1e-5);
    close_to(&norm(&tensor![1e30, 1e-30], 1.5), &[1., 1e-30], 1e-5);
    close_to(&norm(&tensor![2.0, 0.0], 0.), &[0., 0.], 0.);
    for p in [0.5, 1.2, 1.9] {
        let x = [values(&[2, 3], 1).abs()];
        gradcheck(|x| x[0].norm(p, 1, false), &x, Default::default()).unwrap();
        gradgradcheck(|x| x[0].norm(p, 1, false), &x, Default::default()).unwrap();
    }
}

#[test]
fn moments_beyond_the_range() {
    // The deviations from the mean do not fit, but their shares of the standard deviation do.
    let third = 1. / 3f64.sqrt();
    let x = tensor![2.7e38, -2.7e38, 2.7e38];
    close_to(&gradient(&x, &|x| x.std()), &[third / 2., -third, third / 2.], 1e-5);
    close_to(&gradient(&(x * 1e-38), &|x| x.std()), &[third / 2., -third, third / 2.], 1e-5);
    close_to(&gradient(&tensor![2.7e38, -2.7e38, 2.7e38], &|x| x.var() * 0.25), &[4.5e37, -9e37, 4.5e37], 1e-5);
    for x in [tensor![f32::INFINITY], tensor![1.0, f32::INFINITY, 2.0]] {
        assert_eq!(x.var_mean_dim(0, 0., false).unwrap().1.item().unwrap(), f32::INFINITY);
    }
    assert!(tensor![f32::INFINITY, f32::NEG_INFINITY].std_mean_dim(0, 0., false).unwrap().1.item().unwrap().is_nan());
}

#[test]
fn scattered_products_whose_parts_overflow() {
    let product = |x: &[f32], include: bool| {
        let x: Tensor = x.iter().copied().collect();
        let index = Tensor::zeros([x.numel()]);
        let of = |x: &Tensor| Tensor::ones([1]).scatter_reduce(0, &index, x, Reduce::Prod, include).unwrap();
        (of(&x).item().unwrap() as f64, gradient(&x, &of))
    };
    for include in [false, true] {
        let (value, slopes) = product(&[1e-30, 1e-30, 1e30, 1e30], include);
        close_to(&[value], &[1.], 1e-5);
        close_to(&slopes, &[1e30, 1e30, 1e-30, 1e-30], 1e-5);
        close_to(&product(&[1e-30, 2e-30], include).1, &[2e-30, 1e-30], 1e-5);
        close_to(&product(&[0.0, 1e30, 1e30], include).1, &[INF, 0., 0.], 0.);
    }
}

/// Where it is flat, the ∞-norm passes no gradient, not even an infinite one; ties share it.
#[test]
fn the_infinity_norm_in_flat_regions() {
    let inf = f64::INFINITY;
    for create_graph in [false, true] {
        for (g, want) in [(1., [0., -0.5, 0.5]), (inf, [0., -inf, inf])] {
            let x = tensor![1., -3., 3.; f64].set_requires_grad(true);
            let y = x.norm(inf, (), false).unwrap();
            let g = Tensor::scalar(g);
            let dx = ndnn::autograd::grad_with(&[&y], &[Some(&g)], &[&x], create_graph).unwrap().remove(0).unwrap();
            assert_eq!(dx.to_vec(), want, "gradient {g}, graph {create_graph}");
        }
    }
}
