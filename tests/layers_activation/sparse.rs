//! Embeddings, bags of them, one-hot vectors.

use ndnn::{
    ErrorKind,
    autograd::grad,
    functional::{self as F, EmbeddingBagMode, EmbeddingBagOptions, EmbeddingOptions},
    prelude::*,
};

use super::{
    T,
    common::{check, panic_of, refused},
};

const MODES: [EmbeddingBagMode; 3] = [EmbeddingBagMode::Sum, EmbeddingBagMode::Mean, EmbeddingBagMode::Max];

fn options(mode: EmbeddingBagMode) -> EmbeddingBagOptions {
    EmbeddingBagOptions::default().mode(mode)
}

fn table(rows: usize, width: usize) -> T {
    let values = (0..rows * width).map(|i| (1.7 * i as f64).sin()).collect();
    // Not contiguous.
    T::from_vec([width, rows], values).unwrap().t().unwrap()
}

/// The bags, row by row and number by number.
fn plain(bags: &[&[usize]], table: &T, mode: EmbeddingBagMode, padding: Option<usize>) -> T {
    let width = table.shape()[1];
    let mut out = Vec::new();
    for bag in bags {
        let rows: Vec<usize> = bag.iter().copied().filter(|&row| Some(row) != padding).collect();
        out.extend((0..width).map(|j| {
            let column = rows.iter().map(|&row| table.view()[[row, j]]);
            match mode {
                EmbeddingBagMode::Sum => column.sum(),
                EmbeddingBagMode::Mean => column.sum::<f64>() / rows.len().max(1) as f64,
                EmbeddingBagMode::Max => column.reduce(f64::max).unwrap_or(0.),
            }
        }));
    }
    T::from_vec([bags.len(), width], out).unwrap()
}

#[test]
fn bags_of_any_size() {
    // Long bags, for the loop over several rows at a time; empty ones at both ends and in between.
    let bags: [&[usize]; 7] = [&[], &[3], &[1, 1, 4, 0, 2, 6, 5, 3, 3, 1, 6], &[], &[2, 2], &[0, 1, 2, 3, 4], &[]];
    let index: Tensor<i64> = bags.iter().flat_map(|bag| bag.iter().map(|&i| i as i64)).collect();
    let mut starts: Vec<i64> = bags
        .iter()
        .scan(0, |end, bag| {
            *end += bag.len() as i64;
            Some(*end - bag.len() as i64)
        })
        .collect();
    for width in [0, 1, 3, 70] {
        let table = table(7, width);
        for mode in MODES {
            for padding in [None, Some(2), Some(1)] {
                let options = options(mode).padding_idx(padding.map(|p| p as isize));
                let offsets = Tensor::from(starts.clone());
                let y = F::embedding_bag(&index, &table, Some(&offsets), None, options).unwrap();
                let want = plain(&bags, &table, mode, padding);
                assert!(y.allclose(&want, 1e-13, 1e-13, false).unwrap(), "{mode} {padding:?}: {y} is not {want}");
                if padding.is_some() {
                    let negative = options.padding_idx(padding.map(|p| p as isize - 7));
                    let same = F::embedding_bag(&index, &table, Some(&offsets), None, negative).unwrap();
                    assert_eq!(y, same);
                }
                // The last offset ends the last bag; what follows it is in none.
                let last = starts.len() - 2;
                let ends = Tensor::from(starts[..=last].to_vec());
                let y = F::embedding_bag(&index, &table, Some(&ends), None, options.include_last_offset(true));
                assert!(y.unwrap().allclose(&want.narrow(0, 0, last).unwrap(), 1e-13, 1e-13, false).unwrap());
            }
        }
    }
    starts.clear();
    let none = F::embedding_bag(&index, &table(7, 3), Some(&Tensor::from(starts)), None, Default::default()).unwrap();
    assert_eq!(none.shape(), [0, 3]);
    for (shape, bags) in [([2, 0], 2), ([0, 2], 0)] {
        let y = F::embedding_bag(&Tensor::zeros(shape), &table(7, 3), None, None, Default::default()).unwrap();
        assert_eq!(y, T::zeros([bags, 3]));
    }
}

