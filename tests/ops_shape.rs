//! Shape, joining, indexing, scattering and sorting: first and second gradients against central differences, values
//! against ndarray and plain loops, shared memory, and the texts of errors.

use ndnn::{ErrorKind, Index, Reduce, Result, Tensor, autograd::grad_with, tensor};

type X = Tensor<f64>;

/// Values without ties, zeros or a pattern that would survive swapping two axes.
fn values(shape: &[usize], seed: usize) -> X {
    let n = shape.iter().product();
    let elements = (0..n).map(|i| 2. * ((i + 1) as f64 * 0.7 + seed as f64 * 1.3).sin() + 0.1 * i as f64).collect();
    X::from_vec(shape, elements).unwrap()
}

fn weights(shape: &[usize]) -> X {
    X::from_vec(shape, (0..shape.iter().product()).map(|i| (1. + i as f64).cos()).collect()).unwrap()
}

/// The same values in column-major memory.
fn strided(x: &X) -> X {
    let back: Vec<isize> = (0..x.ndim() as isize).rev().collect();
    match x.ndim() {
        0 => x.clone(),
        _ => x.permute(back.clone()).unwrap().contiguous().permute(back).unwrap(),
    }
}

fn shifted(xs: &[X], input: usize, element: usize, by: f64) -> Vec<X> {
    let mut elements = xs[input].to_vec();
    elements[element] += by;
    let mut xs = xs.to_vec();
    xs[input] = X::from_vec(xs[input].shape(), elements).unwrap();
    xs
}

fn close(name: &str, what: &str, numeric: f64, analytic: f64) {
    let error = (numeric - analytic).abs() / analytic.abs().max(1.);
    assert!(error < 1e-5, "{name}: {what}: numeric {numeric}, analytic {analytic}");
}

/// Checks Σ wᵢ f(x)ᵢ² and its gradient against central differences: because of the square, every second derivative
/// depends on the derivative of the derivative of `f`.
fn check(name: &str, xs: &[X], f: impl Fn(&[X]) -> Result<X>) {
    let loss = |xs: &[X]| {
        let y = f(xs).unwrap_or_else(|e| panic!("{name}: {e}"));
        (y.square() * weights(y.shape())).sum()
    };
    let gradients = |xs: &[X]| {
        let leaves: Vec<X> = xs.iter().map(|x| x.set_requires_grad(true)).collect();
        let inputs: Vec<&X> = leaves.iter().collect();
        let grads = grad_with(&[&loss(&leaves)], &[None], &inputs, true).unwrap();
        (leaves.clone(), grads.into_iter().map(|g| g.expect("a gradient")).collect::<Vec<X>>())
    };
    let second_loss = |grads: &[X]| grads.iter().map(|g| (g * weights(g.shape())).sum()).reduce(|a, b| a + b).unwrap();
    let (leaves, first) = gradients(xs);
    let inputs: Vec<&X> = leaves.iter().collect();
    let second = grad_with(&[&second_loss(&first)], &[None], &inputs, false).unwrap();
    let h = 1e-5;
    for (i, x) in xs.iter().enumerate() {
        assert_eq!(first[i].shape(), x.shape(), "{name}");
        let (first, second) = (first[i].to_vec(), second[i].as_ref().expect("a second gradient").to_vec());
        for k in 0..x.numel() {
            let difference =
                |of: &dyn Fn(&[X]) -> f64| (of(&shifted(xs, i, k, h)) - of(&shifted(xs, i, k, -h))) / (2. * h);
            close(name, "first", difference(&|xs| loss(xs).item().unwrap()), first[k]);
            close(name, "second", difference(&|xs| second_loss(&gradients(xs).1).item().unwrap()), second[k]);
        }
    }
    let others: Vec<X> = xs.iter().map(strided).collect();
    assert_eq!(f(&others).unwrap(), f(xs).unwrap(), "{name}: of column-major memory");
}

macro_rules! gradients {
    ($($test:ident { $($name:literal [$($shape:expr),+] |$x:pat_param| $y:expr;)+ })+) => {$(
        #[test]
        fn $test() {
            $({
                let shapes: &[&[usize]] = &[$(&$shape),+];
                let xs: Vec<X> = shapes.iter().enumerate().map(|(i, s)| values(s, i)).collect();
                check($name, &xs, |xs| {
                    let $x = xs else { unreachable!() };
                    $y
                });
            })+
        }
    )+};
}

