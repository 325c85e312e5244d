//! Linear and bilinear layers, the identity, flattening.

use ndnn::{
    Error, Real,
    nn::{Bilinear, Dtype, Flatten, Identity, LazyLinear, Linear, Unflatten},
};

use super::{Built, case, layer};
use crate::{
    args::{Args, KW},
    targets::out,
};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "Bilinear" => {
            let [in1, in2] = [a.size(0, "in1_features")?, a.size(1, "in2_features")?];
            if in1 == 0 {
                return Err(Error::value("Bilinear", "in1_features must be > 0"));
            }
            let bilinear = Bilinear::new(in1, in2, a.size(2, "out_features")?).bias(a.bool_or(3, "bias", true)?);
            case(bilinear.dtype::<T>(), |m, a| Ok(out![m.forward(&a.tensor(0, "input1")?, &a.tensor(1, "input2")?)?]))
        }
        "Flatten" => layer(Flatten.start_dim(a.int_or(0, "start_dim", 1)?).end_dim(a.int_or(1, "end_dim", -1)?)),
        "Identity" => {
            // It accepts any arguments.
            (0..a.positional()).for_each(|i| a.ignore(i, ""));
            a.ignore(KW, "unused|unused1|unused2");
            layer(Identity)
        }
        "LazyLinear" => {
            layer(LazyLinear::new(a.size(0, "out_features")?).bias(a.bool_or(1, "bias", true)?).dtype::<T>())
        }
        "Linear" => {
            let linear = Linear::new(a.size(0, "in_features")?, a.size(1, "out_features")?);
            layer(linear.bias(a.bool_or(2, "bias", true)?).dtype::<T>())
        }
        "Unflatten" => layer(Unflatten::new(a.int(0, "dim")?, a.ints(1, "unflattened_size")?)),
        _ => return Ok(None),
    }))
}
