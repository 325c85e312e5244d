//! Filling parameters: torch.nn.init.

use crate::tensor::{Real, Tensor};

/// TEMPORARY stand-in until the random module lands.
pub(crate) fn draw<T: Real>(shape: &[usize], low: f64, high: f64) -> Tensor<T> {
    use std::sync::atomic::{AtomicU64, Ordering};
    static STATE: AtomicU64 = AtomicU64::new(1);
    let n: usize = shape.iter().product();
    let values = (0..n)
        .map(|_| {
            let mut z = STATE.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed);
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            let u = ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64;
            T::of(low + (high - low) * u)
        })
        .collect();
    Tensor::from_vec(shape, values).expect("as many values")
}