gradients! {
    gradients_of_shapes {
        "reshape" [[2, 3]] |[x]| x.reshape([3, -1]);
        "contiguous" [[2, 3]] |[x]| Ok(x.t()?.contiguous());
        "expand" [[2, 1]] |[x]| x.expand([2, -1, 3]);
        "permute" [[2, 3, 2]] |[x]| x.permute([2, 0, -2]);
        "movedim" [[2, 3, 2]] |[x]| x.movedim([0, 1], [-1, 0]);
        "m_t" [[2, 3, 2]] |[x]| x.m_t();
        "flatten" [[2, 1, 2]] |[x]| x.flatten(1, -1);
        "flatten scalar" [[]] |[x]| x.flatten(0, -1);
        "unflatten" [[6]] |[x]| x.unflatten(0, [2, -1]);
        "squeeze" [[1, 2, 1]] |[x]| Ok(x.squeeze());
        "squeeze_dim" [[1, 2, 1]] |[x]| x.squeeze_dim([0, 1]);
        "unsqueeze" [[2]] |[x]| x.unsqueeze(-1);
        "flip" [[2, 3]] |[x]| x.flip([0, 1]);
        "repeat" [[2, 2]] |[x]| x.repeat([2, 1, 3]);
        "tile" [[2, 2]] |[x]| x.tile([2]);
        "repeat_interleave" [[2, 2]] |[x]| x.repeat_interleave(2, 1);
        "repeat_interleave_each" [[2, 2]] |[x]| x.repeat_interleave_each(&tensor![3, 0], 0);
        "tril" [[2, 2, 3]] |[x]| x.tril(1);
        "triu" [[2, 2, 3]] |[x]| x.triu(1);
    }
    gradients_of_joins {
        "cat" [[2, 1], [2, 2], [0]] |[x, y, z]| Tensor::cat(&[x, z, y], 1);
        "stack" [[2], [2]] |[x, y]| Tensor::stack(&[x, y, x], -1);
        "split" [[5, 2]] |[x]| Tensor::stack(&x.split(2, 0)?[..2], 0);
        "unbind" [[3, 2]] |[x]| Tensor::cat(&x.unbind(0)?, 0);
        "roll" [[3, 2]] |[x]| x.roll([1, -1], [0, 1]);
        "roll flat" [[3, 2]] |[x]| x.roll(4, ());
        "constant_pad" [[3, 2]] |[x]| x.constant_pad(&[(1, -1), (-1, 2)], 3.);
        "meshgrid" [[2], [3]] |[x, y]| Tensor::stack(&Tensor::meshgrid(&[x, y])?, 0);
    }
    gradients_of_indexing {
        "narrow" [[2, 4]] |[x]| x.narrow(1, -3, 2);
        "slice" [[2, 5]] |[x]| x.slice(1, 1, None, 2);
        "select" [[2, 3]] |[x]| x.select(1, -1);
        "unfold" [[2, 5]] |[x]| x.unfold(1, 3, 1);
        "diagonal" [[3, 2]] |[x]| x.diagonal(-1, 0, 1);
        "diagonal of three" [[3, 2, 3]] |[x]| x.diagonal(1, 2, 0);
        "diag_embed" [[2, 3]] |[x]| x.diag_embed(-1, 0, -1);
        "index_select" [[2, 3]] |[x]| x.index_select(1, &tensor![2, 0, 2]);
        "gather" [[2, 3]] |[x]| x.gather(1, &tensor![[2, 0, 2, 1]]);
        "gather 0" [[2, 3]] |[x]| x.gather(0, &tensor![[1, 0], [1, 1], [0, 0]]);
        "gather scalar" [[]] |[x]| x.gather(0, &tensor![0]);
        "take_along_dim" [[2, 3]] |[x]| x.take_along_dim(&tensor![[-1, 0]], 1);
        "masked_select" [[2, 3]] |[x]| x.masked_select(&tensor![true, false, true]);
        "index" [[2, 3, 2]] |[x]| x.index((&tensor![1, 0, 1], .., &tensor![-1, 0, 1]));
        "index mask" [[2, 3, 2]] |[x]| x.index((.., &tensor![true, false, true], 1));
        "sort" [[3, 3]] |[x]| Ok(x.sort(0, true)?.0);
        "topk" [[2, 4]] |[x]| Ok(x.topk(2, 1, false)?.0);
    }
    gradients_of_scattering {
        "index_add" [[3, 2], [2, 2]] |[x, s]| x.index_add(0, &tensor![2, 2], s);
        "index_copy" [[3, 2], [2, 2]] |[x, s]| x.index_copy(0, &tensor![2, 0], s);
        "index_fill" [[3, 2], []] |[x, v]| x.index_fill(0, &tensor![-1, 0], v);
        "scatter" [[3, 2], [2, 2]] |[x, s]| x.scatter(0, &tensor![[2, 0], [0, 1]], s);
        "scatter_value" [[3, 2]] |[x]| x.scatter_value(1, &tensor![[1], [0]], 2.);
        "scatter_add" [[3, 2], [2, 3]] |[x, s]| x.scatter_add(0, &tensor![[2, 0], [2, 1]], s);
        "sum" [[3], [4]] |[x, s]| x.scatter_reduce(0, &tensor![0, 2, 0], s, Reduce::Sum, false);
        "mean" [[3], [4]] |[x, s]| x.scatter_reduce(0, &tensor![0, 2, 0, 0], s, Reduce::Mean, true);
        "mean without" [[3], [4]] |[x, s]| x.scatter_reduce(0, &tensor![0, 2, 0, 0], s, Reduce::Mean, false);
        "prod" [[3], [4]] |[x, s]| x.scatter_reduce(0, &tensor![0, 2, 0, 0], s, Reduce::Prod, true);
        "prod without" [[3], [4]] |[x, s]| x.scatter_reduce(0, &tensor![0, 2, 0, 0], s, Reduce::Prod, false);
        "amin" [[3, 2], [3, 2]] |[x, s]| x.scatter_reduce(0, &tensor![[0, 1], [0, 0]], s, Reduce::Amin, true);
        "amax" [[3, 2], [3, 2]] |[x, s]| x.scatter_reduce(0, &tensor![[0, 1], [0, 0]], s, Reduce::Amax, false);
    }
}

