//! Special functions in f64: erf and its inverse, the gamma function's logarithm and its derivatives.
