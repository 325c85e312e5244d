//! Numbers only: ndarray views in, arrays out. SIMD and threads live here and nowhere else, and so does `unsafe`.

pub mod classes;
pub mod conv;
pub mod copy;
pub mod count;
pub mod elementwise;
pub mod gemm;
pub mod im2col;
pub mod index;
pub mod isa;
pub mod memory;
pub mod norm;
pub mod pooling;
pub mod prefetch;
pub mod products;
pub mod random;
pub mod reduce;
pub mod rows;
pub mod sizes;
pub mod softmax;
pub mod sort;
pub mod special;
pub mod threads;
pub mod update;
pub mod vmath;
