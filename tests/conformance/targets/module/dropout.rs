//! Dropout and its variants.

use ndnn::{
    Error, Real,
    nn::{AlphaDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout},
};

use super::{Built, layer};
use crate::args::Args;

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    let p = || match a.float_or(0, "p", 0.5)? {
        // The constructors panic; for the runner this must be an error.
        p if !(0. ..=1.).contains(&p) => Err(Error::value(target, format!("{p} is not a probability"))),
        p => Ok(p),
    };
    let inplace = || a.bool_or(1, "inplace", false);
    Ok(Some(match target {
        "AlphaDropout" => layer(AlphaDropout::new(p()?).inplace(inplace()?)),
        "Dropout" => layer(Dropout::new(p()?).inplace(inplace()?)),
        "Dropout1d" => layer(Dropout1d::new(p()?).inplace(inplace()?)),
        "Dropout2d" => layer(Dropout2d::new(p()?).inplace(inplace()?)),
        "Dropout3d" => layer(Dropout3d::new(p()?).inplace(inplace()?)),
        "FeatureAlphaDropout" => layer(FeatureAlphaDropout::new(p()?).inplace(inplace()?)),
        _ => return Ok(None),
    }))
}
