//! Elementwise maps over one, two or three arrays of dynamic rank.

use std::slice::from_raw_parts;

use ndarray::{ArrayD, ArrayViewD, IxDyn, ShapeBuilder};

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

/// `f` of each element, in no promised order; the result lies in memory as `x` does where `x` has no gaps.
#[allow(unsafe_code)]
pub fn map<A: Copy, B>(x: ArrayViewD<'_, A>, f: impl FnMut(A) -> B) -> ArrayD<B> {
    let mut f = f;
    if let Some(slice) = x.as_slice() {
        let out: Vec<B> = slice.iter().map(|&a| f(a)).collect();
        return ArrayD::from_shape_vec(x.raw_dim(), out).expect("as many elements");
    }
    if let Some(slice) = in_memory_order(&x) {
        return as_laid_out(&x, slice.iter().map(|&a| f(a)).collect());
    }
    let mut out = Vec::with_capacity(x.len());
    stretches(x.shape(), [x.strides()], |[i], [step], n| {
        // SAFETY: `stretches` walks the elements of the view's own shape and strides.
        out.extend((0..n as isize).map(|k| f(unsafe { *x.as_ptr().offset(i + k * step) })));
    });
    ArrayD::from_shape_vec(x.raw_dim(), out).expect("as many elements")
}

/// `f` of each pair of elements of two arrays broadcast to `shape`, in no promised order.
#[allow(unsafe_code)]
pub fn zip<A: Copy, B: Copy, C>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    shape: &[usize],
    f: impl FnMut(A, B) -> C,
) -> ArrayD<C> {
    let mut f = f;
    if a.shape() == b.shape() {
        if let (Some(x), Some(y)) = (a.as_slice(), b.as_slice()) {
            let out: Vec<C> = x.iter().zip(y).map(|(&p, &q)| f(p, q)).collect();
            return ArrayD::from_shape_vec(a.raw_dim(), out).expect("as many elements");
        }
        if a.strides() == b.strides()
            && let (Some(x), Some(y)) = (in_memory_order(&a), in_memory_order(&b))
        {
            return as_laid_out(&a, x.iter().zip(y).map(|(&p, &q)| f(p, q)).collect());
        }
    }
    let a = a.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let b = b.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let mut out = Vec::with_capacity(shape.iter().product());
    stretches(shape, [a.strides(), b.strides()], |[i, j], [s, t], n| {
        // SAFETY: `stretches` walks the elements of the views' own shape and strides; a step of 1 is a slice.
        unsafe {
            let (p, q) = (a.as_ptr().offset(i), b.as_ptr().offset(j));
            match (s, t) {
                (1, 1) => out.extend(from_raw_parts(p, n).iter().zip(from_raw_parts(q, n)).map(|(&x, &y)| f(x, y))),
                (1, 0) => {
                    let y = *q;
                    out.extend(from_raw_parts(p, n).iter().map(|&x| f(x, y)));
                }
                (0, 1) => {
                    let x = *p;
                    out.extend(from_raw_parts(q, n).iter().map(|&y| f(x, y)));
                }
                _ => out.extend((0..n as isize).map(|k| f(*p.offset(k * s), *q.offset(k * t)))),
            }
        }
    });
    ArrayD::from_shape_vec(IxDyn(shape), out).expect("as many elements")
}

/// `f` of each triple of elements of three arrays broadcast to `shape`, in no promised order.
#[allow(unsafe_code)]
pub fn zip3<A: Copy, B: Copy, C: Copy, D>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    c: ArrayViewD<'_, C>,
    shape: &[usize],
    f: impl FnMut(A, B, C) -> D,
) -> ArrayD<D> {
    let mut f = f;
    let a = a.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let b = b.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let c = c.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let mut out = Vec::with_capacity(shape.iter().product());
    stretches(shape, [a.strides(), b.strides(), c.strides()], |[i, j, k], [s, t, u], n| {
        // SAFETY: as in `zip`.
        unsafe {
            let (p, q, r) = (a.as_ptr().offset(i), b.as_ptr().offset(j), c.as_ptr().offset(k));
            if (s, t, u) == (1, 1, 1) {
                let (x, y, z) = (from_raw_parts(p, n), from_raw_parts(q, n), from_raw_parts(r, n));
                out.extend(x.iter().zip(y).zip(z).map(|((&x, &y), &z)| f(x, y, z)));
            } else {
                out.extend((0..n as isize).map(|k| f(*p.offset(k * s), *q.offset(k * t), *r.offset(k * u))));
            }
        }
    });
    ArrayD::from_shape_vec(IxDyn(shape), out).expect("as many elements")
}

