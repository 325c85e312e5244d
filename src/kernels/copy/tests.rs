//! Copies against plain loops.

use ndarray::{Array, Axis, IxDyn, Slice, s};

use super::*;

/// A small generator, so that the shapes are the same in each run.
struct Draws(u64);

impl Draws {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }

    /// Permutes, cuts, steps through and reverses axes.
    fn seen<'a, T>(&mut self, mut x: ArrayViewD<'a, T>) -> ArrayViewD<'a, T> {
        let n = x.ndim();
        (0..n).for_each(|i| x.swap_axes(i, i + self.below(n - i)));
        for axis in 0..n {
            let len = x.len_of(Axis(axis)) as isize;
            let step = [1, 1, 1, -1, 2, -3][self.below(6)];
            let start = self.below(3).min(len as usize) as isize;
            x.slice_axis_inplace(Axis(axis), Slice::new(start, None, step));
        }
        x
    }

    fn shape(&mut self, ranks: usize, most: usize) -> Vec<usize> {
        let rank = self.below(ranks);
        (0..rank).map(|_| [0, 1, 1, 2, 3, 5, 8, 17, 33, 70][self.below(10)].min(most) + self.below(3)).collect()
    }
}

fn agree<T: Copy + Default + PartialEq + std::fmt::Debug>(x: ArrayViewD<'_, T>, other: T, draws: &mut Draws) {
    let want: Vec<T> = x.iter().copied().collect();
    let copied = contiguous(x.view());
    assert_eq!((copied.shape(), copied.as_slice().unwrap()), (x.shape(), &want[..]));
    assert_eq!(to_vec(&x), want);
    assert_eq!(*RowMajor::of(x.view()), want[..]);

    // Into a part of another array with a different order of axes.
    let n = x.ndim();
    let mut order: Vec<usize> = (0..n).collect();
    (0..n).for_each(|i| order.swap(i, i + draws.below(n - i)));
    let steps: Vec<isize> = (0..n).map(|_| [1, 2, -1, -2][draws.below(4)]).collect();
    let roomy: Vec<usize> = order.iter().map(|&a| x.shape()[a] * steps[a].unsigned_abs() + 1).collect();
    let mut space = ArrayD::from_elem(IxDyn(&roomy), other);
    let mut back = vec![0; n];
    order.iter().enumerate().for_each(|(i, &a)| back[a] = i);
    let part = |space: &mut ArrayD<T>, f: &dyn Fn(ArrayViewMutD<'_, T>)| {
        let mut to = space.view_mut().permuted_axes(IxDyn(&back));
        for (a, (&len, &step)) in x.shape().iter().zip(&steps).enumerate() {
            let end = (len * step.unsigned_abs()) as isize;
            to.slice_axis_inplace(Axis(a), Slice::new(0, Some(end), step));
        }
        f(to);
    };
    let mut wanted = space.clone();
    part(&mut space, &|to| copy_into(to, x.view()));
    part(&mut wanted, &|mut to| to.iter_mut().zip(&x).for_each(|(a, &b)| *a = b));
    assert_eq!(space, wanted, "{:?} {:?} {order:?} {steps:?}", x.shape(), x.strides());
}

fn random_copies<T: Copy + Default + PartialEq + std::fmt::Debug>(of: impl Fn(usize) -> T, seed: u64) {
    let mut draws = Draws(seed);
    for round in 0..100 {
        let shape = if round % 8 == 0 { draws.shape(3, 200) } else { draws.shape(6, 9) };
        let mut count = 0;
        let base = ArrayD::from_shape_simple_fn(IxDyn(&shape), || {
            count += 1;
            of(count)
        });
        let x = draws.seen(base.view());
        agree(x.view(), of(0), &mut draws);
        // Broadcast along a new axis and along one of length 1.
        let x = x.clone().insert_axis(Axis(draws.below(x.ndim() + 1)));
        let ones = x.shape().iter().map(|&n| if n == 1 { 1 + draws.below(20) } else { n });
        agree(x.broadcast(ones.collect::<Vec<_>>()).unwrap(), of(0), &mut draws);
    }
}

#[test]
fn copies_are_those_of_plain_loops() {
    random_copies(|i| i as f32, 1);
    random_copies(|i| i as f64, 2);
    random_copies(|i| i as i64, 3);
    random_copies(|i| i * i % 7 < 3, 4);
}

/// Large arrays, split along any axis, on any number of threads.
#[test]
fn large_copies_are_split_and_come_out_whole() {
    let base = Array::from_shape_fn((3, 67, 131, 5), |(i, j, k, l)| (((i * 67 + j) * 131 + k) * 5 + l) as f32);
    assert!(base.len() * 4 > PARALLEL);
    let views = [
        base.view().into_dyn().permuted_axes(IxDyn(&[3, 2, 0, 1])),
        base.view().into_dyn().permuted_axes(IxDyn(&[1, 0, 3, 2])),
        base.slice(s![.., ..;-1, .., ..;2]).into_dyn(),
        base.slice(s![1..2, .., .., ..])
            .into_dyn()
            .into_shape_with_order(IxDyn(&[67, 131 * 5]))
            .unwrap()
            .reversed_axes(),
    ];
    for x in views {
        let wide = x.broadcast([&[2], x.shape()].concat()).unwrap();
        let want: Vec<f32> = wide.iter().copied().collect();
        for threads in [1, 2, 5] {
            threads::set_num_threads(threads);
            assert!(to_vec(&wide) == want && *RowMajor::of(wide.view()) == want[..], "{:?}", x.shape());
        }
    }
}

#[test]
fn parts_stand_where_they_are_put() {
    let base = Array::from_shape_fn((4, 6), |(i, j)| (10 * i + j) as i64).into_dyn();
    let parts = [base.view(), base.slice(s![.., ..;-2]).into_dyn(), base.slice(s![.., 2..2]).into_dyn()];
    let joined = concat(&[4, 9], 1, &parts);
    assert_eq!(joined, ndarray::concatenate(Axis(1), &parts).unwrap());
    assert_eq!(concat::<bool>(&[0, 2], 0, &[]).shape(), [0, 2]);
    let inside = placed(parts[1].clone(), &[6, 5], &[2, 1], 7);
    assert_eq!(inside.slice(s![2.., 1..4]).into_dyn(), parts[1]);
    assert_eq!(inside.sum(), parts[1].sum() + 7 * (30 - 12));
}