#[test]
fn a_product_with_zeros() {
    let index = tensor![0, 0, 1, 1];
    let one_zero = X::from(vec![0., 3., 2., 5.]);
    let product = |xs: &[X]| xs[0].scatter_reduce(0, &index, &xs[1], Reduce::Prod, true);
    // Squaring hides the derivative at zero; a shift shows it.
    check("one zero", &[X::from(vec![2., 0.]), one_zero], |xs| Ok(product(xs)? + 1.));

    let x = X::from(vec![2., 4.]).set_requires_grad(true);
    let src = X::from(vec![0., 0., 2., 5.]).set_requires_grad(true);
    let y = product(&[x.clone(), src.clone()]).unwrap().sum();
    let g = ndnn::autograd::grad(&[&y], &[&x, &src], true).unwrap();
    assert_eq!(g[0].as_ref().unwrap().to_vec(), [0., 10.]);
    assert_eq!(g[1].as_ref().unwrap().to_vec(), [0., 0., 20., 8.]);
    // 2 s₀ s₁ + 4 s₂ s₃: from the sum of its gradient.
    let second = ndnn::autograd::grad(&[&g[1].as_ref().unwrap().sum()], &[&x, &src], false).unwrap();
    assert_eq!(second[0].as_ref().unwrap().to_vec(), [0., 7.]);
    let off = second[1].as_ref().unwrap() - X::from(vec![2., 2., 4., 4.]);
    assert!(off.abs().amax(0, false).unwrap().item().unwrap() < 1e-14, "{off}");

    // Two and three zeros, one row without, and one whose own element is zero or is not included.
    let zeros = X::from(vec![0., 3., 0., 0., 2., 5., 0., 0., 0.]).reshape([3, 3]).unwrap();
    let index = tensor![[0, 1, 2], [0, 0, 1], [2, 2, 2]];
    for include_self in [true, false] {
        check(
            "several zeros",
            &[X::from(vec![2., 0., 4., 1., 0., 3., 1., 2., 3.]).reshape([3, 3]).unwrap(), zeros.clone()],
            |xs| Ok(xs[0].scatter_reduce(0, &index, &xs[1], Reduce::Prod, include_self)? + 1.),
        );
    }
}