#[test]
fn derivatives() {
    let (x, starts) = (tensor![1, 1, 3, 0, 1, 2, 2], tensor![0, 0, 3, 3, 6]);
    let (table, factors) = (table(5, 3), T::from_vec([7], (0..7).map(|i| (i as f64).cos()).collect()).unwrap());
    for mode in MODES {
        for padding in [None, Some(1)] {
            let options = options(mode).padding_idx(padding);
            check(|t| F::embedding_bag(&x, &t[0], Some(&starts), None, options), std::slice::from_ref(&table));
            check(
                |t| F::embedding_bag(&tensor![[1, 2], [3, 3]], &t[0], None, None, options),
                std::slice::from_ref(&table),
            );
        }
    }
    for padding in [None, Some(1)] {
        let options = options(EmbeddingBagMode::Sum).padding_idx(padding);
        let weighted = |t: &[T]| F::embedding_bag(&x, &t[0], Some(&starts), Some(&t[1]), options);
        check(weighted, &[table.clone(), factors.clone()]);
        let scaled = &factors * 0. + 2.;
        let twice = F::embedding_bag(&x, &table, Some(&starts), Some(&scaled), options).unwrap();
        assert_eq!(twice, F::embedding_bag(&x, &table, Some(&starts), None, options).unwrap() * 2.);
        let last = options.include_last_offset(true);
        check(|t| F::embedding_bag(&x, &t[0], Some(&starts), Some(&t[1]), last), &[table.clone(), factors.clone()]);
    }
    check(|t| F::embedding(&x, &t[0], EmbeddingOptions::default()), std::slice::from_ref(&table));
}

/// PyTorch's gradients of the sum of the results.
#[test]
fn gradients_scaled_by_frequency() {
    let (x, starts, table) = (tensor![1, 1, 3, 1], tensor![0, 3], table(4, 2).contiguous().set_requires_grad(true));
    let gradient = |options: EmbeddingBagOptions| {
        let gradient = |create_graph| {
            let y = F::embedding_bag(&x, &table, Some(&starts), None, options.scale_grad_by_freq(true)).unwrap();
            grad(&[&y.sum()], &[&table], create_graph).unwrap().remove(0).unwrap().detach()
        };
        let first = gradient(false);
        assert_eq!(first, gradient(true));
        first.select(1, 0).unwrap().to_vec()
    };
    assert_eq!(gradient(options(EmbeddingBagMode::Sum)), [0., 1., 0., 1.]);
    let mean = gradient(options(EmbeddingBagMode::Mean));
    assert!(mean.iter().zip([0., 5. / 9., 0., 1. / 3.]).all(|(a, b)| (a - b).abs() < 1e-15), "{mean:?}");
    let why = "the mode \"max\" does not scale gradients by frequency";
    assert!(panic_of(|| options(EmbeddingBagMode::Max).scale_grad_by_freq(true)).contains(why));
    assert!(panic_of(|| EmbeddingBag::new(3, 2).scale_grad_by_freq(true).mode("max")).contains(why));
}

