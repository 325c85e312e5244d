//! Attention over long sequences in tiles: the scores of some queries at a time, which the backward pass computes again, so that
//! memory grows with the number of keys and not with that of scores.

use super::{causal, safe_softmax};
use crate::{
    Result,
    kernels::{layout::row_major, memory::filled, sizes::room, softmax},
    tensor::{Real, Tensor, grad_enabled},
};

/// The number of scores above which tiles take less memory and time than the whole.
const WHOLE: usize = 1 << 22;
/// The scores of one tile: what a second-level cache holds.
const TILE: usize = 1 << 19;

/// Whether the scores of these queries and keys, of which there are then some, are computed in tiles.
pub(super) fn pays<T: Real>(query: &Tensor<T>, key: &Tensor<T>) -> bool {
    let keys = key.shape()[key.ndim() - 2];
    let queries = &query.shape()[..query.ndim() - 1];
    // What is beyond counting is refused by the whole, for lack of memory.
    queries.iter().try_fold(keys, |product, &n| product.checked_mul(n)).is_some_and(|scores| scores > WHOLE)
}

/// What all tiles have in common.
#[derive(Clone)]
pub(super) struct Tiles<T: Real> {
    pub scale: T,
    /// Added to the scores: `(B or 1, L or 1, S or 1)`.
    pub added: Option<Tensor<T>>,
    /// Whether query i attends only to the keys 0 to i.
    pub causal: bool,
}

/// Some heads of a batch, some of their queries, and the keys that these see: the first ones.
#[derive(Clone, Copy)]
struct Tile {
    heads: (usize, usize),
    queries: (usize, usize),
    keys: usize,
}

impl Tile {
    /// The part of queries `(B, L, *)` that belongs to the tile.
    fn queries<T: Real>(&self, t: &Tensor<T>) -> Result<Tensor<T>> {
        let (from, count) = self.queries;
        t.narrow(0, self.heads.0 as isize, self.heads.1)?.narrow(1, from as isize, count)
    }

    /// The part of keys or values `(B, S, *)` that belongs to the tile.
    fn keys<T: Real>(&self, t: &Tensor<T>) -> Result<Tensor<T>> {
        t.narrow(0, self.heads.0 as isize, self.heads.1)?.narrow(1, 0, self.keys)
    }

    /// The part of a mask that belongs to the tile, where it is not the same for all.
    fn mask<T: Real>(&self, mask: &Tensor<T>) -> Result<Tensor<T>> {
        let mut part = mask.clone();
        for (axis, (from, count)) in [self.heads, self.queries].into_iter().enumerate() {
            if part.shape()[axis] > 1 {
                part = part.narrow(axis as isize, from as isize, count)?;
            }
        }
        Ok(part)
    }
}

impl<T: Real> Tiles<T> {
    /// The tiles of `[B, L, S]` scores, of at most `size` scores if the keys allow it; several heads are in one tile only if
    /// all of their queries are.
    fn tiles(&self, [batch, queries, keys]: [usize; 3], size: usize) -> Vec<Tile> {
        let rows = (size / keys).max(32).min(queries);
        let heads = if rows < queries { 1 } else { (size / (rows * keys)).clamp(1, batch) };
        let mut tiles = Vec::new();
        for head in (0..batch).step_by(heads) {
            for from in (0..queries).step_by(rows) {
                let count = rows.min(queries - from);
                let keys = if self.causal { keys.min(from + count) } else { keys };
                tiles.push(Tile { heads: (head, heads.min(batch - head)), queries: (from, count), keys });
            }
        }
        tiles
    }

    /// The weights of one tile, from its queries and keys.
    fn weights(&self, query: &Tensor<T>, key: &Tensor<T>, tile: Tile) -> Result<Tensor<T>> {
        let scores = (query * self.scale).bmm(&key.transpose(1, 2)?)?;
        let (from, count) = tile.queries;
        match &self.added {
            _ if self.causal && from + 1 < tile.keys => {
                scores.try_add(&causal(super::OP, count, tile.keys, from)?)?.softmax(-1)
            }
            Some(added) => safe_softmax(&scores.try_add(&tile.mask(added)?)?),
            None => scores.softmax(-1),
        }
    }

