//! Pooling layers; see [`functional::max_pool`](crate::functional::max_pool).

use crate::{
    Result, forward,
    functional::{self as F, AvgPoolOptions, Dims, MaxPoolOptions},
    module::ExtraRepr,
    nn::{Forward, Module},
    tensor::{Real, Tensor},
};

/// One layer per row: its options and their setters, its function, and what is printed after the size of the windows.
macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $name:ident, $options:ty, $setters:ident, $function:path,
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
                let kernel_size = kernel_size.into();
                assert!(kernel_size.is_positive(), "a kernel size is at least 1, got {kernel_size}");
                Self { kernel_size, options: Default::default() }
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

        #[forward]
        impl<const N: usize, T: Real> Forward<T> for $name<N> {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                $function(x, self.kernel_size, self.options)
            }
        }
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

F::by_rank! { type MaxPool<_>: MaxPool1d, MaxPool2d, MaxPool3d }
F::by_rank! { type AvgPool<_>: AvgPool1d, AvgPool2d, AvgPool3d }
