//! Attention as one operation, or as several where a kernel cannot do it: if weights are returned, if a mask needs a gradient,
//! and for the second derivative.

use ndarray::ArrayD;

use super::{AttentionMask, OP, causal, safe_softmax, unlike};
use crate::{
    Result,
    autograd::gradients_again,
    kernels::{
        attention::{self as kernel, Dropped, Heads, Layout, Stats},
        sizes::room,
    },
    tensor::{Real, Tensor, grad_enabled},
};

/// What is done with queries, keys and values.
#[derive(Clone)]
pub(super) struct Plan<T: Real> {
    /// Each broadcasts to the scores.
    pub masks: Vec<AttentionMask<T>>,
    /// Whether query i attends only to the keys 0 to i.
    pub causal: bool,
    /// The factor of the scores.
    pub scale: T,
    pub dropped: Option<Dropped>,
    pub layout: Layout,
}

/// Below this number of queries single operations are faster, if each has [`MANY`] keys: a tile is as wide as a vector.
const FEW: usize = 8;
const MANY: usize = 64;

impl<T: Real> Plan<T> {
    /// Returns an error unless the masks broadcast to the scores.
    pub fn check(&self, scores: &[usize]) -> Result<()> {
        let fits = |mask: &[usize]| {
            let skipped = scores.len().checked_sub(mask.len());
            skipped.is_some_and(|skipped| mask.iter().zip(&scores[skipped..]).all(|(&m, &n)| m == 1 || m == n))
        };
        match self.masks.iter().find(|mask| !fits(mask.shape())) {
            Some(mask) => Err(unlike(mask.shape(), scores)),
            None => Ok(()),
        }
    }

    /// Whether attention of this number of queries to this number of keys takes single operations.
    pub fn is_whole(&self, queries: usize, keys: usize) -> bool {
        queries < FEW && keys >= MANY * queries || self.masks.iter().any(AttentionMask::requires_grad)
    }

    /// The shape of the scores: `(*, L, S)`.
    fn scores(&self, inputs: &[&Tensor<T>]) -> Vec<usize> {
        let (query, key) = (inputs[0].shape(), inputs[1 % inputs.len()].shape());
        match self.layout {
            Layout::Matrices => [&query[..query.len() - 1], &[key[key.len() - 2]]].concat(),
            Layout::Features { heads } => vec![query[1], heads, query[0], key[0]],
        }
    }

