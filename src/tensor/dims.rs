//! Axes and sizes as a caller writes them: `1`, `-1`, `[0, 2]`.

use crate::{Error, Result, kernels::layout::sort_falling};

/// Any integer type, for axes, sizes and positions.
pub trait Int: Copy {
    /// As `isize`; a number out of its range becomes the nearest one in it, which is longer than any axis.
    #[doc(hidden)]
    fn to_isize(self) -> isize;
}

macro_rules! int {
    ($($t:ty)*) => {$(
        impl Int for $t {
            #[inline]
            fn to_isize(self) -> isize {
                #[allow(unused_comparisons)]
                self.try_into().unwrap_or(if self < 0 { isize::MIN } else { isize::MAX })
            }
        }
    )*};
}
int! { i8 i16 i32 i64 isize u8 u16 u32 u64 usize }

/// A list of axes or sizes. A negative axis counts from the end; a negative size is computed from the others.
///
/// Made from one integer of any type, or from an array, a slice, a `Vec` or a tuple of them: `2`, `[2, -1]`, `x.shape()`,
/// `(batch, -1)`, where `batch` is a `usize`; `()` is the empty list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ints(pub Vec<isize>);

impl Ints {
    fn of<I: Int>(list: &[I]) -> Self {
        let mut all = Vec::with_capacity(list.len());
        for n in list {
            all.push(n.to_isize());
        }
        Ints(all)
    }
}

impl<I: Int> From<I> for Ints {
    fn from(one: I) -> Self {
        Ints(vec![one.to_isize()])
    }
}

impl From<()> for Ints {
    fn from((): ()) -> Self {
        Ints(Vec::new())
    }
}

macro_rules! lists {
    ($([$($generics:tt)*] $t:ty;)*) => {$(
        impl<I: Int $($generics)*> From<$t> for Ints {
            fn from(list: $t) -> Self {
                Ints::of(&list[..])
            }
        }
    )*};
}
lists! { [, const N: usize] [I; N]; [, const N: usize] &[I; N]; [] &[I]; [] Vec<I>; [] &Vec<I>; }

macro_rules! tuples {
    ($(($($t:ident $x:ident),+))*) => {$(
        impl<$($t: Int),+> From<($($t,)+)> for Ints {
            fn from(($($x,)+): ($($t,)+)) -> Self {
                Ints(vec![$($x.to_isize()),+])
            }
        }
    )*};
}
tuples! { (A a) (A a, B b) (A a, B b, C c) (A a, B b, C c, D d) (A a, B b, C c, D d, E e) (A a, B b, C c, D d, E e, F f) }

/// A list of sizes, made from one number, an array or a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub Vec<usize>);

impl From<usize> for Sizes {
    fn from(one: usize) -> Self {
        Sizes(vec![one])
    }
}

impl<const N: usize> From<[usize; N]> for Sizes {
    fn from(array: [usize; N]) -> Self {
        Sizes(array.to_vec())
    }
}

impl From<&[usize]> for Sizes {
    fn from(slice: &[usize]) -> Self {
        Sizes(slice.to_vec())
    }
}

impl From<Vec<usize>> for Sizes {
    fn from(vec: Vec<usize>) -> Self {
        Sizes(vec)
    }
}

/// The axis `dim` of `ndim` axes; a negative one counts from the end. As in PyTorch, a scalar accepts 0 and -1.
#[inline(never)]
pub(crate) fn axis(op: &str, dim: isize, ndim: usize) -> Result<usize> {
    let n = ndim.max(1) as isize;
    if dim < -n || dim >= n {
        return Err(Error::shape(
            op,
            format!("there is no axis {dim} in a tensor of {ndim} (expected {} to {})", -n, n - 1),
        ));
    }
    Ok(if dim < 0 { dim + n } else { dim } as usize)
}

/// Several axes, each given once, in ascending order; an empty list means all of them.
pub(crate) fn axes(op: &str, dims: &Ints, ndim: usize) -> Result<Vec<usize>> {
    if dims.0.is_empty() {
        return Ok(Vec::from_iter(0..ndim));
    }
    let (mut axes, mut twice) = (Vec::with_capacity(dims.0.len().min(ndim)), None);
    for &dim in &dims.0 {
        let axis = axis(op, dim, ndim)?;
        if axes.contains(&axis) {
            twice = Some(twice.map_or(axis, |first: usize| first.min(axis)));
        } else {
            axes.push(axis);
        }
    }
    if let Some(axis) = twice {
        return Err(Error::shape(op, format!("axis {axis} is named twice in {:?}", dims.0)));
    }
    sort_falling(&mut axes, |&axis| -(axis as isize));
    Ok(if ndim == 0 { Vec::new() } else { axes })
}