    /// The gradients of one tile's queries, keys and values.
    fn gradients(&self, [q, k, v, g]: [&Tensor<T>; 4], tile: Tile) -> Result<[Tensor<T>; 3]> {
        let weights = self.weights(q, k, tile)?;
        let by_weights = g.bmm(&v.transpose(1, 2)?)?;
        let by_scores = if grad_enabled() {
            let product = by_weights.try_mul(&weights)?;
            product.try_sub(&weights.try_mul(&product.sum_dim(-1, true)?)?)?
        } else {
            softmax::softmax_backward(by_weights.view(), weights.view(), 2, false).into()
        };
        let dk = by_scores.transpose(1, 2)?.bmm(&(q * self.scale))?;
        Ok([by_scores.bmm(k)? * self.scale, dk, weights.transpose(1, 2)?.bmm(g)?])
    }

    /// The result for queries `(B, L, E)`, keys `(B, S, E)` and values `(B, S, Ev)`.
    pub fn attend(self, query: &Tensor<T>, key: &Tensor<T>, value: &Tensor<T>) -> Result<Tensor<T>> {
        self.attend_in(query, key, value, TILE)
    }

    fn attend_in(self, query: &Tensor<T>, key: &Tensor<T>, value: &Tensor<T>, size: usize) -> Result<Tensor<T>> {
        let shape = [query.shape()[0], query.shape()[1], key.shape()[1]];
        let tiles = self.tiles(shape, size);
        let y = joined(&tiles, &forth(&self, [&query.detach(), &key.detach(), &value.detach()], &tiles)?)?;
        let (q, k, v) = (query.clone(), key.clone(), value.clone());
        Ok(Tensor::op(super::OP, y.into_array(), [query, key, value], move |g, _| {
            let all = [&q, &k, &v, g];
            if grad_enabled() {
                // What is differentiated again is the whole.
                let whole = Tile { heads: (0, shape[0]), queries: (0, shape[1]), keys: shape[2] };
                return Ok(self.gradients(all, whole)?.map(Some));
            }
            Ok(back(&self, all, &self.tiles(shape, size))?.map(Some))
        }))
    }
}

/// The results of all tiles.
fn forth<T: Real>(attention: &Tiles<T>, [q, k, v]: [&Tensor<T>; 3], tiles: &[Tile]) -> Result<Vec<Tensor<T>>> {
    let one = |tile: &Tile| attention.weights(&tile.queries(q)?, &tile.keys(k)?, *tile)?.bmm(&tile.keys(v)?);
    tiles.iter().map(one).collect()
}

/// The gradients of queries, keys and values, from all tiles.
fn back<T: Real>(attention: &Tiles<T>, [q, k, v, g]: [&Tensor<T>; 4], tiles: &[Tile]) -> Result<[Tensor<T>; 3]> {
    let zeros = |t: &Tensor<T>| Ok::<_, crate::Error>(filled(room::<T>(super::OP, t.shape())?, T::ZERO));
    let (mut dk, mut dv) = (zeros(k)?, zeros(v)?);
    let mut dq = Vec::with_capacity(tiles.len());
    for tile in tiles {
        let parts = [&tile.queries(q)?, &tile.keys(k)?, &tile.keys(v)?, &tile.queries(g)?];
        let [query, key, value] = attention.gradients(parts, *tile)?;
        dq.push(query);
        // A tile's keys are the first ones of its heads, and several heads have all of theirs: one run of numbers.
        for (sum, part, whole) in [(&mut dk, &key, k), (&mut dv, &value, v)] {
            let start = tile.heads.0 * whole.shape()[1] * whole.shape()[2];
            for (sum, &part) in sum[start..].iter_mut().zip(row_major(&part.view()).iter()) {
                *sum += part;
            }
        }
    }
    Ok([joined(tiles, &dq)?, Tensor::from_vec(k.shape(), dk)?, Tensor::from_vec(v.shape(), dv)?])
}

