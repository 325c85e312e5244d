//! Functions of square matrices, for parametrizations.

use crate::{
    Result,
    kernels::{elementwise::map, layout::array, linalg},
    tensor::{Real, Tensor},
};

impl<T: Real> Tensor<T> {
    /// `X` with `A X = B`, for stacks of matrices `(*, n, n)` and `(*, n, k)` of the same leading axes; not finite where a matrix is
    /// singular.
    pub(crate) fn solve(&self, b: &Tensor<T>) -> Result<Tensor<T>> {
        let (mut matrices, mut x) = (self.to_vec(), b.to_vec());
        linalg::solve(&mut matrices, &mut x, self.size(-1)?);
        let a = self.clone();
        Ok(Tensor::op_with_output("solve", array(b.shape(), x), [self, b], move |g, [da, _], x| {
            let db = a.m_t()?.solve(g)?;
            let da = if da { Some(-db.matmul(&x.m_t()?)?) } else { None };
            Ok([da, Some(db)])
        }))
    }

    /// `exp(A) = Σ Aᵏ / k!` for a stack of square matrices: the Taylor polynomial of `A / 2ˢ`, squared s times, where s is each
    /// matrix's own.
    pub(crate) fn matrix_exp(&self) -> Result<Tensor<T>> {
        if self.numel() == 0 {
            return Ok(self.clone());
        }
        let norms = self.detach().abs().cast::<f64>().sum_dim(-1, true)?.amax(-2, true)?;
        // Of numbers up to 1/2 these terms are all that can be seen.
        let terms = if T::epsilon() > T::of(1e-10) { 9 } else { 16 };
        let squarings = map(norms.data(), |n| if n.is_finite() && n > 0.5 { n.log2().ceil() as i32 + 1 } else { 0 });
        let scale = Tensor::from(map(&squarings, |s| T::of(0.5f64.powi(s))));
        let (a, one) = (self.try_mul(&scale)?, Tensor::eye(self.size(-1)?));
        let mut sum = one.broadcast_to(self.shape())?;
        for k in (1..=terms).rev() {
            sum = (a.matmul(&sum)? * T::of(1. / k as f64)).try_add(&one)?;
        }
        for done in 0..squarings.iter().copied().max().unwrap_or(0) {
            let unfinished = Tensor::from(map(&squarings, |s| s > done));
            sum = Tensor::where_(&unfinished, sum.matmul(&sum)?, sum)?;
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Large and small angles in one stack with numbers that are not finite, and one whose double is not.
    #[test]
    fn each_matrix_of_a_stack_has_its_own_exponential() {
        let turn = |angle: f64| [0., -angle, angle, 0.];
        let stack = |angles: &[f64]| {
            Tensor::from_vec([angles.len(), 2, 2], angles.iter().flat_map(|&a| turn(a)).collect()).unwrap()
        };
        let angles = [1e6, 0.3, 20., f64::INFINITY, f64::NAN, f64::MAX, 0.];
        let whole = stack(&angles).matrix_exp().unwrap();
        for (i, &angle) in angles.iter().enumerate() {
            let alone = stack(&[angle]).matrix_exp().unwrap().to_vec();
            let here = whole.select(0, i).unwrap().to_vec();
            if !angle.is_finite() {
                assert!(here.iter().all(|x| !x.is_finite()), "{angle}: {here:?}");
                continue;
            }
            // A turn by the largest angle is beyond any accuracy, but it ends.
            if angle < f64::MAX {
                assert_eq!(here, alone, "{angle}");
                let want = [angle.cos(), -angle.sin(), angle.sin(), angle.cos()];
                let error = 1e-15 * angle.max(1.);
                assert!(here.iter().zip(want).all(|(x, y)| (x - y).abs() <= 4. * error), "{angle}: {here:?}, {want:?}");
            }
        }
        assert_eq!(Tensor::<f32>::zeros([2, 0, 0]).matrix_exp().unwrap().shape(), [2, 0, 0]);
    }
}
