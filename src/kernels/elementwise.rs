//! Elementwise maps over one or two arrays of dynamic rank.

use ndarray::{ArrayD, ArrayViewD, IxDyn, Zip};

/// The shape that two shapes broadcast to, as NumPy and PyTorch define it; `None` where they do not.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut out = long.to_vec();
    for (o, &s) in out.iter_mut().rev().zip(short.iter().rev()) {
        match (*o, s) {
            (x, y) if x == y => {}
            (1, y) => *o = y,
            (_, 1) => {}
            _ => return None,
        }
    }
    Some(out)
}

/// `f` of each element.
pub fn map<A: Copy, B>(x: ArrayViewD<'_, A>, f: impl FnMut(A) -> B) -> ArrayD<B> {
    let mut f = f;
    match x.as_slice() {
        Some(slice) => {
            let out: Vec<B> = slice.iter().map(|&a| f(a)).collect();
            ArrayD::from_shape_vec(x.raw_dim(), out).expect("as many elements")
        }
        None => x.map(|&a| f(a)),
    }
}

/// `f` of each pair of elements of two arrays broadcast to `shape`.
pub fn zip<A: Copy, B: Copy, C>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    shape: &[usize],
    f: impl FnMut(A, B) -> C,
) -> ArrayD<C> {
    let mut f = f;
    if a.shape() == b.shape()
        && let (Some(x), Some(y)) = (a.as_slice(), b.as_slice())
    {
        let out: Vec<C> = x.iter().zip(y).map(|(&p, &q)| f(p, q)).collect();
        return ArrayD::from_shape_vec(a.raw_dim(), out).expect("as many elements");
    }
    let a = a.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let b = b.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    Zip::from(a).and(b).map_collect(|&p, &q| f(p, q))
}