/// The queries' part of all tiles as one tensor `(B, L, *)`.
fn joined<T: Real>(tiles: &[Tile], parts: &[Tensor<T>]) -> Result<Tensor<T>> {
    let mut heads = Vec::new();
    let mut start = 0;
    while start < tiles.len() {
        let end = start + tiles[start..].iter().take_while(|tile| tile.heads == tiles[start].heads).count();
        heads.push(Tensor::cat(&parts[start..end], 1)?);
        start = end;
    }
    Tensor::cat(&heads, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::autograd::{CheckOptions, grad, gradcheck, gradgradcheck};

    type D = Tensor<f64>;

    fn numbers(shape: [usize; 3], seed: u64) -> D {
        use crate::random::{Generator, SeedableRng};
        D::uniform_with(shape, -1.0, 1.0, &mut Generator::seed_from_u64(seed)).unwrap().set_requires_grad(true)
    }

    /// A mask in which query 3 of head 0 and, if it has rows, query 40 see no key.
    fn mask(shape: [usize; 3]) -> D {
        let n = shape[1] * shape[2];
        let hidden = |i: usize| i % 7 == 3 || (shape[1] > 1 && [3, 40].contains(&(i % n / shape[2])));
        let values = (0..shape.iter().product()).map(|i| if hidden(i) { f64::NEG_INFINITY } else { (i % 5) as f64 });
        D::from_vec(shape, values.collect()).unwrap()
    }

    fn whole(tiles: &Tiles<f64>, q: &D, k: &D, v: &D) -> D {
        let mut scores = (q * tiles.scale).bmm(&k.transpose(1, 2).unwrap()).unwrap();
        if tiles.causal {
            scores = scores.try_add(&causal("test", q.shape()[1], k.shape()[1], 0).unwrap()).unwrap();
        }
        let scores = tiles.added.as_ref().map_or(scores.clone(), |added| &scores + added);
        safe_softmax(&scores).unwrap().bmm(v).unwrap()
    }

    #[test]
    fn tiles_are_the_whole() {
        // Rows of queries in several tiles, and several heads in one.
        for (size, [batch, queries, keys]) in
            [(40 * 33, [2, 70, 40]), (40 * 33, [2, 70, 90]), (1 << 13, [5, 50, 40]), (1, [1, 1, 3])]
        {
            for (masked, is_causal) in
                [(None, false), (None, true), (Some([1, 1]), false), (Some([batch, queries]), false)]
            {
                let added = masked.map(|[b, l]| mask([b, l, keys]));
                let tiles = Tiles { scale: 0.7, added, causal: is_causal };
                let (q, k) = (numbers([batch, queries, 3], 1), numbers([batch, keys, 3], 2));
                let v = numbers([batch, keys, 2], 3);
                let (a, b) = (whole(&tiles, &q, &k, &v), tiles.clone().attend_in(&q, &k, &v, size).unwrap());
                assert!(a.allclose(&b, 1e-12, 1e-14, false).unwrap());
                let weight = numbers([batch, queries, 2], 4).detach();
                let gradients = |y: D| grad(&[&(y * &weight).sum()], &[&q, &k, &v], false).unwrap();
                for (a, b) in gradients(a).into_iter().zip(gradients(b)) {
                    assert!(a.unwrap().allclose(&b.unwrap(), 1e-11, 1e-13, false).unwrap());
                }
            }
        }
    }

    #[test]
    fn derivatives() {
        for is_causal in [false, true] {
            let f = |t: &[D]| {
                let added = (!is_causal).then(|| mask([1, 1, 5]));
                Tiles { scale: 0.7, added, causal: is_causal }.attend_in(&t[0], &t[1], &t[2], 4)
            };
            let inputs = [numbers([2, 3, 2], 1), numbers([2, 5, 2], 2), numbers([2, 5, 1], 3)];
            gradcheck(f, &inputs, CheckOptions::default()).unwrap();
            gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
        }
    }
}