#[test]
fn ties_share_the_gradient() {
    let x = X::from(vec![1., 5.]).set_requires_grad(true);
    let src = X::from(vec![1., 1., 0., 9.]).set_requires_grad(true);
    let y = x.scatter_reduce(0, &tensor![0, 0, 0, 1], &src, Reduce::Amax, true).unwrap();
    y.sum().backward().unwrap();
    let third = 1. / 3.;
    assert_eq!(x.grad().unwrap().to_vec(), [third, 0.]);
    assert_eq!(src.grad().unwrap().to_vec(), [third, third, 0., 1.]);
}

#[test]
fn views_share_memory() {
    let x = values(&[4, 6], 0);
    let base = x.view().as_ptr() as usize;
    let bytes = base..base + x.numel() * 8;
    let inside = |name: &str, y: X| assert!(bytes.contains(&(y.view().as_ptr() as usize)), "{name} copied");
    inside("reshape", x.reshape([3, -1]).unwrap());
    inside("narrow", x.narrow(1, 2, 3).unwrap());
    inside("slice", x.slice(1, 1, None, 2).unwrap());
    inside("select", x.select(1, 3).unwrap());
    inside("transpose", x.t().unwrap());
    inside("diagonal", x.diagonal(1, 0, 1).unwrap());
    inside("flip", x.flip([0, 1]).unwrap());
    inside("unbind", x.unbind(1).unwrap()[2].clone());
    inside("split", x.split(4, 1).unwrap()[1].clone());
    inside("index", x.index((1.., Index::NewAxis, 2)).unwrap());
    inside("unsqueeze", x.t().unwrap().unsqueeze(1).unwrap().squeeze());
    inside("constant_pad", x.constant_pad(&[(-1, 0), (0, -1)], 0.).unwrap());
}

#[test]
fn every_element_type() {
    assert_eq!(tensor![true, false].repeat([2]).unwrap(), tensor![true, false, true, false]);
    let or = tensor![false, true].index_add(0, &tensor![0], &tensor![true]).unwrap();
    assert_eq!(or, tensor![true, true]);
    assert_eq!(Tensor::cat(&[tensor![1, 2], tensor![3]], 0).unwrap(), tensor![1, 2, 3]);
    assert_eq!(tensor![0, 0].scatter_add(0, &tensor![1, 1], &tensor![4, 5]).unwrap(), tensor![0, 9]);
    assert_eq!(tensor![[0, 3], [0, 0]].nonzero(), tensor![[0, 1]]);
    assert_eq!(tensor![true, false, true].sort(0, false).unwrap().1, tensor![1, 0, 2]);
    assert_eq!(tensor![1, 3, 5].searchsorted(&tensor![[3, 4]], false).unwrap(), tensor![[1, 2]]);
    assert_eq!(tensor![1, 3, 5].searchsorted(&tensor![[3, 4]], true).unwrap(), tensor![[2, 2]]);
}

#[test]
fn nan_sorts_last() {
    let nan = f32::NAN;
    let x = tensor![nan, 1.0, -0.0, 0.0, nan, 2.0];
    assert_eq!(x.argsort(0, false).unwrap(), tensor![2, 3, 1, 5, 0, 4]);
    assert_eq!(x.argsort(0, true).unwrap(), tensor![0, 4, 5, 1, 2, 3]);
    assert_eq!(x.topk(3, 0, true).unwrap().1, tensor![0, 4, 5]);
    assert_eq!(x.topk(4, 0, false).unwrap().1, tensor![2, 3, 1, 5]);
    assert_eq!(tensor![nan, 1.0].bucketize(&tensor![0.0, 1.0], false).unwrap(), tensor![2, 1]);
}

