//! The adaptive softmax: many classes, of which a few are frequent.

use crate::{
    Error, Result, forward,
    kernels::memory::{push, try_collected},
    nn::{Forward, Linear, Module, ModuleList},
    tensor::{Real, Tensor},
};

const OP: &str = "adaptive_log_softmax_with_loss";

/// A smaller map for rare classes.
#[derive(Module)]
#[module(name = "Sequential")]
struct Cluster<T: Real = f32>(Linear<T>, Linear<T>);

/// Log softmax of many classes, ordered from frequent to rare (E. Grave et al., 2017): a head scores the frequent ones and
/// the clusters of the others, and only clusters that occur in a batch are computed.
///
/// With cutoffs `[c₁, c₂, …]` the head has the classes below `c₁`, the first cluster those from `c₁` to `c₂`, and so on, the
/// last up to `n_classes`. Cluster `i`, counted from 1, first projects to `in_features / div_valueⁱ` features. Input `(N,
/// in_features)` and target `(N)`, or `(in_features)` and a scalar.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = AdaptiveLogSoftmaxWithLoss::new(16, 1000, [20, 200]);
/// let x = Tensor::ones([3, 16]);
/// let (output, loss) = layer.forward(&x, &tensor![5, 150, 999])?;
/// assert_eq!(output.shape(), [3]);
/// assert_eq!(-output.mean().item()?, loss.item()?);
/// assert_eq!(layer.log_prob(&x)?.shape(), [3, 1000]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct AdaptiveLogSoftmaxWithLoss<T: Real = f32> {
    /// From `in_features` to the frequent classes, then the clusters.
    pub head: Linear<T>,
    tail: ModuleList<Cluster<T>>,
    /// Those of the constructor, and the number of classes.
    cutoffs: Vec<usize>,
}

impl AdaptiveLogSoftmaxWithLoss {
    /// Over `n_classes` classes, cut where `cutoffs` say; the head has no bias, and each cluster a fourth of the features of
    /// the one before it.
    ///
    /// # Panics
    /// If the cutoffs do not rise from 1 or more to less than `n_classes`, or there are none.
    #[track_caller]
    #[inline]
    pub fn new(in_features: usize, n_classes: usize, cutoffs: impl AsRef<[usize]>) -> Self {
        let cutoffs = [cutoffs.as_ref(), &[n_classes]].concat();
        assert!(
            cutoffs.len() > 1 && cutoffs[0] > 0 && cutoffs.is_sorted_by(|a, b| a < b),
            "AdaptiveLogSoftmaxWithLoss: the cutoffs are {:?}, expected at least one, rising, from 1 to {}",
            &cutoffs[..cutoffs.len() - 1],
            n_classes.saturating_sub(1)
        );
        let head = Linear::new(in_features, cutoffs[0] + (cutoffs.len() - 1)).bias(false);
        AdaptiveLogSoftmaxWithLoss { head, tail: Vec::new(), cutoffs }.div_value(4.)
    }

    /// By how much the features of each cluster are fewer than those of the one before it; 4 by default. Draws the clusters'
    /// weights again.
    ///
    /// # Panics
    /// If it is not above 0.
    #[track_caller]
    #[inline]
    pub fn div_value(mut self, div_value: f64) -> Self {
        assert!(div_value > 0., "AdaptiveLogSoftmaxWithLoss: div_value is above 0, got {div_value}");
        let in_features = self.head.weight.shape()[1];
        self.tail = Vec::new();
        for (i, ends) in self.cutoffs.windows(2).enumerate() {
            // Without the rounding of a division.
            let (features, by) = (in_features as f64, div_value.powi(i as i32 + 1));
            let hidden = ((features - features % by) / by).round() as usize;
            let cluster = [Linear::new(in_features, hidden), Linear::new(hidden, ends[1] - ends[0])];
            let [down, up] = cluster.map(|linear| linear.bias(false));
            self.tail.push(Cluster(down, up));
        }
        self
    }
}