    /// Calls the kernel on queries, keys and values, or on one array that holds all three side by side.
    fn with<R>(&self, inputs: &[&Tensor<T>], run: impl FnOnce(&kernel::Attention<'_, T>) -> R) -> R {
        let views: Vec<_> = inputs.iter().map(|t| t.view()).collect();
        let heads = |i: usize| match &views[..] {
            [all] => Heads::of(all, self.layout, (i, 3)),
            each => Heads::of(&each[i], self.layout, (0, 1)),
        };
        let scores = self.scores(inputs);
        run(&kernel::Attention {
            query: heads(0),
            key: heads(1),
            value: heads(2),
            masks: self.masks.iter().map(|mask| mask.heads(&scores)).collect(),
            causal: self.causal,
            scale: self.scale,
            dropped: self.dropped,
        })
    }

    /// The result, in the layout of the queries, as one operation.
    pub fn fused<const N: usize>(self, inputs: [&Tensor<T>; N]) -> Result<Tensor<T>> {
        let last = inputs[N - 1].shape()[inputs[N - 1].ndim() - 1];
        let features = if N == 1 { last / 3 } else { last };
        let lead = inputs[0].ndim() - 1;
        room::<T>(OP, &[&inputs[0].shape()[..lead], &[features]].concat())?;
        let (y, stats) =
            self.with(&inputs, |attention| kernel::forward(attention, &inputs[0].view(), features, self.layout));
        let kept = inputs.map(Tensor::clone);
        Ok(Tensor::op_with_output(OP, y, inputs, move |g, needed, y| {
            let gradients = self.gradients(&kept.each_ref(), &needed, g, y, &stats)?;
            Ok(gradients.try_into().expect("one for each input"))
        }))
    }

    fn gradients(
        &self,
        inputs: &[&Tensor<T>],
        needed: &[bool],
        g: &Tensor<T>,
        y: &Tensor<T>,
        stats: &Stats<T>,
    ) -> Result<Vec<Option<Tensor<T>>>> {
        if grad_enabled() {
            return gradients_again(inputs, needed, g, &|inputs| {
                let [q, k, v] = self.stacks(&inputs.iter().collect::<Vec<_>>())?;
                self.unstacked(&self.whole([&q, &k, &v])?[0], g.shape())
            });
        }
        let views: Vec<_> = inputs.iter().zip(needed).map(|(t, &needed)| (t.view(), needed)).collect();
        let gradients = self
            .with(inputs, |attention| kernel::backward(attention, &views, self.layout, [&g.view(), &y.view()], stats));
        Ok(gradients.into_iter().map(|gradient| gradient.map(Tensor::from)).collect())
    }

    /// What each weight is multiplied by, if some are dropped.
    fn kept(&self, weights: &Tensor<T>) -> Option<Tensor<T>> {
        self.dropped.map(|dropped| ArrayD::into(kernel::kept(dropped, weights.shape())))
    }

    /// The weights `(*, L, S)`, before any are dropped.
    pub fn weights(&self, q: &Tensor<T>, k: &Tensor<T>) -> Result<Tensor<T>> {
        let mut scores = (q * self.scale).matmul(&k.transpose(-2, -1)?)?;
        if self.causal {
            let later = causal::<T>(OP, q.size(-2)?, k.size(-2)?, 0)?.eq(T::neg_infinity())?;
            scores = scores.masked_fill(&later, T::neg_infinity())?;
        }
        for mask in &self.masks {
            let masked = scores.try_add(&mask.numbers()).ok().filter(|masked| masked.shape() == scores.shape());
            scores = masked.ok_or_else(|| unlike(mask.shape(), scores.shape()))?;
        }
        safe_softmax(&scores)
    }

    /// The result and the weights, as several operations, from stacks of matrices whose leading axes broadcast.
    pub fn whole(&self, [q, k, v]: [&Tensor<T>; 3]) -> Result<[Tensor<T>; 2]> {
        let weights = self.weights(q, k)?;
        let weights = self.kept(&weights).map_or(Ok(weights.clone()), |kept| weights.try_mul(&kept))?;
        Ok([weights.matmul(v)?, weights])
    }

    /// Queries, keys and values apart.
    pub fn parts(inputs: &[&Tensor<T>]) -> Result<[Tensor<T>; 3]> {
        let parts = match inputs {
            [all] => all.chunk(3, -1)?,
            each => each.iter().map(|&t| t.clone()).collect(),
        };
        Ok(parts.try_into().expect("three parts"))
    }

    /// Queries, keys and values as stacks of matrices with a head for each other's.
    pub fn stacks(&self, inputs: &[&Tensor<T>]) -> Result<[Tensor<T>; 3]> {
        let [q, k, v] = Self::parts(inputs)?;
        let [q, k, v] = [self.stack(&q)?, self.stack(&k)?, self.stack(&v)?];
        match (self.layout, super::heads(&q), super::heads(&k)) {
            (Layout::Matrices, n, m) if n != m && m > 0 => {
                Ok([q, k.repeat_interleave(n / m, -3)?, v.repeat_interleave(n / m, -3)?])
            }
            _ => Ok([q, k, v]),
        }
    }

    /// `(L, N, E)` as `(N, heads, L, E / heads)`.
    pub fn stack(&self, t: &Tensor<T>) -> Result<Tensor<T>> {
        let Layout::Features { heads } = self.layout else { return Ok(t.clone()) };
        let [len, batch, features] = [t.shape()[0], t.shape()[1], t.shape()[2]];
        t.reshape(&[len, batch, heads, features / heads][..])?.permute([1, 2, 0, 3])
    }

    /// A stack of results in the layout of the inputs: as `(L, N, heads · Ev)`, where the first two lengths are given.
    pub fn unstacked(&self, t: &Tensor<T>, shape: &[usize]) -> Result<Tensor<T>> {
        let Layout::Features { heads } = self.layout else { return Ok(t.clone()) };
        t.permute([2, 0, 1, 3])?.reshape(&[shape[0], shape[1], heads * t.size(-1)?][..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        autograd::{CheckOptions, grad, gradcheck, gradgradcheck},
        kernels::random::Key,
        random::{Generator, SeedableRng},
    };

    type D = Tensor<f64>;

    fn numbers(shape: &[usize], seed: u64) -> D {
        D::uniform_with(shape, -2.0, 2.0, &mut Generator::seed_from_u64(seed)).unwrap().set_requires_grad(true)
    }

    fn plan(causal: bool, masks: Vec<AttentionMask<f64>>) -> Plan<f64> {
        Plan { masks, causal, scale: 0.7, dropped: None, layout: Layout::Matrices }
    }

    /// Hides some keys of all queries, and all keys of some.
    fn hidden(shape: &[usize], seed: usize) -> Tensor<bool> {
        let keys = shape[shape.len() - 1].max(1);
        let hides = |i: usize| (i * 7 + seed).is_multiple_of(5) || (shape.len() > 1 && i / keys % 4 == 3);
        Tensor::from_vec(shape, (0..shape.iter().product()).map(hides).collect()).unwrap()
    }

    fn some_added(shape: &[usize], seed: usize) -> D {
        let all = numbers(shape, seed as u64).detach();
        all.masked_fill(&hidden(shape, seed), f64::NEG_INFINITY).unwrap()
    }

    fn same(a: &D, b: &D, case: &str) {
        assert_eq!(a.shape(), b.shape(), "{case}");
        assert!(a.allclose(b, 1e-11, 1e-12, true).unwrap(), "{case}: {a} {b}");
    }

    /// The kernel and the whole: the same results and gradients, for each part of the inputs that needs them.
    fn agree<const N: usize>(plan: &Plan<f64>, inputs: [&D; N], case: &str) {
        let y = plan.clone().fused(inputs).unwrap();
        let [q, k, v] = plan.stacks(&inputs).unwrap();
        let [whole, _] = plan.whole([&q, &k, &v]).unwrap();
        let whole = plan.unstacked(&whole, y.shape()).unwrap();
        same(&y, &whole, case);
        let weight = numbers(y.shape(), 9).detach();
        let gradients = |y: &D, of: &[&D]| grad(&[&(y * &weight).sum()], of, false).unwrap();
        let wanted = gradients(&whole, &inputs);
        for needed in (1..1 << N).filter(|&needed| needed + 1 == 1 << N || y.size(-2).unwrap() == 40) {
            let detached = inputs.map(Tensor::detach);
            let some: Vec<D> = (0..N).map(|i| detached[i].clone().set_requires_grad(needed >> i & 1 == 1)).collect();
            let y = plan.clone().fused(std::array::from_fn::<_, N, _>(|i| &some[i])).unwrap();
            let of: Vec<usize> = (0..N).filter(|i| needed >> i & 1 == 1).collect();
            let got = gradients(&y, &of.iter().map(|&i| &some[i]).collect::<Vec<_>>());
            for (got, &i) in got.iter().zip(&of) {
                same(
                    got.as_ref().unwrap(),
                    wanted[i].as_ref().unwrap(),
                    &format!("{case}, gradient {i} of {needed:b}"),
                );
            }
        }
    }

    #[test]
    fn the_kernel_computes_the_whole() {
        let features = [(1, 1), (3, 64), (64, 1), (65, 3)];
        for (n, [l, s]) in [1, 3, 40, 130].into_iter().flat_map(|l| [0, 1, 3, 40, 130].map(|s| [l, s])).enumerate() {
            let (e, ev) = features[n % 4];
            let (q, k, v) = (numbers(&[2, 2, l, e], 1), numbers(&[2, 2, s, e], 2), numbers(&[2, 2, s, ev], 3));
            let bools = |shape: &[usize]| AttentionMask::hidden(&hidden(shape, n));
            let floats = |shape: &[usize]| AttentionMask::added(&some_added(shape, n));
            let masks = [
                vec![],
                vec![bools(&[l, s])],
                vec![bools(&[2, 1, 1, s])],
                vec![floats(&[2, 2, l, s])],
                vec![floats(&[l, 1]), bools(&[s])],
                vec![bools(&[1, 2, 1, 1]), floats(&[2, 1, l, s]), floats(&[1, s])],
            ];
            for (m, masks) in masks.into_iter().enumerate() {
                for causal in [false, true] {
                    let case = format!("L {l}, S {s}, E {e}, Ev {ev}, masks {m}, causal {causal}");
                    agree(&plan(causal, masks.clone()), [&q, &k, &v], &case);
                }
            }
        }
    }

    #[test]
    fn inputs_may_be_laid_out_in_any_way() {
        let swapped = |shape: &[usize], seed| {
            let turned: Vec<usize> = shape.iter().rev().copied().collect();
            numbers(&turned, seed)
                .detach()
                .permute((0..shape.len() as isize).rev().collect::<Vec<_>>().as_slice())
                .unwrap()
                .set_requires_grad(true)
        };
        let causal =
            plan(true, vec![AttentionMask::hidden(&hidden(&[70, 90], 1).t().unwrap().contiguous().t().unwrap())]);
        agree(&causal, [&swapped(&[3, 70, 5], 1), &swapped(&[3, 90, 5], 2), &numbers(&[3, 90, 4], 3)], "turned");
        // Rows at distances that compete for the cache.
        let wide =
            |len: usize, seed| numbers(&[len, 512], seed).detach().narrow(1, 7, 20).unwrap().set_requires_grad(true);
        agree(&causal, [&wide(70, 1), &wide(90, 2), &wide(90, 3)], "far apart");
        // Several heads of queries per head of keys and values.
        let (q, k, v) = (numbers(&[2, 6, 70, 5], 1), numbers(&[2, 3, 90, 5], 2), numbers(&[2, 3, 90, 4], 3));
        agree(&causal, [&q, &k, &v], "groups");
        for heads in [1, 3] {
            let features = Plan { layout: Layout::Features { heads }, ..causal.clone() };
            agree(
                &features,
                [&numbers(&[70, 2, 6], 1), &numbers(&[90, 2, 6], 2), &numbers(&[90, 2, 3], 3)],
                "features",
            );
            let square = Plan { layout: Layout::Features { heads }, ..plan(true, vec![]) };
            agree(&square, [&numbers(&[70, 2, 18], 1)], "side by side");
        }
        // The keys of a head are divided among several tasks.
        let long = plan(true, vec![]);
        agree(&long, [&numbers(&[1, 1100, 2], 1), &numbers(&[1, 1300, 2], 2), &numbers(&[1, 1300, 3], 3)], "long");
    }

    #[test]
    fn dropped_weights_are_the_same_ones_everywhere() {
        let key = Key::of(&mut Generator::seed_from_u64(5));
        for (p, causal) in [(0.3, false), (0.3, true), (1., false)] {
            let plan = Plan { dropped: Some(Dropped { key, p }), ..plan(causal, vec![]) };
            let (q, k, v) = (numbers(&[3, 150, 4], 1), numbers(&[3, 300, 4], 2), numbers(&[3, 300, 5], 3));
            agree(&plan, [&q, &k, &v], &format!("p {p}, causal {causal}"));
            let kept: D = kernel::kept(Dropped { key, p }, &[3, 150, 300]).into();
            let share = kept.ne(0.0).unwrap().cast::<f64>().mean().item().unwrap();
            assert!((share - (1. - p)).abs() < 0.01, "{share}");
        }
    }

    #[test]
    fn extreme_scores() {
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        let values = numbers(&[1, 4, 2], 1);
        for scores in [
            vec![-inf, -inf, -inf, -inf],
            vec![-inf, 1e30, 1e30, -1e30],
            vec![0., 1e300, -1e300, 1e300],
            vec![inf, 0., 0., 0.],
            vec![0., nan, 0., -inf],
            vec![-1e30, -1e30, -1e30, -inf],
        ] {
            let mask = AttentionMask::added(&D::from_vec([1, 4], scores.clone()).unwrap());
            let plan = plan(false, vec![mask]);
            agree(&plan, [&numbers(&[1, 5, 3], 2), &numbers(&[1, 4, 3], 3), &values], &format!("{scores:?}"));
        }
        // A gradient that is not finite does not pass hidden keys.
        let plan = plan(true, vec![]);
        let (q, k) = (numbers(&[3, 2], 1), numbers(&[3, 2], 2));
        let y = plan.fused([&q, &k, &numbers(&[3, 2], 3).detach()]).unwrap();
        let g = D::from_vec([3, 2], vec![1., 1., inf, 1., 1., 1.]).unwrap();
        let gradients = crate::autograd::grad_with(&[&y], &[Some(&g)], &[&q], false).unwrap();
        let dq = gradients[0].as_ref().unwrap();
        assert!(
            dq.select(0, 0).unwrap().to_vec().iter().chain(&dq.select(0, 2).unwrap().to_vec()).all(|x| x.is_finite())
        );
    }

    #[test]
    #[should_panic(expected = "a mask that broadcasts")]
    fn a_mask_of_another_size_is_not_read() {
        let mask = AttentionMask::hidden(&hidden(&[3], 1));
        let (q, k) = (numbers(&[9, 2], 1), numbers(&[4, 2], 2));
        let _ = plan(false, vec![mask]).fused([&q, &k, &k]);
    }

    #[test]
    #[should_panic(expected = "sizes of attention")]
    fn values_of_another_number_of_keys_are_not_read() {
        let (q, k, v) = (numbers(&[9, 2], 1), numbers(&[4, 2], 2), numbers(&[3, 2], 3));
        let _ = plan(false, vec![]).fused([&q, &k, &v]);
    }

    #[test]
    fn derivatives() {
        let dropped = Some(Dropped { key: Key::of(&mut Generator::seed_from_u64(5)), p: 0.4 });
        for (causal, dropped) in [(false, None), (true, None), (false, dropped)] {
            let masks = if causal { vec![] } else { vec![AttentionMask::hidden(&hidden(&[4, 5], 1))] };
            let matrices = Plan { dropped, ..plan(causal, masks) };
            let f = |t: &[D]| matrices.clone().fused([&t[0], &t[1], &t[2]]);
            let inputs = [numbers(&[4, 4, 2], 1), numbers(&[2, 5, 2], 2), numbers(&[2, 5, 1], 3)];
            gradcheck(f, &inputs, CheckOptions::default()).unwrap();
            gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
            let features = Plan { layout: Layout::Features { heads: 2 }, dropped, ..plan(causal, vec![]) };
            let f = |t: &[D]| features.clone().fused([&t[0]]);
            gradcheck(f, &[numbers(&[4, 2, 12], 1)], CheckOptions::default()).unwrap();
            gradgradcheck(f, &[numbers(&[4, 2, 12], 1)], CheckOptions::default()).unwrap();
        }
    }

    #[test]
    fn the_bits_do_not_depend_on_the_threads() {
        let run = |threads| {
            crate::kernels::threads::with_num_threads(threads, || {
                let of = |shape: &[usize], seed| numbers(shape, seed).detach().cast::<f32>().set_requires_grad(true);
                let (q, k, v) = (of(&[3, 600, 40], 1), of(&[3, 1200, 40], 2), of(&[3, 1200, 30], 3));
                let plan = Plan { masks: vec![], causal: true, scale: 0.3f32, dropped: None, layout: Layout::Matrices };
                let y = plan.fused([&q, &k, &v]).unwrap();
                let gradients = grad(&[&y.square().sum()], &[&q, &k, &v], false).unwrap();
                let all = [y].into_iter().chain(gradients.into_iter().flatten());
                all.flat_map(|t| t.to_vec()).map(f32::to_bits).collect::<Vec<_>>()
            })
        };
        let alone = run(1);
        assert!([2, 3, 8].into_iter().all(|threads| run(threads) == alone));
    }
}
