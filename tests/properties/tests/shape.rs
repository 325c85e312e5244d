//! Shape, joining, indexing, scattering and sorting against ndarray and plain loops, over random shapes.

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Slice, concatenate};
use ndnn::{Tensor, autograd::grad_with};
use proptest::prelude::*;

type X = Tensor<f64>;

/// Values without ties, zeros or a pattern that would survive swapping two axes.
fn values(shape: &[usize], seed: usize) -> X {
    let n = shape.iter().product();
    let elements = (0..n).map(|i| 2. * ((i + 1) as f64 * 0.7 + seed as f64 * 1.3).sin() + 0.1 * i as f64).collect();
    X::from_vec(shape, elements).unwrap()
}

/// The same values in column-major memory.
fn strided(x: &X) -> X {
    let back: Vec<isize> = (0..x.ndim() as isize).rev().collect();
    match x.ndim() {
        0 => x.clone(),
        _ => x.permute(back.clone()).unwrap().contiguous().permute(back).unwrap(),
    }
}

fn shape(rank: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..5, rank)
}

/// A shape of which some axes have length 1 and some leading axes are left out, and the shape itself.
fn broadcastable() -> impl Strategy<Value = (Vec<usize>, Vec<usize>)> {
    shape(0..=4).prop_flat_map(|full| {
        let n = full.len();
        (Just(full), prop::collection::vec(any::<bool>(), n), 0..=n).prop_map(|(full, ones, skip)| {
            let part = full.iter().zip(ones).map(|(&n, one)| if one { 1 } else { n }).skip(skip).collect();
            (part, full)
        })
    })
}

/// The shape of a tensor with at least one axis, one of its axes and a seed.
fn with_axis() -> impl Strategy<Value = (Vec<usize>, usize, usize)> {
    shape(1..=4).prop_flat_map(|s| (0..s.len(), Just(s), 0usize..100)).prop_map(|(axis, s, seed)| (s, axis, seed))
}

fn owned(view: ArrayViewD<'_, f64>) -> X {
    view.to_owned().into()
}