#[test]
fn scalars_and_empty_tensors() {
    let (x, none) = (X::scalar(2.), Tensor::<i64>::zeros([0]));
    assert_eq!(x.gather(0, &Tensor::scalar(0)).unwrap(), x);
    assert_eq!(x.index_select(0, &tensor![0]).unwrap(), x);
    assert_eq!(x.scatter(0, &tensor![0], &X::ones([1])).unwrap(), X::scalar(1.));
    assert_eq!(x.index_fill(0, &tensor![-1], 7.).unwrap(), X::scalar(7.));
    assert_eq!(x.sort(-1, true).unwrap(), (x.clone(), Tensor::scalar(0)));
    assert_eq!(x.topk(1, 0, true).unwrap(), (x.clone(), Tensor::scalar(0)));
    assert_eq!(x.unfold(0, 0, 1).unwrap().shape(), [0]);
    assert_eq!(x.masked_select(&Tensor::scalar(false)).unwrap().shape(), [0]);
    assert_eq!(x.nonzero().shape(), [1, 0]);
    let x = values(&[2, 3], 0);
    assert_eq!(x.gather(0, &none).unwrap().shape(), [0]);
    let leaf = X::ones([5]).set_requires_grad(true);
    let taken = leaf.gather(0, &Tensor::zeros([2, 0])).unwrap();
    assert_eq!(taken.shape(), [2, 0]);
    taken.sum().backward().unwrap();
    assert_eq!(leaf.grad().unwrap(), X::zeros([5]));
    assert_eq!(x.scatter_add(0, &none, &X::zeros([0])).unwrap(), x);
    assert_eq!(x.index_select(1, &none).unwrap().shape(), [2, 0]);
    assert_eq!(x.topk(0, 0, true).unwrap().0.shape(), [0, 3]);
    assert_eq!(X::zeros([0, 2]).chunk(3, 0).unwrap().len(), 3);
    assert_eq!(X::zeros([0, 2]).unbind(0).unwrap().len(), 0);
    assert_eq!(X::zeros([0, 2]).argsort(0, true).unwrap().shape(), [0, 2]);
    assert_eq!(x.index(&none).unwrap().shape(), [0, 3]);
    assert_eq!(x.index((.., &Tensor::<bool>::zeros([3]))).unwrap().shape(), [2, 0]);
}

#[test]
fn advanced_indexing_places_its_axes_as_pytorch() {
    let x = values(&[2, 3, 4, 5], 0);
    let (i, j) = (tensor![[0, 1]], tensor![[2], [0]]);
    assert_eq!(x.index((.., &i, &j)).unwrap().shape(), [2, 2, 2, 5]);
    assert_eq!(x.index((&i, .., &j)).unwrap().shape(), [2, 2, 3, 5]);
    assert_eq!(x.index((Index::Ellipsis, &i, 1)).unwrap().shape(), [2, 3, 1, 2]);
    assert_eq!(x.index((Index::Ellipsis, Index::NewAxis)).unwrap().shape(), [2, 3, 4, 5, 1]);
    assert_eq!(x.index(&Tensor::<bool>::ones([2, 3])).unwrap().shape(), [6, 4, 5]);
    let y = x.index((.., &i, &j)).unwrap();
    assert_eq!(y.view()[[1, 1, 0, 3]], x.view()[[1, 0, 0, 3]]);
}

