//! Pooling layers; see [`functional::max_pool`](crate::functional::max_pool).

use crate::{
    Result,
    error::or_panic,
    forward,
    functional::{
        self as F, AdaptiveSize, AvgPoolOptions, Dims, FractionalSize, LPPoolOptions, MaxPoolOptions, MaxUnpoolOptions,
        PyNumber,
    },
    module::ExtraRepr,
    nn::{Buffer, Forward, Module},
    tensor::{Real, Tensor},
};

/// A kernel size that is at least 1.
#[track_caller]
fn positive<const N: usize>(kernel_size: Dims<N>) -> Dims<N> {
    assert!(kernel_size.is_positive(), "a kernel size is at least 1, got {kernel_size}");
    kernel_size
}

/// One layer per row: its options and their setters, what is printed after the size of the windows and, unless its
/// `forward` is written below, its function.
macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $name:ident, $options:ty, $setters:ident, $($function:path)?,
        |$size:ident, $extra:ident, $given:ident| $repr:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, name, stateless)]
        pub struct $name<const N: usize> {
            kernel_size: Dims<N>,
            options: $options,
        }

        impl<const N: usize> $name<N> {
            /// Windows of this size, next to one another.
            #[track_caller]
            pub fn new(kernel_size: impl Into<Dims<N>>) -> Self {
                Self { kernel_size: positive(kernel_size.into()), options: Default::default() }
            }

            F::$setters!();

            fn type_name(&self) -> String {
                format!(concat!(stringify!($name), "{}d"), N)
            }

            fn extra_repr(&self) -> String {
                let ($size, $extra, $given) = (self.kernel_size, ExtraRepr::new(), self.options);
                $repr.finish()
            }
        }

        $(
            #[forward]
            impl<const N: usize, T: Real> Forward<T> for $name<N> {
                fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                    $function(x, self.kernel_size, self.options)
                }
            }
        )?
    )*};
}

layers! {
    /// The largest element of each window over N axes; see [`functional::max_pool`](crate::functional::max_pool).
    ///
    /// Input `(N, C, *sizes)` or `(C, *sizes)`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = MaxPool2d::new(2);
    /// assert_eq!(layer.to_string(), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)");
    /// assert_eq!(layer.forward(&Tensor::<f32>::zeros([8, 3, 32, 32]))?.shape(), [8, 3, 16, 16]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    MaxPool, MaxPoolOptions<N>, max_pool_setters, F::max_pool, |size, extra, o| extra
        .named("kernel_size", size)
        .named("stride", o.stride.or(size))
        .named("padding", o.padding)
        .named("dilation", o.dilation)
        .named("ceil_mode", o.ceil_mode);

    /// The mean of each window over N axes; see [`functional::avg_pool`](crate::functional::avg_pool).
    ///
    /// Input `(N, C, *sizes)` or `(C, *sizes)`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = AvgPool2d::new(3).stride(2).padding(1);
    /// assert_eq!(layer.to_string(), "AvgPool2d(kernel_size=3, stride=2, padding=1)");
    /// assert_eq!(layer.forward(&Tensor::<f32>::zeros([8, 3, 32, 32]))?.shape(), [8, 3, 16, 16]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    AvgPool, AvgPoolOptions<N>, avg_pool_setters, F::avg_pool, |size, extra, o| {
        // Over one axis PyTorch prints a tuple here, however it was given.
        let sizes = |dims: Dims<N>| if N == 1 { dims.tuple() } else { dims.to_string() };
        let extra = extra.named("kernel_size", sizes(size)).named("stride", sizes(o.stride.or(size)));
        extra.named("padding", sizes(o.padding))
    };

    /// Reverses [`MaxPool`]: places each element where it came from, among zeros; see
    /// [`functional::max_unpool`](crate::functional::max_unpool).
    ///
    /// Input and indices `(N, C, *sizes)` or `(C, *sizes)`, as [`MaxPool::forward_with_indices`] returns them.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (pool, unpool) = (MaxPool2d::new(2), MaxUnpool2d::new(2));
    /// assert_eq!(unpool.to_string(), "MaxUnpool2d(kernel_size=(2, 2), stride=(2, 2), padding=(0, 0))");
    /// let x = tensor![[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 2.0, 9.0]]];
    /// let (y, indices) = pool.forward_with_indices(&x)?;
    /// assert_eq!(unpool.forward(&y, &indices)?, tensor![[[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    MaxUnpool, MaxUnpoolOptions<N>, max_unpool_setters, , |size, extra, o| extra
        .named("kernel_size", size.tuple())
        .named("stride", o.stride.or(size).tuple())
        .named("padding", o.padding.tuple());
}