fn pseudo_random(seed: usize, n: usize, below: usize) -> Vec<usize> {
    (0..n).map(|i| ((i + 1) * 7919 + seed * 104_729) / 3 % below.max(1)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn broadcasting_is_ndarrays((part, full) in broadcastable()) {
        let x = values(&part, 1);
        let wide = x.broadcast_to(&full).unwrap();
        prop_assert_eq!(&wide, &owned(x.view().broadcast(IxDyn(&full)).unwrap()));
        let y = values(&full, 2);
        let sum: ArrayD<f64> = &y.view() + &x.view();
        prop_assert_eq!(&x + &y, X::from(sum));
        // Summing is the transpose of broadcasting: <Bx, y> = <x, Bᵀy>.
        let leaf = x.set_requires_grad(true);
        let g = grad_with(&[&leaf.broadcast_to(&full).unwrap().reshape(&full).unwrap()], &[Some(&y)], &[&leaf], false);
        let g = g.unwrap()[0].clone().unwrap();
        prop_assert!(((wide * &y).sum().item().unwrap() - (x * g).sum().item().unwrap()).abs() < 1e-9);
    }

    #[test]
    fn slicing_is_ndarrays((s, axis, seed) in with_axis(), start in -6isize..6, end in -6isize..6, step in 1usize..4) {
        let x = values(&s, seed);
        let n = s[axis] as isize;
        let clamp = |i: isize| if i < 0 { (i + n).max(0) } else { i.min(n) };
        let (from, to) = (clamp(start), clamp(end).max(clamp(start)));
        let expected = owned(x.view().slice_axis(Axis(axis), Slice::new(from, Some(to), step as isize)));
        prop_assert_eq!(&x.slice(axis as isize, start, end, step).unwrap(), &expected);
        if step == 1 {
            prop_assert_eq!(x.narrow(axis as isize, from, (to - from) as usize).unwrap(), expected);
        }
        if (-n..n).contains(&start) {
            let place = start.rem_euclid(n) as usize;
            let expected = owned(x.view().index_axis(Axis(axis), place));
            prop_assert_eq!(x.select(axis as isize, start).unwrap(), expected);
        } else {
            prop_assert!(x.select(axis as isize, start).is_err());
        }
    }

    #[test]
    fn index_select_is_ndarrays((s, axis, seed) in with_axis(), n in 0usize..6) {
        prop_assume!(s[axis] > 0);
        let x = strided(&values(&s, seed));
        let index = pseudo_random(seed, n, s[axis]);
        let places: Tensor<i64> = index.iter().map(|&i| i as i64).collect();
        let taken = x.index_select(axis as isize, &places).unwrap();
        prop_assert_eq!(taken, X::from(x.view().select(Axis(axis), &index)));
    }

    #[test]
    fn gather_and_scatter_are_loops((s, axis, seed) in with_axis(), shrink in prop::collection::vec(0usize..3, 4)) {
        prop_assume!(s[axis] > 0);
        let mut part: Vec<usize> = s.iter().zip(&shrink).map(|(&n, &k)| n.saturating_sub(k)).collect();
        part[axis] = shrink[0] + 1;
        let n: usize = part.iter().product();
        let index: Vec<i64> = pseudo_random(seed, n, s[axis]).into_iter().map(|i| i as i64).collect();
        let index = Tensor::from_vec(&part, index).unwrap();
        let (x, src) = (strided(&values(&s, seed)), strided(&values(&part, seed + 1)));
        let mut gathered = ArrayD::zeros(IxDyn(&part));
        let (mut set, mut added) = (x.clone().into_array(), x.clone().into_array());
        for (place, &i) in index.view().indexed_iter() {
            let mut there = place.clone();
            there[axis] = i as usize;
            gathered[&place] = x.view()[&there];
            set[&there] = src.view()[&place];
            added[&there] += src.view()[&place];
        }
        let dim = axis as isize;
        prop_assert_eq!(x.gather(dim, &index).unwrap(), X::from(gathered));
        prop_assert_eq!(x.scatter(dim, &index, &src).unwrap(), X::from(set));
        prop_assert_eq!(x.scatter_add(dim, &index, &src).unwrap(), X::from(added));
    }

    #[test]
    fn cat_is_ndarrays_and_split_undoes_it((s, axis, seed) in with_axis(), lengths in prop::collection::vec(1usize..4, 1..5)) {
        let piece = |(i, &n): (usize, &usize)| {
            let mut s = s.clone();
            s[axis] = n;
            strided(&values(&s, seed + i))
        };
        let pieces: Vec<X> = lengths.iter().enumerate().map(piece).collect();
        let views: Vec<_> = pieces.iter().map(|p| p.view()).collect();
        let joined = Tensor::cat(&pieces, axis as isize).unwrap();
        prop_assert_eq!(&joined, &X::from(concatenate(Axis(axis), &views).unwrap()));
        prop_assert_eq!(joined.split_with_sizes(&lengths, axis as isize).unwrap(), pieces);
    }

    #[test]
    fn sorting_is_stds((s, axis, seed) in with_axis(), descending: bool) {
        let x = strided(&values(&s, seed));
        // Few different values, so that many are equal.
        let x: X = x.view().mapv(|v| v.round()).into();
        let (sorted, places) = x.sort(axis as isize, descending).unwrap();
        let (x, sorted, places) = (x.view(), sorted.view(), places.view());
        let lanes = x.lanes(Axis(axis)).into_iter().zip(sorted.lanes(Axis(axis))).zip(places.lanes(Axis(axis)));
        for ((row, sorted), places) in lanes {
            let mut order: Vec<usize> = (0..row.len()).collect();
            order.sort_by(|&i, &j| if descending { row[j].total_cmp(&row[i]) } else { row[i].total_cmp(&row[j]) });
            let order_of = |v: f64| if v == 0. { 0. } else { v };
            for (k, &i) in order.iter().enumerate() {
                prop_assert_eq!(order_of(sorted[k]), order_of(row[i]));
                prop_assert_eq!(sorted[k], row[places[k] as usize]);
                if k > 0 && sorted[k] == sorted[k - 1] {
                    prop_assert!(places[k] > places[k - 1], "not stable");
                }
            }
        }
    }

    #[test]
    fn roll_and_flip_are_undone((s, axis, seed) in with_axis(), shift in -9isize..9) {
        let (x, dim) = (values(&s, seed), axis as isize);
        let rolled = x.roll(shift, dim).unwrap();
        if s[axis] > 0 && x.numel() > 0 {
            let first = x.select(dim, 0).unwrap();
            prop_assert_eq!(rolled.select(dim, shift.rem_euclid(s[axis] as isize)).unwrap(), first);
        }
        prop_assert_eq!(rolled.roll(-shift, dim).unwrap(), x.clone());
        prop_assert_eq!(x.flip(dim).unwrap().flip(dim).unwrap(), x);
    }
}