/// The elements as they lie in memory, if there are no gaps and no axis runs backwards.
fn in_memory_order<'a, A>(x: &'a ArrayViewD<'_, A>) -> Option<&'a [A]> {
    if x.strides().iter().all(|&s| s > 0) { x.as_slice_memory_order() } else { None }
}

/// An array with the shape and strides of `like`, from elements in memory order.
fn as_laid_out<A, B>(like: &ArrayViewD<'_, A>, elements: Vec<B>) -> ArrayD<B> {
    let strides: Vec<usize> = like.strides().iter().map(|&s| s as usize).collect();
    ArrayD::from_shape_vec(like.raw_dim().strides(IxDyn(&strides)), elements).expect("the same layout")
}

/// Walks N arrays of one shape together in row-major order: calls `run(offsets, steps, n)` for every innermost stretch
/// of `n` elements. Axes that follow each other without a gap in all arrays are one stretch.
fn stretches<const N: usize>(
    shape: &[usize],
    strides: [&[isize]; N],
    mut run: impl FnMut([isize; N], [isize; N], usize),
) {
    if shape.contains(&0) {
        return;
    }
    let mut axes: Vec<(usize, [isize; N])> = Vec::with_capacity(shape.len());
    for (axis, &n) in shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
        let steps = strides.map(|s| s[axis]);
        match axes.last_mut() {
            Some((len, outer)) if outer.iter().zip(&steps).all(|(&o, &s)| o == s * n as isize) => {
                *len *= n;
                *outer = steps;
            }
            _ => axes.push((n, steps)),
        }
    }
    let (len, steps) = axes.pop().unwrap_or((1, [0; N]));
    let mut index = vec![0; axes.len()];
    let mut offsets = [0; N];
    loop {
        run(offsets, steps, len);
        let mut axis = axes.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            let (n, outer) = axes[axis];
            index[axis] += 1;
            let back = if index[axis] < n { 0 } else { n as isize };
            for (offset, step) in offsets.iter_mut().zip(outer) {
                *offset += step - back * step;
            }
            if back == 0 {
                break;
            }
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, Axis, s};

    use super::*;

    #[test]
    fn broadcasting_and_strides_agree_with_indexing() {
        let base = Array::from_shape_fn((4, 3, 5), |(i, j, k)| (100 * i + 10 * j + k) as f64).into_dyn();
        let views = [
            base.view(),
            base.view().permuted_axes(IxDyn(&[2, 0, 1])),
            base.slice(s![.., ..;-1, ..;2]).into_dyn(),
            base.slice(s![1..2, .., ..]).into_dyn(),
            base.slice(s![.., 1, ..]).into_dyn(),
            base.slice(s![0..0, .., ..]).into_dyn(),
            base.view().reversed_axes(),
        ];
        for a in &views {
            assert_eq!(map(a.view(), |x| x + 1.), a.mapv(|x| x + 1.));
            let mut row = a.slice_axis(Axis(0), (0..a.len_of(Axis(0)).min(1)).into());
            for _ in 0..2 {
                let shape = broadcast_shape(a.shape(), row.shape()).unwrap();
                let wide = row.broadcast(IxDyn(&shape)).unwrap();
                let want = &a.broadcast(IxDyn(&shape)).unwrap() - &wide;
                assert_eq!(zip(a.view(), row.view(), &shape, |x, y| x - y), want);
                assert_eq!(zip(row.view(), a.view(), &shape, |x, y| y - x), want);
                assert_eq!(zip3(a.view(), row.view(), a.view(), &shape, |x, y, z| 2. * x - y - z), want);
                if row.shape().last() != Some(&0) {
                    row.slice_axis_inplace(Axis(row.ndim() - 1), (0..1).into());
                }
            }
        }
    }

    #[test]
    fn maps_keep_the_layout() {
        let t = Array::from_shape_fn((3, 4), |(i, j)| i + 10 * j).into_dyn().reversed_axes();
        assert_eq!(map(t.view(), |x| x).strides(), t.strides());
        assert_eq!(zip(t.view(), t.view(), t.shape(), |x, y| x + y).strides(), t.strides());
    }
}
