//! Norms over channels: batch norm, instance norm.

use std::{
    any::Any,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use super::{affine, affine_setters};
use crate::{
    Error, Result, forward,
    functional::{self as F, BatchNormOptions, InstanceNormOptions, setters},
    kernels::{parts, sizes::room},
    module::{ExtraRepr, cloned, optional},
    nn::{Buffer, Forward, Mode, Module, ModuleExt, Param, StateDict},
    tensor::{Real, Tensor},
};

/// What a forward pass reads of a norm over channels.
struct Parts<T: Real> {
    weight: Option<Tensor<T>>,
    bias: Option<Tensor<T>>,
    running: [Option<Tensor<T>>; 2],
}

/// Whether a batch norm takes its statistics from all parts of a batch, as [`SyncBatchNorm`]. Its address tells the layer from
/// others; a copy that shares its tensors has the same.
#[derive(Default)]
struct Synced(Arc<AtomicBool>);

impl Clone for Synced {
    fn clone(&self) -> Self {
        Synced(cloned(&self.0, || Arc::new(self.0.load(Relaxed).into())))
    }
}

/// A norm over channels: its struct, its setters and what it prints, its lazy form; with the defaults of `affine` and
/// `track_running_stats`.
macro_rules! channel_norm {
    (
        $(#[$doc:meta])* $name:ident, $affine:literal, $track:literal;
        $(#[$lazy_doc:meta])* $lazy:ident, $lazy_affine:literal, $lazy_track:literal
    ) => {
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, name, upgrade)]
        pub struct $name<const N: usize, T: Real = f32> {
            /// `[num_features]`
            pub weight: Option<Param<T>>,
            /// `[num_features]`
            pub bias: Option<Param<T>>,
            /// `[num_features]`
            pub running_mean: Option<Buffer<T>>,
            /// `[num_features]`
            pub running_var: Option<Buffer<T>>,
            /// How many batches were used for the running statistics.
            pub num_batches_tracked: Option<Buffer<i64>>,
            /// Empty until the first input of a lazy layer.
            #[module(skip)]
            num_features: OnceLock<usize>,
            pub(in crate::nn) eps: f64,
            momentum: Option<f64>,
            affine: bool,
            biased: bool,
            pub(in crate::nn) mode: Mode,
            #[module(skip)]
            synced: Synced,
        }

        impl<const N: usize> $name<N> {
            /// A layer over `num_features` channels.
            #[track_caller]
            pub fn new(num_features: usize) -> Self {
                Self::of(num_features.into(), $affine, $track)
            }

            #[track_caller]
            fn of(num_features: OnceLock<usize>, affine: bool, track: bool) -> Self {
                let norm = $name {
                    weight: None,
                    bias: None,
                    running_mean: None,
                    running_var: None,
                    num_batches_tracked: None,
                    num_features,
                    eps: 1e-5,
                    momentum: Some(0.1),
                    affine,
                    biased: true,
                    mode: Mode::default(),
                    synced: Synced::default(),
                };
                norm.affine(affine).track_running_stats(track)
            }
        }

        impl<const N: usize, T: Real> $name<N, T> {
            affine_setters!(affine, $affine, |norm| norm.features().map(|n| vec![n]));

            #[doc = concat!("With or without running statistics; `", $track, "` by default.")]
            /// Without them, those of the input are always used.
            pub fn track_running_stats(mut self, track: bool) -> Self {
                let n = self.features();
                let new = |start: T| match n {
                    Some(n) => Buffer::new(Tensor::full([n], start)),
                    None => Buffer::lazy([None]),
                };
                self.running_mean = optional(self.running_mean, track, || new(T::ZERO));
                self.running_var = optional(self.running_var, track, || new(T::ONE));
                self.num_batches_tracked = optional(self.num_batches_tracked, track, || Buffer::new(Tensor::scalar(0)));
                self
            }

            /// The number of channels; `None` if it comes from the first input.
            pub(in crate::nn) fn features(&self) -> Option<usize> {
                let shapes = [self.weight.as_ref().map(Param::known_shape), self.running_mean.as_ref().map(Buffer::known_shape)];
                let known = || shapes.into_iter().flatten().find_map(|shape| shape[0]);
                self.num_features.get().copied().or_else(known)
            }

            /// The tensors for an input of this number of channels, which determines the sizes of a lazy layer.
            fn parts(&self, op: &str, channels: usize) -> Result<Parts<T>> {
                if self.num_features.get().is_none() {
                    room::<T>(op, &[channels])?;
                    // As PyTorch: a layer without tensors never learns the number.
                    let empty = self.weight.is_none() && self.running_mean.is_none();
                    let _ = self.num_features.set(self.features().unwrap_or(if empty { 0 } else { channels }));
                }
                let param = |p: &Option<Param<T>>, start: f32| Some(p.as_ref()?.tensor_or(|_| Tensor::full([channels], start)));
                let buffer = |b: &Option<Buffer<T>>, start: T| Some(b.as_ref()?.tensor_or(|_| Tensor::full([channels], start)));
                Ok(Parts {
                    weight: param(&self.weight, 1.),
                    bias: param(&self.bias, 0.),
                    running: [buffer(&self.running_mean, T::ZERO), buffer(&self.running_var, T::ONE)],
                })
            }

            /// Moves the running statistics towards those of a batch.
            fn move_running(&self, moments: &Option<[Vec<T>; 2]>, momentum: f64) {
                for (running, batch) in [&self.running_mean, &self.running_var].into_iter().zip(moments.iter().flatten()) {
                    running.iter().for_each(|r| r.update(|r| F::towards(r, batch, momentum)));
                }
            }

            /// Files of PyTorch before 0.4.1 have no count of batches.
            fn upgrade(&self, prefix: &str, state: &mut StateDict) {
                let (count, statistics) = (format!("{prefix}num_batches_tracked"), format!("{prefix}running_mean"));
                if let (Some(tracked), Some(_), None) = (&self.num_batches_tracked, state.get(&statistics), state.get(&count)) {
                    state.insert(count, tracked.tensor());
                }
            }

            fn type_name(&self) -> String {
                if self.features().is_none() { format!(concat!("Lazy", stringify!($name), "{}d"), N) } else { self.printed() }
            }

            fn extra_repr(&self) -> String {
                ExtraRepr::new()
                    .value(self.features().unwrap_or(0))
                    .named("eps", self.eps)
                    .named("momentum", self.momentum)
                    .named("affine", self.weight.is_some())
                    .named("bias", self.bias.is_some())
                    .named("track_running_stats", self.running_mean.is_some())
                    .finish()
            }
        }

        #[forward]
        impl<const N: usize, T: Real> Forward<T> for $name<N, T> {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                self.normalize(x)
            }
        }

        $(#[$lazy_doc])*
        pub enum $lazy<const N: usize> {}

        impl<const N: usize> $lazy<N> {
            /// The layer.
            #[allow(clippy::new_ret_no_self)]
            pub fn new() -> $name<N> {
                $name::of(OnceLock::new(), $lazy_affine, $lazy_track)
            }
        }
    };
}

channel_norm! {
    /// Batch norm over inputs with N spatial axes: [`BatchNorm1d`], [`BatchNorm2d`], [`BatchNorm3d`]; see
    /// [`functional::batch_norm`](crate::functional::batch_norm).
    ///
    /// Input and output `(batch, num_features, *)`. `weight` starts at 1, `bias` at 0; the running statistics are buffers.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut layer = BatchNorm2d::new(16).momentum(0.05);
    /// let y = layer.forward(&Tensor::zeros([4, 16, 8, 8]))?;     // the batch's statistics
    /// layer.eval();
    /// let y = layer.forward(&y)?;                                // the running ones
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    BatchNorm, true, true;

    /// A [`BatchNorm`] that takes `num_features` from its first input, or from a state_dict: [`LazyBatchNorm1d`],
    /// [`LazyBatchNorm2d`], [`LazyBatchNorm3d`].
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = LazyBatchNorm2d::new().momentum(0.05);
    /// assert!(layer.to_string().starts_with("LazyBatchNorm2d(0, "));
    /// let y = layer.forward(&Tensor::zeros([4, 16, 8, 8]))?;
    /// assert!(layer.to_string().starts_with("BatchNorm2d(16, "));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    LazyBatchNorm, true, true
}

/// Batch norm over `(N, C)` or `(N, C, L)`.
pub type BatchNorm1d<T = f32> = BatchNorm<1, T>;
/// Batch norm over `(N, C, H, W)`.
pub type BatchNorm2d<T = f32> = BatchNorm<2, T>;
/// Batch norm over `(N, C, D, H, W)`.
pub type BatchNorm3d<T = f32> = BatchNorm<3, T>;
/// Batch norm over `(N, C, *)`, with any number of axes, and in [`DataParallel`](crate::nn::parallel::DataParallel) with the
/// statistics of the whole batch instead of those of one part. Elsewhere it is a [`BatchNorm`].
///
/// In training the parts wait for one another at each of these layers, forward and backward, so all parts run at the same time, each on
/// a thread, and must call the same layers in the same order. If a part does not, or fails, those that wait get an error.
/// Gradients of gradients compute the forward passes of all parts again, in one graph; they cannot pass through a
/// [`checkpoint`](crate::nn::utils::checkpoint) inside the parts.
/// [`convert_sync_batchnorm`](SyncBatchNorm::convert_sync_batchnorm) makes them of the batch norms of a model.
///
/// ```
/// use ndnn::{nn::parallel::DataParallel, prelude::*};
/// let layer = SyncBatchNorm::new(16);
/// assert!(layer.to_string().starts_with("SyncBatchNorm(16, "));
/// let x = Tensor::randn([64, 16, 8]);
/// let whole = layer.forward(&x)?;
/// let parts = DataParallel::new(layer).forward(&x)?;
/// assert!((whole - parts).abs().max()?.item()? < 1e-5);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type SyncBatchNorm<T = f32> = BatchNorm<0, T>;
/// A [`BatchNorm1d`] with sizes from its first input; see [`LazyBatchNorm`].
pub type LazyBatchNorm1d = LazyBatchNorm<1>;
/// A [`BatchNorm2d`] with sizes from its first input; see [`LazyBatchNorm`].
pub type LazyBatchNorm2d = LazyBatchNorm<2>;
/// A [`BatchNorm3d`] with sizes from its first input; see [`LazyBatchNorm`].
pub type LazyBatchNorm3d = LazyBatchNorm<3>;

impl SyncBatchNorm {
    /// The model, with each [`BatchNorm`] in it made a [`SyncBatchNorm`].
    ///
    /// Fields keep their type: a `BatchNorm2d` prints and works as a `SyncBatchNorm`, and still takes inputs with 4 axes only.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let model = sequential![Conv2d::new(1, 4, 3), BatchNorm2d::new(4), ReLU];
    /// let model = SyncBatchNorm::convert_sync_batchnorm(model);
    /// assert!(model.to_string().contains("(1): SyncBatchNorm(4, "));
    /// ```
    pub fn convert_sync_batchnorm<M: Module>(module: M) -> M {
        convert(&module);
        for (_, below) in module.named_modules() {
            convert(below);
        }
        module
    }
}

/// Makes a module that is a batch norm a synced one.
fn convert(module: &dyn Module) {
    fn of<T: Real>(module: &dyn Any) {
        let synced = [
            module.downcast_ref::<BatchNorm<1, T>>().map(|norm| &norm.synced),
            module.downcast_ref::<BatchNorm<2, T>>().map(|norm| &norm.synced),
            module.downcast_ref::<BatchNorm<3, T>>().map(|norm| &norm.synced),
        ];
        synced.into_iter().flatten().for_each(|synced| synced.0.store(true, Relaxed));
    }
    of::<f32>(module);
    of::<f64>(module);
}

impl<const N: usize, T: Real> BatchNorm<N, T> {
    setters! {
        /// The weight of a batch in the running statistics; 0.1 by default. With `None` they are the average over all
        /// batches.
        momentum: into Option<f64>;
    }

    fn is_synced(&self) -> bool {
        N == 0 || self.synced.0.load(Relaxed)
    }

    fn printed(&self) -> String {
        if self.is_synced() { "SyncBatchNorm".into() } else { format!("BatchNorm{N}d") }
    }

    /// Tells this layer from others, also in a copy that shares its tensors.
    fn identity(&self) -> usize {
        Arc::as_ptr(&self.synced.0) as usize
    }

    /// Counts a training batch, and moves the running statistics towards its mean and variance.
    fn track(&self, moments: &Option<[Vec<T>; 2]>) {
        match &self.num_batches_tracked {
            // All under the lock of the count: if two threads process batches, one comes after the other, with its own
            // weight.
            Some(count) => count.update(|mut seen| {
                seen.mapv_inplace(|n| n.saturating_add(1));
                self.move_running(moments, self.momentum.unwrap_or_else(|| 1. / seen.sum() as f64));
            }),
            None => self.move_running(moments, self.momentum.unwrap_or(0.)),
        }
    }

    fn normalize(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "batch_norm";
        let ranks = match N {
            0 => 2..=usize::MAX,
            1 => 2..=3,
            _ => N + 2..=N + 2,
        };
        if !ranks.contains(&x.ndim()) {
            let axes = match N {
                0 => "2 or more".into(),
                1 => "2 or 3".into(),
                _ => (N + 2).to_string(),
            };
            return Err(Error::shape(OP, format!("expected an input of {axes} axes, got {:?}", x.shape())));
        }
        let Parts { weight, bias, running } = self.parts(OP, x.shape()[1])?;
        let training = self.mode.is_training() || running[0].is_none();
        let (weight, bias) = (weight.as_ref(), bias.as_ref());
        let part = if self.is_synced() && self.mode.is_training() { parts::here() } else { None };
        let (y, moments) = match part {
            Some(part) => F::batch_norm_of_parts(&part, self.identity(), x, weight, bias, self.eps)?,
            None => {
                let options = BatchNormOptions::default().training(training).eps(self.eps);
                F::batch_norm_and_moments(OP, x, running.each_ref().map(Option::as_ref), weight, bias, options)?
            }
        };
        if self.mode.is_training() {
            self.track(&moments);
        }
        Ok(y)
    }
}

channel_norm! {
    /// Instance norm over inputs with N spatial axes: [`InstanceNorm1d`], [`InstanceNorm2d`], [`InstanceNorm3d`]; see
    /// [`functional::instance_norm`](crate::functional::instance_norm).
    ///
    /// Input and output `(batch, num_features, *)` or, without a batch, `(num_features, *)`. Weight and bias, which start at 1
    /// and 0, and running statistics are there if asked for. Running statistics are used in evaluation mode; the count of
    /// batches stays 0, as in PyTorch. Without any of them the number of channels is not checked.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = InstanceNorm2d::new(16).affine(true);
    /// assert_eq!(layer.forward(&Tensor::zeros([4, 16, 8, 8]))?.shape(), [4, 16, 8, 8]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    InstanceNorm, false, false;

    /// An [`InstanceNorm`] that takes `num_features` from its first input, or from a state_dict: [`LazyInstanceNorm1d`],
    /// [`LazyInstanceNorm2d`], [`LazyInstanceNorm3d`]. As in PyTorch, it has weight, bias and running statistics unless they are
    /// switched off.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = LazyInstanceNorm2d::new();
    /// assert!(layer.to_string().starts_with("LazyInstanceNorm2d(0, "));
    /// let y = layer.forward(&Tensor::zeros([4, 16, 8, 8]))?;
    /// assert!(layer.to_string().starts_with("InstanceNorm2d(16, "));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    LazyInstanceNorm, true, true
}

F::by_rank! { type InstanceNorm<_, T = f32>: InstanceNorm1d, InstanceNorm2d, InstanceNorm3d }
F::by_rank! { type LazyInstanceNorm<_>: LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d }

impl<const N: usize, T: Real> InstanceNorm<N, T> {
    fn printed(&self) -> String {
        format!("InstanceNorm{N}d")
    }

    setters! {
        /// The weight of a batch in the running statistics; 0.1 by default. With `None` they do not change.
        momentum: into Option<f64>;
    }

    fn normalize(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "instance_norm";
        if x.ndim() == N + 1 {
            return self.normalize(&x.unsqueeze(0)?)?.reshape(x.shape());
        }
        if x.ndim() != N + 2 {
            let what = format!("expected an input of {} or {} axes, got {:?}", N + 1, N + 2, x.shape());
            return Err(Error::shape(OP, what));
        }
        let Parts { weight, bias, running } = self.parts(OP, x.shape()[1])?;
        let use_input_stats = self.mode.is_training() || running[0].is_none();
        let options = InstanceNormOptions::default().use_input_stats(use_input_stats).eps(self.eps);
        let running = running.each_ref().map(Option::as_ref);
        let (y, moments) = F::instance_norm_and_moments(x, running, weight.as_ref(), bias.as_ref(), options)?;
        self.move_running(&moments, self.momentum.unwrap_or(0.));
        Ok(y)
    }
}