impl<const N: usize> MaxPool<N> {
    /// The output for `x`, and the position of each element, as PyTorch's `return_indices` gives it for unpooling.
    ///
    /// # Errors
    /// If `x` does not match; the error names the layer.
    #[forward]
    pub fn forward_with_indices<T: Real>(&self, x: &Tensor<T>) -> Result<(Tensor<T>, Tensor<i64>)> {
        F::max_pool_with_indices(x, self.kernel_size, self.options)
    }
}

#[forward]
impl<const N: usize> MaxUnpool<N> {
    /// The output, of the size that the pooling's windows cover.
    ///
    /// # Errors
    /// If `x` or `indices` do not match; the error names the layer.
    pub fn forward<T: Real>(&self, x: &Tensor<T>, indices: &Tensor<i64>) -> Result<Tensor<T>> {
        F::max_unpool(x, indices, self.kernel_size, self.options, None)
    }

    /// The output with these sizes: those of the pooling's input, or its shape.
    ///
    /// # Errors
    /// As [`forward`](MaxUnpool::forward); and if the size differs by a stride or more from that of `forward`.
    pub fn forward_with_output_size<T: Real>(
        &self,
        x: &Tensor<T>,
        indices: &Tensor<i64>,
        output_size: impl AsRef<[usize]>,
    ) -> Result<Tensor<T>> {
        F::max_unpool(x, indices, self.kernel_size, self.options, Some(output_size.as_ref()))
    }
}

/// The norm of each window over N axes, `(Σ x^p)^(1 / p)` with `p = norm_type`; see
/// [`functional::lp_pool`](crate::functional::lp_pool).
///
/// Input `(N, C, *sizes)` or `(C, *sizes)`.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = LPPool2d::new(1.5, 3).stride(2);
/// assert_eq!(layer.to_string(), "LPPool2d(norm_type=1.5, kernel_size=3, stride=2, ceil_mode=False)");
/// assert_eq!(layer.forward(&Tensor::<f32>::ones([8, 3, 32, 32]))?.shape(), [8, 3, 15, 15]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, name, stateless)]
pub struct LPPool<const N: usize> {
    norm_type: PyNumber,
    kernel_size: Dims<N>,
    options: LPPoolOptions<N>,
}

impl<const N: usize> LPPool<N> {
    /// Windows of this size, next to one another, and the power `norm_type`, which is not 0.
    #[track_caller]
    pub fn new(norm_type: impl Into<PyNumber>, kernel_size: impl Into<Dims<N>>) -> Self {
        let norm_type = norm_type.into();
        assert!(norm_type.get() != 0., "a norm_type is not 0");
        Self { norm_type, kernel_size: positive(kernel_size.into()), options: Default::default() }
    }

    F::lp_pool_setters!();

    fn type_name(&self) -> String {
        format!("LPPool{N}d")
    }

    fn extra_repr(&self) -> String {
        ExtraRepr::new()
            .named("norm_type", self.norm_type)
            .named("kernel_size", self.kernel_size)
            .named("stride", self.options.stride)
            .named("ceil_mode", self.options.ceil_mode)
            .finish()
    }
}

#[forward]
impl<const N: usize, T: Real> Forward<T> for LPPool<N> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::lp_pool(x, self.norm_type.get(), self.kernel_size, self.options)
    }
}

/// The layers of adaptive pooling, a row each.
macro_rules! adaptive {
    ($($(#[$doc:meta])* $name:ident = $function:path;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, name, stateless)]
        pub struct $name<const N: usize> {
            output_size: AdaptiveSize<N>,
        }

        impl<const N: usize> $name<N> {
            /// To a result with these sizes.
            pub fn new(output_size: impl Into<AdaptiveSize<N>>) -> Self {
                Self { output_size: output_size.into() }
            }

            fn type_name(&self) -> String {
                format!(concat!(stringify!($name), "{}d"), N)
            }

            fn extra_repr(&self) -> String {
                ExtraRepr::new().named("output_size", self.output_size).finish()
            }
        }

        #[forward]
        impl<const N: usize, T: Real> Forward<T> for $name<N> {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                $function(x, self.output_size)
            }
        }
    )*};
}

adaptive! {
    /// The means of windows that cover the input evenly, as many as the result is to have; see
    /// [`functional::adaptive_avg_pool`](crate::functional::adaptive_avg_pool).
    ///
    /// Input `(N, C, *sizes)` or `(C, *sizes)`, output with the sizes `output_size`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = AdaptiveAvgPool2d::new([Some(7), None]);
    /// assert_eq!(layer.to_string(), "AdaptiveAvgPool2d(output_size=(7, None))");
    /// assert_eq!(layer.forward(&Tensor::<f32>::zeros([8, 3, 32, 20]))?.shape(), [8, 3, 7, 20]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    AdaptiveAvgPool = F::adaptive_avg_pool;

    /// The largest elements of windows that cover the input evenly, as many as the result is to have; see
    /// [`functional::adaptive_max_pool`](crate::functional::adaptive_max_pool).
    ///
    /// Input `(N, C, *sizes)` or `(C, *sizes)`, output with the sizes `output_size`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = AdaptiveMaxPool2d::new(7);
    /// assert_eq!(layer.to_string(), "AdaptiveMaxPool2d(output_size=7)");
    /// assert_eq!(layer.forward(&Tensor::<f32>::zeros([8, 3, 32, 20]))?.shape(), [8, 3, 7, 7]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    AdaptiveMaxPool = F::adaptive_max_pool;
}

