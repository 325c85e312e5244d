//! Distances as layers of two inputs; see [`functional`](crate::functional).

use crate::{
    Result, forward,
    functional::{
        self as F, CosineSimilarityOptions, PairwiseDistanceOptions, cosine_similarity_setters,
        pairwise_distance_setters,
    },
    nn::Module,
    tensor::{Real, Tensor},
};

/// The cosine of the angle between vectors; see [`cosine_similarity`](F::cosine_similarity()).
///
/// ```
/// use ndnn::prelude::*;
/// let (a, b) = (Tensor::<f32>::ones([4, 5]), Tensor::ones([4, 5]));
/// assert_eq!(CosineSimilarity::new().dim(0).forward(&a, &b)?.shape(), [5]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(stateless)]
pub struct CosineSimilarity {
    options: CosineSimilarityOptions,
}

/// The distance of vectors; see [`pairwise_distance`](F::pairwise_distance()).
///
/// ```
/// use ndnn::prelude::*;
/// let (a, b) = (Tensor::ones([4, 5]), Tensor::zeros([4, 5]));
/// assert_eq!(PairwiseDistance::new().p(1.0).eps(0.0).forward(&a, &b)?, Tensor::full([4], 5.0));
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(stateless)]
pub struct PairwiseDistance {
    options: PairwiseDistanceOptions,
}

/// `new`, `default`, the setters and `forward` of a layer of two inputs.
macro_rules! distances {
    ($($layer:ident $setters:ident $function:ident;)*) => {$(
        impl $layer {
            /// With PyTorch's default options.
            pub fn new() -> Self {
                $layer { options: Default::default() }
            }

            $setters!();

            #[doc = concat!("See [`", stringify!($function), "`](F::", stringify!($function), "()).")]
            ///
            /// # Errors
            /// As the function.
            #[forward]
            pub fn forward<T: Real>(&self, x1: &Tensor<T>, x2: &Tensor<T>) -> Result<Tensor<T>> {
                F::$function(x1, x2, self.options)
            }
        }

        impl Default for $layer {
            fn default() -> Self {
                Self::new()
            }
        }
    )*};
}

distances! {
    CosineSimilarity cosine_similarity_setters cosine_similarity;
    PairwiseDistance pairwise_distance_setters pairwise_distance;
}