#[test]
fn sizes_and_places_are_integers_of_any_type() {
    let x: Tensor<i64> = Tensor::arange(0, 12, 1).unwrap();
    let (batch, half) = (x.shape()[0] / 3, vec![0u8; 2].len());
    let shape = |t: Result<Tensor<i64>>| t.unwrap().shape().to_vec();
    assert_eq!(shape(x.reshape([batch, 3])), [4, 3]);
    assert_eq!(shape(x.reshape((batch, -1))), [4, 3]);
    assert_eq!(shape(x.reshape((2u8, -1i64, half))), [2, 3, 2]);
    assert_eq!(shape(x.reshape([2, -1])), [2, 6]);
    assert_eq!(shape(x.reshape(vec![batch, 3])), [4, 3]);
    assert_eq!(shape(x.reshape(vec![3, -1])), [3, 4]);
    assert_eq!(shape(x.reshape(&[2, 6][..])), [2, 6]);
    assert_eq!(shape(x.reshape([6, 2])), [6, 2]);
    assert_eq!(shape(x.reshape(vec![12usize])), [12]);
    assert_eq!(shape(x.reshape(-1)), [12]);
    assert_eq!(shape(x.reshape(x.numel())), [12]);
    assert_eq!(shape(Tensor::scalar(7).reshape(())), [0; 0]);
    let m = x.reshape([3, 4]).unwrap();
    assert_eq!(shape(m.reshape(m.shape())), [3, 4]);
    let (i, n) = (half - 1, m.shape()[1]);
    assert_eq!(m.narrow(1, i, n - 2).unwrap(), tensor![[1, 2], [5, 6], [9, 10]]);
    assert_eq!(m.narrow(1, -1, 1).unwrap(), tensor![[3], [7], [11]]);
    assert_eq!(m.select(0, i).unwrap(), m.select(0, -2).unwrap());
    assert_eq!(m.index((.., i..)).unwrap(), m.narrow(1, 1, 3).unwrap());
    assert_eq!(m.index((..half, ..=2)).unwrap(), tensor![[0, 1, 2], [4, 5, 6]]);
    assert_eq!(m.index((i, 1..=n)).unwrap(), tensor![5, 6, 7]);
    assert_eq!(m.index((0, -3..=-2)).unwrap(), tensor![1, 2]);
    assert_eq!(m.index((0, ..=-1)).unwrap(), tensor![0, 1, 2, 3]);
    assert_eq!(m.index(half).unwrap(), tensor![8, 9, 10, 11]);
    assert_eq!(m.index(-1i32).unwrap(), tensor![8, 9, 10, 11]);
    // A size that is too large for an axis stays too large, and does not become negative.
    assert!(x.reshape([usize::MAX]).is_err() && x.reshape((u64::MAX, 1)).is_err());
    assert!(m.narrow(1, usize::MAX, 1).is_err() && m.select(0, u64::MAX).is_err() && m.index(usize::MAX).is_err());
    assert_eq!(m.index((0, ..usize::MAX)).unwrap(), tensor![0, 1, 2, 3]);
    assert_eq!(m.index((0, ..=isize::MAX)).unwrap(), tensor![0, 1, 2, 3]);
}

#[test]
fn errors_say_what_came_and_what_was_expected() {
    let x = values(&[2, 3], 0);
    let says = |result: Result<X>, kind, text: &str| {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.to_string().as_str()), (kind, text));
    };
    use ErrorKind::*;
    says(x.gather(1, &tensor![[3]]), Index, "gather: index 3 is out of range for axis 1 of size 3 ([2, 3])");
    says(
        x.index_select(0, &tensor![-1]),
        Index,
        "index_select: index -1 is out of range for axis 0 of size 2 ([2, 3])",
    );
    says(x.select(-1, -4), Index, "select: index -4 is out of range for axis 1 of size 3 ([2, 3])");
    says(x.narrow(1, 2, 2), Index, "narrow: 2 elements from 2 leave axis 1 of size 3 ([2, 3])");
    says(
        x.scatter_add(0, &tensor![[0], [0]], &X::zeros([1, 1])),
        Shape,
        "scatter_add: the index [2, 1] must be no larger than the source [1, 1]",
    );
    says(
        x.gather(0, &tensor![0, 0]),
        Shape,
        "gather: the index [2] must be no larger than the tensor [2, 3] on every axis but 0",
    );
    says(
        x.index_add(0, &tensor![0], &X::zeros([3])),
        Shape,
        "index_add: the source is [3], 1 indices on axis 0 of [2, 3] expect [1, 3]",
    );
    says(
        Tensor::cat(&[x.clone(), values(&[3, 2], 0)], 0),
        Shape,
        "cat: tensor 1 is [3, 2], the first is [2, 3]: they may differ only on axis 0",
    );
    says(x.expand([3, 3]), Shape, "expand: [2, 3] does not expand to [3, 3]");
    says(x.unflatten(1, [2, -1]), Shape, "unflatten: [3] (3 elements) does not fit the shape [2, -1]");
    says(Tensor::cat::<X>(&[], 0), Shape, "cat: expected at least one tensor");
    says(
        x.constant_pad(&[(-1, -2), (0, 0)], 0.),
        Shape,
        "constant_pad: [2, 3] by [(-1, -2), (0, 0)]: no axis is that long",
    );
    says(x.index((0, 0, 0)), Index, "index: 3 indices for the axes of [2, 3]");
}