impl<T: Real> AdaptiveLogSoftmaxWithLoss<T> {
    /// Whether the head has a bias; it has none by default.
    #[track_caller]
    pub fn head_bias(mut self, bias: bool) -> Self {
        self.head = self.head.bias(bias);
        self
    }

    fn shortlist(&self) -> usize {
        self.cutoffs[0]
    }

    /// Log probabilities within a cluster.
    fn cluster(&self, i: usize, x: &Tensor<T>) -> Result<Tensor<T>> {
        let Cluster(down, up) = &self.tail[i];
        up.forward(&down.forward(x)?)?.log_softmax(1)
    }

    /// The log probability of each sample's class, and minus their mean.
    ///
    /// # Errors
    /// If the shapes do not fit, or a target is not a class.
    #[forward]
    pub fn forward(&self, input: &Tensor<T>, target: &Tensor<i64>) -> Result<(Tensor<T>, Tensor<T>)> {
        let (x, y) = match (input.shape(), target.shape()) {
            ([n, _], [m]) if n == m => (input.clone(), target.clone()),
            ([_], []) => (input.unsqueeze(0)?, target.unsqueeze(0)?),
            (x, y) => {
                let message = format!(
                    "the input is {x:?}, the target {y:?}; expected (N, in_features) and (N), or (in_features) and a scalar"
                );
                return Err(Error::shape(OP, message));
            }
        };
        let classes = self.cutoffs[self.cutoffs.len() - 1];
        // The rows of each cluster, with their classes within it; and the class of each row in the head.
        let mut rows = vec![(Vec::new(), Vec::new()); self.tail.len()];
        let mut heads = Vec::new();
        for (row, class) in y.to_vec().into_iter().enumerate() {
            let Some(class) = usize::try_from(class).ok().filter(|&class| class < classes) else {
                let message = format!("the target of sample {row} is {class}, expected 0 to {}", classes - 1);
                return Err(Error::index(OP, message));
            };
            let above = self.cutoffs.iter().take_while(|&&cutoff| class >= cutoff).count();
            if above > 0 {
                let (rows, classes) = &mut rows[above - 1];
                push(rows, row as i64);
                push(classes, (class - self.cutoffs[above - 1]) as i64);
            }
            push(&mut heads, if above == 0 { class } else { self.shortlist() + above - 1 } as i64);
        }
        let picked = |scores: Tensor<T>, classes: Vec<i64>| {
            scores.gather(1, &Tensor::from_vec([classes.len(), 1], classes)?)?.squeeze_dim(1)
        };
        let mut output = picked(self.head.forward(&x)?.log_softmax(1)?, heads)?;
        for (i, (rows, classes)) in rows.into_iter().enumerate().filter(|(_, (rows, _))| !rows.is_empty()) {
            let rows = Tensor::from_vec([rows.len()], rows)?;
            let within = picked(self.cluster(i, &x.index_select(0, &rows)?)?, classes)?;
            output = output.index_add(0, &rows, &within)?;
        }
        let loss = -output.mean();
        Ok((if target.ndim() == 0 { output.squeeze_dim(0)? } else { output }, loss))
    }

    /// The log probabilities of all classes, `(N, n_classes)`, for an input `(N, in_features)`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn log_prob(&self, input: &Tensor<T>) -> Result<Tensor<T>> {
        if input.ndim() != 2 {
            return Err(Error::shape(OP, format!("the input is {:?}, expected (N, in_features)", input.shape())));
        }
        let head = self.head.forward(input)?.log_softmax(1)?;
        let shortlist = self.shortlist();
        let cluster = |i| self.cluster(i, input)?.try_add(&head.narrow(1, shortlist + i, 1)?);
        let clusters = (0..self.tail.len()).map(cluster);
        Tensor::cat(&try_collected(std::iter::once(head.narrow(1, 0, shortlist)).chain(clusters))?, 1)
    }

    /// The most probable class of each sample, `(N)`, for an input `(N, in_features)`.
    ///
    /// # Errors
    /// If the shape does not fit.
    pub fn predict(&self, input: &Tensor<T>) -> Result<Tensor<i64>> {
        self.log_prob(input)?.argmax(Some(1), false)
    }
}