impl<const N: usize> AdaptiveMaxPool<N> {
    /// The output for `x`, and the position of each element, as PyTorch's `return_indices` gives it.
    ///
    /// # Errors
    /// If `x` does not match; the error names the layer.
    #[forward]
    pub fn forward_with_indices<T: Real>(&self, x: &Tensor<T>) -> Result<(Tensor<T>, Tensor<i64>)> {
        F::adaptive_max_pool_with_indices(x, self.output_size)
    }
}

/// The largest element of each window over 2 or 3 axes, with windows at steps that vary at random; see
/// [`functional::fractional_max_pool`](crate::functional::fractional_max_pool).
///
/// Input `(N, C, *sizes)` or `(C, *sizes)`. It draws in `eval` too, as in PyTorch.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = FractionalMaxPool2d::new(2, 0.7);
/// assert_eq!(layer.to_string(), "FractionalMaxPool2d()");
/// assert_eq!(layer.forward(&Tensor::<f32>::zeros([8, 3, 32, 20]))?.shape(), [8, 3, 22, 14]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(name)]
pub struct FractionalMaxPool<const N: usize, T: Real = f32> {
    /// `(N, C, number of axes)`: what to use instead of random numbers; none by default.
    #[module(name = "_random_samples")]
    pub random_samples: Option<Buffer<T>>,
    kernel_size: Dims<N>,
    output: FractionalSize<N>,
}

impl<const N: usize> FractionalMaxPool<N> {
    /// Windows of this size, and a result of this size: whole numbers, PyTorch's `output_size`, or ratios between 0 and
    /// 1, PyTorch's `output_ratio`.
    #[track_caller]
    pub fn new(kernel_size: impl Into<Dims<N>>, output: impl Into<FractionalSize<N>>) -> Self {
        let output = output.into();
        or_panic(output.check());
        Self { random_samples: None, kernel_size: positive(kernel_size.into()), output }
    }
}

impl<const N: usize, T: Real> FractionalMaxPool<N, T> {
    fn type_name(&self) -> String {
        format!("FractionalMaxPool{N}d")
    }

    /// With these numbers, `(N, C, number of axes)` and from 0 to 1, instead of random ones.
    pub fn random_samples(self, samples: Tensor<T>) -> Self {
        Self { random_samples: Some(Buffer::new(samples)), ..self }
    }

    /// The output for `x`, and the position of each element, as PyTorch's `return_indices` gives it.
    ///
    /// # Errors
    /// If `x` does not match; the error names the layer.
    #[forward]
    pub fn forward_with_indices(&self, x: &Tensor<T>) -> Result<(Tensor<T>, Tensor<i64>)> {
        let samples = self.random_samples.as_ref().map(Buffer::tensor);
        F::fractional_max_pool_with_indices(x, self.kernel_size, self.output, samples.as_ref())
    }
}

#[forward]
impl<const N: usize, T: Real> Forward<T> for FractionalMaxPool<N, T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let samples = self.random_samples.as_ref().map(Buffer::tensor);
        F::fractional_max_pool(x, self.kernel_size, self.output, samples.as_ref())
    }
}

/// [`FractionalMaxPool`] over two axes: `(N, C, H, W)` or `(C, H, W)`.
pub type FractionalMaxPool2d<T = f32> = FractionalMaxPool<2, T>;
/// [`FractionalMaxPool`] over three axes: `(N, C, D, H, W)` or `(C, D, H, W)`.
pub type FractionalMaxPool3d<T = f32> = FractionalMaxPool<3, T>;

F::by_rank! { type MaxPool<_>: MaxPool1d, MaxPool2d, MaxPool3d }
F::by_rank! { type MaxUnpool<_>: MaxUnpool1d, MaxUnpool2d, MaxUnpool3d }
F::by_rank! { type AvgPool<_>: AvgPool1d, AvgPool2d, AvgPool3d }
F::by_rank! { type LPPool<_>: LPPool1d, LPPool2d, LPPool3d }
F::by_rank! { type AdaptiveAvgPool<_>: AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d }
F::by_rank! { type AdaptiveMaxPool<_>: AdaptiveMaxPool1d, AdaptiveMaxPool2d, AdaptiveMaxPool3d }