#[test]
fn an_index_filled_twice_counts_once() {
    let x = Tensor::<f64>::zeros([3]);
    let value = Tensor::scalar(2.0).set_requires_grad(true);
    let y = x.index_fill(0, &tensor![1, 1, 0], &value).unwrap();
    assert_eq!(y.to_vec(), [2.0, 2.0, 0.0]);
    y.sum().backward().unwrap();
    assert_eq!(value.grad().unwrap().item().unwrap(), 2.0);
}

#[test]
fn what_is_written_over_takes_no_part_in_a_tie() {
    // Place 0: the tensor's 5 equals the largest source element; place 1 keeps its own.
    for (include_self, dx, ds) in [(false, [0., 1.], [0.5, 0.5]), (true, [1. / 3., 1.], [1. / 3., 1. / 3.])] {
        for reduce in [Reduce::Amax, Reduce::Amin] {
            let x = tensor![5.0, 7.0; f64].set_requires_grad(true);
            let s = tensor![5.0, 5.0; f64].set_requires_grad(true);
            for create_graph in [false, true] {
                let y = x.scatter_reduce(0, &tensor![0, 0], &s, reduce, include_self).unwrap();
                let grads = grad_with(&[&y], &[Some(&tensor![1.0, 1.0; f64])], &[&x, &s], create_graph).unwrap();
                assert_eq!(grads[0].as_ref().unwrap().to_vec(), dx);
                assert_eq!(grads[1].as_ref().unwrap().to_vec(), ds);
            }
            // An infinite gradient reaches only the elements that it belongs to.
            let inf = tensor![f64::INFINITY, f64::INFINITY; f64];
            let s = tensor![5.0, if reduce == Reduce::Amax { 4.0 } else { 6.0 }; f64].set_requires_grad(true);
            let y = x.scatter_reduce(0, &tensor![0, 0], &s, reduce, false).unwrap();
            let grads = grad_with(&[&y], &[Some(&inf)], &[&x, &s], false).unwrap();
            assert_eq!(grads[0].as_ref().unwrap().to_vec(), [0., f64::INFINITY]);
            assert_eq!(grads[1].as_ref().unwrap().to_vec(), [f64::INFINITY, 0.]);
        }
    }
}

/// The gradient of each row is Σ g / n; the derivative of that for each g is 1 / n. (PyTorch's second derivative leaves
/// the 1 / n out.)
#[test]
fn an_embedding_scaled_by_frequency_differentiates_twice() {
    let table = tensor![[1.0, 2.0], [3.0, 4.0]; f64].set_requires_grad(true);
    let options = ndnn::functional::EmbeddingOptions::default().scale_grad_by_freq(true);
    let y = ndnn::functional::embedding(&tensor![0, 0, 1], &table, options).unwrap();
    let g = X::ones([3, 2]).set_requires_grad(true);
    let dw = grad_with(&[&y], &[Some(&g)], &[&table], true).unwrap().remove(0).unwrap();
    assert_eq!(dw.to_vec(), [1.; 4]);
    let dg = grad_with(&[&dw.sum()], &[None], &[&g], false).unwrap().remove(0).unwrap();
    assert_eq!(dg.to_vec(), [0.5, 0.5, 0.5, 0.5, 1., 1.]);
}

/// Every order of four axes, against the elements at their places.
#[test]
fn all_permutations() {
    let x = values(&[2, 3, 4, 5], 1);
    for code in 0..256 {
        let order: Vec<usize> = (0..4).map(|i| code >> (2 * i) & 3).collect();
        if (0..4).any(|axis| !order.contains(&axis)) {
            assert!(x.permute(&order).is_err());
            continue;
        }
        let y = x.permute(&order).unwrap();
        assert!(y.shares_memory_with(&x));
        assert_eq!(y.view(), x.view().permuted_axes(ndarray::IxDyn(&order)), "{order:?}");
    }
}