/// PyTorch's answers: a maximum keeps NaN only if it comes first; a sum of ∞ and NaN.
#[test]
fn odd_numbers_in_bags() {
    let (inf, nan) = (f64::INFINITY, f64::NAN);
    let table = tensor![[inf, 4., 5.], [6., nan, 8.], [-inf, 1., 2.]; f64];
    let bag = |x: Tensor<i64>, mode| F::embedding_bag(&x, &table, None, None, options(mode)).unwrap().to_vec();
    assert_eq!(bag(tensor![[0, 1]], EmbeddingBagMode::Max), [inf, 4., 8.]);
    let second = bag(tensor![[1, 0]], EmbeddingBagMode::Max);
    assert!(second[0] == inf && second[1].is_nan() && second[2] == 8.);
    // Of equal elements the first one gets the gradient.
    let equal = T::ones([3, 1]).set_requires_grad(true);
    let y = F::embedding_bag(&tensor![[1, 0, 2]], &equal, None, None, options(EmbeddingBagMode::Max)).unwrap();
    y.sum().backward().unwrap();
    assert_eq!(equal.grad().unwrap().to_vec(), [0., 1., 0.]);
    let sums = bag(tensor![[0, 1, 2]], EmbeddingBagMode::Sum);
    assert!(sums[0].is_nan() && sums[1].is_nan() && sums[2] == 15.);
    assert_eq!(bag(tensor![[2], [2]], EmbeddingBagMode::Mean), [-inf, 1., 2., -inf, 1., 2.]);
}

#[test]
fn what_a_bag_refuses() {
    use ErrorKind::{Index, Shape, Value};
    let table = table(4, 2);
    let call = |x: &Tensor<i64>, offsets: Option<Tensor<i64>>, options| {
        F::embedding_bag(x, &table, offsets.as_ref(), None, options)
    };
    let (x, plain) = (tensor![1, 2, 3], EmbeddingBagOptions::default());
    refused(call(&x, None, plain), Value, "embedding_bag: an input of one axis needs offsets, the starts of the bags");
    refused(call(&tensor![[1, 2]], Some(tensor![0]), plain), Value, "[1, 2], are the bags: no offsets");
    refused(call(&tensor![[[1]]], None, plain), Shape, "expected an input of 1 or 2 axes, got [1, 1, 1]");
    refused(call(&x, Some(tensor![[0]]), plain), Shape, "expected a vector of offsets, got [1, 1]");
    refused(call(&x, Some(tensor![1, 2]), plain), Value, "the first offset must be 0, got 1");
    refused(
        call(&x, Some(tensor![0, 2, 1]), plain),
        Value,
        "offset 2 is 1; it must not be less than the one before it",
    );
    refused(
        call(&x, Some(tensor![0, 4]), plain),
        Value,
        "offset 1 is 4; it must not be less than the one before it, nor more than the number of indices, 3",
    );
    refused(call(&x, Some(tensor![0, -1]), plain), Value, "offset 1 is -1");
    refused(
        call(&x, Some(Tensor::zeros([0])), plain.include_last_offset(true)),
        Value,
        "include_last_offset needs an offset",
    );
    refused(
        call(&tensor![1, 4], Some(tensor![0]), plain),
        Index,
        "embedding_bag: index 4 is outside a table of 4 rows ([4, 2])",
    );
    refused(call(&tensor![-1], Some(tensor![0]), plain), Index, "index -1 is outside");
    let narrow = F::embedding_bag(&tensor![[1, 4]], &T::zeros([4, 0]), None, None, plain);
    refused(narrow, Index, "index 4 is outside a table of 4 rows ([4, 0])");
    let many = F::embedding_bag(&Tensor::zeros([1 << 45, 0]), &table, None, None, plain);
    refused(many, Value, "embedding_bag: a result of shape [35184372088832, 2] does not fit into memory");
    refused(call(&x, Some(tensor![0]), plain.padding_idx(4)), Index, "padding_idx 4 is outside a table of 4 rows");
    let weighted = |weights: &T, mode| F::embedding_bag(&x, &table, Some(&tensor![0]), Some(weights), options(mode));
    refused(weighted(&T::ones([2]), EmbeddingBagMode::Sum), Shape, "per_sample_weights are [2], the input is [3]");
    refused(
        weighted(&T::ones([3]), EmbeddingBagMode::Mean),
        Value,
        "per_sample_weights are for the mode \"sum\", this one is \"mean\"",
    );
    refused(F::embedding_bag(&x, &T::ones([3]), None, None, plain), Shape, "the weight has 2 axes, this one is [3]");
    let layer = EmbeddingBag::new(4, 2);
    refused(
        layer.forward(&tensor![[0, 4]], None, None),
        Index,
        "index 4 is outside a table of 4 rows ([4, 2]); in EmbeddingBag(4, 2, mode='mean')",
    );
    assert!(panic_of(|| EmbeddingBag::new(4, 2).mode("median")).contains("there is no \"median\""));
    assert!(
        panic_of(|| EmbeddingBag::new(4, 2).padding_idx(-5))
            .contains("EmbeddingBag: padding_idx -5 is outside a table of 4 rows")
    );
}

