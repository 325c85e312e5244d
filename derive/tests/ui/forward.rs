use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc: Linear,
}

#[forward]
impl Net {
    fn run(&self, x: &Tensor) -> Result<Tensor> {
        self.fc.forward(x)
    }
}

impl Net {
    #[forward]
    fn plain(&self, x: &Tensor) -> Tensor {
        x.clone()
    }

    #[forward]
    fn changing(&mut self, x: &Tensor) -> Result<Tensor> {
        self.fc.forward(x)
    }
}

#[forward(hooks)]
impl Forward for Net {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.fc.forward(x)
    }
}

fn main() {}
