//! Normalizations: statistics over channels (batch norm), over rows (layer, group, instance and RMS norm), sums over neighbouring
//! channels (local response norm), and vectors of length 1.

mod batch;
mod response;
mod rows;
mod sync;

use crate::{
    Error, Result,
    kernels::{layout::array, memory::collected, normalization as kernel},
    ops::faint,
    tensor::{Real, Tensor},
};

pub use batch::{BatchNormOptions, batch_norm};
pub(crate) use batch::{batch_norm_and_moments, towards};
pub use response::{LocalResponseNormOptions, NormalizeOptions, local_response_norm, normalize};
pub(crate) use response::{cross_map_lrn, local_response_norm_setters};
pub(crate) use rows::instance_norm_and_moments;
pub use rows::{InstanceNormOptions, group_norm, instance_norm, layer_norm, rms_norm};
pub(crate) use sync::batch_norm_of_parts;

/// Checks that each of these tensors has one number per channel of an input `(N, C, *)`.
fn per_channel<'a, T: Real>(
    op: &str,
    shape: &[usize],
    tensors: impl IntoIterator<Item = (&'static str, Option<&'a Tensor<T>>)>,
) -> Result<()> {
    let channels = shape[1];
    for (name, tensor) in tensors {
        if let Some(t) = tensor.filter(|t| t.shape() != [channels]) {
            let what = format!("the input {shape:?} has {channels} channels on axis 1, {name} is {:?}", t.shape());
            return Err(Error::shape(op, what));
        }
    }
    Ok(())
}

/// The input as a norm sees it: `[outer, groups, runs, len]`, normalized over `axes`. Each of the `groups · runs`
/// channels has a weight and a bias.
#[derive(Clone, Copy)]
struct Form {
    sizes: [usize; 4],
    axes: [isize; 2],
    /// Whether the mean is subtracted.
    centred: bool,
}

impl Form {
    /// Which weight and bias an element has.
    fn map(self) -> kernel::Map {
        let [_, groups, runs, len] = self.sizes;
        kernel::Map { channels: groups * runs, len }
    }

    /// The shape in which weight and bias broadcast with the input's form.
    fn parameters(self) -> [usize; 4] {
        let [_, groups, runs, _] = self.sizes;
        [1, groups, runs, 1]
    }

    fn of<T: Real>(self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.reshape(self.sizes.map(|n| n as isize))
    }

    /// The input multiplied by one factor per group of elements that are normalized together, and the factors. They
    /// differ from 1 for groups in which the square of a deviation overflows, or underflows while `eps` is tiny, as
    /// their `rstd` shows. `eps` must be multiplied by the square of the factor. `None` if no group needs this.
    fn balanced_if_wild<T: Real>(
        self,
        input: &Tensor<T>,
        rstd: &[T],
        eps: f64,
    ) -> Result<Option<(Tensor<T>, Tensor<T>)>> {
        if !rstd.iter().any(|&rstd| is_wild(rstd)) {
            return Ok(None);
        }
        let x = self.of(input)?;
        let axes = self.axes.map(|axis| axis as usize);
        let Some(scale) = x.balance(&axes, T::of(eps.max(0.).sqrt())) else { return Ok(None) };
        let only_wild = |(&scale, &rstd): (&T, &T)| if is_wild(rstd) { scale } else { T::ONE };
        let scale: Tensor<T> = array(scale.shape(), collected(scale.elements().iter().zip(rstd).map(only_wild))).into();
        Ok(Some((x.try_mul(&scale)?.reshape(input.shape())?, scale)))
    }
}

/// Whether a square overflowed or vanished on the way to this `1 / √(variance + ε)`.
fn is_wild<T: Real>(rstd: T) -> bool {
    !(rstd > T::ZERO && rstd < faint::<T>().sqrt().recip())
}

/// What the backward pass of a norm keeps of its inputs.
struct Affine<T: Real> {
    x: Tensor<T>,
    weight: Option<Tensor<T>>,
    /// The shape of the bias, if there is one.
    bias: Option<Vec<usize>>,
    form: Form,
}

/// `x − mean` and `1 / √(variance + ε)`, as tensors that can be differentiated.
struct Centred<T: Real> {
    centred: Tensor<T>,
    rstd: Tensor<T>,
    /// The form over which the moments were taken, if they are those of the input.
    own: Option<Form>,
}

impl<T: Real> Centred<T> {
    fn own(x: &Tensor<T>, form: Form, eps: &Tensor<T>) -> Result<Self> {
        let centred = if form.centred { x.centred(&form.axes)? } else { x.clone() };
        let rstd = centred.square().mean_dim(form.axes, true)?.try_add(eps)?.rsqrt();
        Ok(Centred { centred, rstd, own: Some(form) })
    }
}

impl<T: Real> Affine<T> {
    fn new(x: &Tensor<T>, weight: Option<&Tensor<T>>, bias: Option<&Tensor<T>>, form: Form) -> Self {
        Affine { x: x.clone(), weight: weight.cloned(), bias: bias.map(|b| b.shape().to_vec()), form }
    }

    /// The input as [`Form`] sees it.
    fn formed(&self) -> Result<Tensor<T>> {
        self.form.of(&self.x)
    }

    /// The gradients of the inputs that exist; an empty vector means that a parameter's gradient was not computed.
    fn listed(&self, dx: Option<Tensor<T>>, dw: Vec<T>, db: Vec<T>) -> Vec<Option<Tensor<T>>> {
        let channels = self.form.map().channels;
        let of = |d: Vec<T>, shape: &[usize]| (d.len() == channels).then(|| array(shape, d).into());
        let weight = self.weight.as_ref().map(|w| of(dw, w.shape()));
        let bias = self.bias.as_ref().map(|shape| of(db, shape));
        [Some(dx), weight, bias].into_iter().flatten().collect()
    }

    /// The gradients as tensors, which can be differentiated in turn.
    fn gradients(&self, g: &Tensor<T>, moments: Centred<T>) -> Result<Vec<Option<Tensor<T>>>> {
        let along = self.form.parameters();
        let g = self.form.of(g)?;
        let Centred { centred, rstd, own } = moments;
        let normal = centred.try_mul(&rstd)?;
        let scaled = match &self.weight {
            Some(w) => g.try_mul(&w.reshape(along.map(|n| n as isize))?)?,
            None => g.clone(),
        };
        let dx = match own {
            Some(form) => {
                let mean = |t: &Tensor<T>| t.mean_dim(form.axes, true);
                let along = normal.try_mul(&mean(&scaled.try_mul(&normal)?)?)?;
                let apart = if form.centred { scaled.try_sub(&mean(&scaled)?)? } else { scaled };
                apart.try_sub(&along)?.try_mul(&rstd)?
            }
            None => scaled.try_mul(&rstd)?,
        };
        let mut grads = vec![Some(dx.reshape(self.x.shape())?)];
        let per_parameter = |t: &Tensor<T>, shape: &[usize]| t.sum_to(&along)?.reshape(shape);
        if let Some(w) = &self.weight {
            grads.push(Some(per_parameter(&g.try_mul(&normal)?, w.shape())?));
        }
        if let Some(shape) = &self.bias {
            grads.push(Some(per_parameter(&g, shape)?));
        }
        Ok(grads)
    }
}