#[test]
fn layers() {
    let x = tensor![[0, 2], [3, 3]];
    let bag = EmbeddingBag::new(5, 2).mode("sum").padding_idx(-2).max_norm(0.5).norm_type(1.).dtype::<f64>();
    assert_eq!(bag.to_string(), "EmbeddingBag(5, 2, max_norm=0.5, norm_type=1.0, mode='sum', padding_idx=3)");
    assert_eq!(bag.weight.tensor().select(0, 3).unwrap(), T::zeros([2]));
    let table = F::embedding_renorm(&bag.weight.tensor(), &x, 0.5, 1.).unwrap();
    let y = bag.forward(&x, None, None).unwrap();
    assert_eq!(y, F::embedding_bag(&x, &table, None, None, options(EmbeddingBagMode::Sum).padding_idx(3)).unwrap());
    assert_eq!(bag.weight.detach(), table.detach(), "rows are shortened in place");
    y.sum().backward().unwrap();
    assert_eq!(bag.weight.grad().unwrap().select(1, 0).unwrap().to_vec(), [1., 0., 1., 0., 0.]);
    let in_a_row: Sequential<f64, Tensor<i64>> = sequential![f64; EmbeddingBag::new(5, 2), Linear::new(2, 1)];
    assert_eq!(in_a_row.forward(&x).unwrap().shape(), [2, 1]);
    // Rows that are given keep their values, also that of the padding row, which gets no gradient.
    let rows = T::ones([3, 2]);
    let given = Embedding::from_pretrained(&rows, false).unwrap().padding_idx(1);
    assert_eq!(given.weight.detach(), rows);
    given.forward(&tensor![0, 1]).unwrap().sum().backward().unwrap();
    assert_eq!(given.weight.grad().unwrap().select(1, 0).unwrap().to_vec(), [1., 0., 0.]);
    let frozen = EmbeddingBag::from_pretrained(&rows, true).unwrap().padding_idx(1);
    assert!(!frozen.weight.requires_grad() && frozen.weight.detach() == rows);
    assert_eq!(frozen.to_string(), "EmbeddingBag(3, 2, mode='mean', padding_idx=1)");
    refused(EmbeddingBag::from_pretrained(&T::ones([3]), true), ErrorKind::Shape, "the weight has 2 axes");
}

#[test]
fn one_hot_vectors() {
    use ErrorKind::{Index, Value};
    assert_eq!(F::one_hot(&tensor![[2], [0]], None).unwrap(), tensor![[[0, 0, 1]], [[1, 0, 0]]]);
    assert_eq!(F::one_hot(&Tensor::scalar(1), 3).unwrap(), tensor![0, 1, 0]);
    assert_eq!(F::one_hot(&Tensor::zeros([0, 2]), 3).unwrap().shape(), [0, 2, 3]);
    refused(F::one_hot(&tensor![0, 2], 2), Index, "one_hot: class 2 is not below num_classes, 2");
    refused(F::one_hot(&tensor![0], 0), Index, "class 0 is not below num_classes, 0");
    refused(F::one_hot(&tensor![0, -1], 2), Index, "one_hot: class -1 is negative");
    for classes in [None, Some(0)] {
        refused(
            F::one_hot(&Tensor::zeros([0]), classes),
            Value,
            "without class numbers, num_classes must be given and at least 1",
        );
    }
    assert!(F::one_hot(&tensor![i64::MAX], None).unwrap_err().to_string().starts_with("one_hot: a result of shape ["));
}
