use ndnn::prelude::*;

#[derive(Module)]
struct Residual<M> {
    inner: M,
}

impl<M: Forward> Forward for Residual<M> {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(x + self.inner.forward(x)?)
    }
}

fn main() {}
