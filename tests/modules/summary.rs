//! The summary: its text, its sums, and models of all inputs.

use std::sync::Arc;

use ndnn::{
    ErrorKind, functional as F,
    nn::{Summary, summary, summary_of},
    prelude::*,
};

use super::{common::refused, hooks::Block};

#[derive(Module)]
struct Net {
    conv1: Conv2d,
    bn: BatchNorm2d,
    pool: MaxPool2d,
    body: Sequential,
    unused: Linear,
    fc: Linear,
}

#[forward]
impl Forward for Net {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.pool.forward(&F::relu(&self.bn.forward(&self.conv1.forward(x)?)?))?;
        self.fc.forward(&self.body.forward(&x.flatten(1, -1)?)?)
    }
}

fn net() -> Net {
    let net = Net {
        conv1: Conv2d::new(1, 8, 3).padding(1),
        bn: BatchNorm2d::new(8),
        pool: MaxPool2d::new(2),
        body: sequential![Linear::new(8 * 14 * 14, 32), ReLU],
        unused: Linear::new(3, 4),
        fc: Linear::new(32, 10),
    };
    net.fc.weight.set_requires_grad(false);
    net.unused.set_requires_grad(false);
    net
}

/// In the form of torchinfo's, whose sizes these are; its multiply-adds, (M): 0.45, count biases and batch norms.
#[test]
fn a_summary_prints_as_torchinfo_does() {
    let (net, x) = (net(), Tensor::zeros([4, 1, 28, 28]));
    let table = summary(&net, &x).unwrap();
    let expected = "\
=================================================================================
Layer (type (name):depth-idx)  Input Shape     Output Shape    Param #  Mult-Adds
=================================================================================
Net                            [4, 1, 28, 28]  [4, 10]         --       --
├─Conv2d (conv1): 1-1          [4, 1, 28, 28]  [4, 8, 28, 28]  80       225,792
├─BatchNorm2d (bn): 1-2        [4, 8, 28, 28]  [4, 8, 28, 28]  16       --
├─MaxPool2d (pool): 1-3        [4, 8, 28, 28]  [4, 8, 14, 14]  --       --
├─Sequential (body): 1-4       [4, 1568]       [4, 32]         --       --
│    └─Linear (0): 2-1         [4, 1568]       [4, 32]         50,208   200,704
│    └─ReLU (1): 2-2           [4, 32]         [4, 32]         --       --
├─Linear (fc): 1-5             [4, 32]         [4, 10]         330      1,280
├─Linear (unused): 1-6         --              --              (16)     --
=================================================================================
Total params: 50,650
Trainable params: 50,314
Non-trainable params: 336
Total mult-adds (M): 0.43
=================================================================================
Input size (MB): 0.01
Forward/backward pass size (MB): 0.40
Params size (MB): 0.20
Estimated Total Size (MB): 0.62
=================================================================================";
    assert_eq!(table.to_string(), expected);
    // A convolution: N · C_out · H · W outputs of C_in · 3 · 3 products; a linear layer: N · in · out.
    assert_eq!(table.multiply_adds, 4 * 8 * 28 * 28 * 9 + 4 * 1568 * 32 + 4 * 32 * 10);
    let expected = "\
| Layer | Type | Input Shape | Output Shape | Param # | Mult-Adds |
|---|---|---|---|--:|--:|
|  | Net | [4, 1, 28, 28] | [4, 10] | -- | -- |
| `conv1` | Conv2d | [4, 1, 28, 28] | [4, 8, 28, 28] | 80 | 225,792 |
| `bn` | BatchNorm2d | [4, 8, 28, 28] | [4, 8, 28, 28] | 16 | -- |
| `pool` | MaxPool2d | [4, 8, 28, 28] | [4, 8, 14, 14] | -- | -- |
| `body` | Sequential | [4, 1568] | [4, 32] | 50,208 | 200,704 |
| `fc` | Linear | [4, 32] | [4, 10] | 330 | 1,280 |
| `unused` | Linear | -- | -- | (16) | -- |

- Total params: 50,650
- Trainable params: 50,314
- Non-trainable params: 336
- Total mult-adds (M): 0.43
- Input size (MB): 0.01
- Forward/backward pass size (MB): 0.40
- Params size (MB): 0.20
- Estimated Total Size (MB): 0.62
";
    assert_eq!(table.clone().depth(1).to_markdown(), expected);
    // The batch norm's statistics are as they were; an error names the place and leaves nothing behind.
    assert_eq!(net.bn.num_batches_tracked.as_ref().unwrap().tensor(), Tensor::scalar(0));
    refused(summary(&net, &Tensor::zeros([4, 2, 28, 28])), ErrorKind::Shape, "in Net.conv1 (Conv2d(1, 8");
    assert_eq!(summary(&net, &x).unwrap(), table);
}

/// The tree with its columns, without the heads and the sums.
fn rows(table: &Summary) -> Vec<String> {
    let cells = |line: &str| {
        let tree = line.chars().take_while(|c| "│├└─ ".contains(*c)).map(char::len_utf8).sum();
        let (tree, cells) = line.split_at(tree);
        let cells = cells.split("  ").map(str::trim).filter(|cell| !cell.is_empty());
        tree.to_string() + &cells.collect::<Vec<_>>().join(" | ")
    };
    table.to_string().lines().skip(3).take_while(|line| !line.starts_with('=')).map(cells).collect()
}

#[derive(Module)]
struct Again {
    a: Linear,
    act: Tanh,
}

#[forward]
impl Forward for Again {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        // A layer that is not a part of the model has no row.
        let x = Linear::new(4, 4).forward(x)?;
        self.a.forward(&self.act.forward(&self.a.forward(&self.a.forward(&x)?)?)?)
    }
}

#[derive(Module)]
struct Two {
    a: Arc<Linear>,
    b: Arc<Linear>,
    fails: bool,
}

impl Two {
    #[forward]
    fn forward(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let (_, y) = (self.a.forward(x)?, self.b.forward(y)?);
        if self.fails { self.a.forward(&Tensor::zeros([2, 7])) } else { Ok(y) }
    }
}

#[test]
fn what_runs_again_or_is_shared_counts_once() {
    let table = summary(&Again { a: Linear::new(4, 4), act: Tanh }, &Tensor::zeros([2, 4])).unwrap();
    let expected = [
        "Again | [2, 4] | [2, 4] | -- | 32",
        "├─Linear (a): 1-1 | [2, 4] | [2, 4] | 20 | 32",
        "├─Linear (a): 1-2 | [2, 4] | [2, 4] | (recursive) | 32",
        "├─Tanh (act): 1-3 | [2, 4] | [2, 4] | -- | --",
        "├─Linear (a): 1-4 | [2, 4] | [2, 4] | (recursive) | 32",
    ];
    assert_eq!((rows(&table), table.parameters, table.multiply_adds), (expected.map(String::from).to_vec(), 20, 128));
    assert_eq!(rows(&table.clone().hide_recursive()), [expected[0], expected[1], expected[3]]);
    // The passes of all calls, forward and backward.
    assert_eq!((table.input_bytes, table.pass_bytes, table.parameter_bytes), (32, 3 * 2 * 32, 80));
    // A module in two places has a row for each.
    let shared = Arc::new(sequential![Linear::new(4, 4), Tanh]);
    let table = summary(&sequential![shared.clone(), shared], &Tensor::zeros([2, 4])).unwrap();
    let expected = [
        "Sequential | [2, 4] | [2, 4] | -- | --",
        "├─Sequential (0): 1-1 | [2, 4] | [2, 4] | 20 | 32",
        "├─Sequential (1): 1-2 | [2, 4] | [2, 4] | (recursive) | 32",
    ];
    assert_eq!(rows(&table.depth(1)), expected);
    // Also in each further run of what is around them; and a call that failed has a row.
    let shared = Arc::new(Linear::new(4, 4));
    let mut two = Two { a: shared.clone(), b: shared, fails: false };
    let (x, y) = (Tensor::zeros([2, 4]), Tensor::zeros([3, 4]));
    let twice = || two.forward(&x, &y).and_then(|_| two.forward(&x, &y));
    let table = summary_of(&two, twice).unwrap();
    let paths: Vec<_> = table.rows.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(paths, ["", "a", "b", "", "a", "b"]);
    let expected = [
        "Two | [2, 4], [3, 4] | [3, 4] | -- | --",
        "├─Linear (a): 1-1 | [2, 4] | [2, 4] | 20 | 32",
        "├─Linear (b): 1-2 | [3, 4] | [3, 4] | (recursive) | 48",
    ];
    assert_eq!(rows(&summary_of(&two, || two.forward(&x, &y)).unwrap()), expected);
    two.fails = true;
    refused(summary_of(&two, || two.forward(&x, &y)), ErrorKind::Shape, "in Two.a (Linear(in_features=4");
    let caught = summary_of(&two, || Ok(two.forward(&x, &y).unwrap_or_else(|_| x.clone()))).unwrap();
    assert_eq!(rows(&caught)[3], "├─Linear (b): 1-3 | [2, 7] | -- | (recursive) | --");
    // A tied parameter is that of the layer which ran first; torchinfo counts it twice.
    let embedding = Embedding::new(10, 4);
    let mut head = Linear::new(4, 10).bias(false);
    head.weight = embedding.weight.clone();
    let table = summary(&sequential![embedding, head], &tensor![[1, 2, 3]]).unwrap();
    let expected = [
        "Sequential | [1, 3] | [1, 3, 10] | -- | --",
        "├─Embedding (0): 1-1 | [1, 3] | [1, 3, 4] | 40 | --",
        "├─Linear (1): 1-2 | [1, 3, 4] | [1, 3, 10] | (shared) | 120",
    ];
    assert_eq!((rows(&table), table.parameters, table.input_bytes), (expected.map(String::from).to_vec(), 40, 24));
}

/// A list does not run itself.
#[test]
fn lists_stand_around_their_layers() {
    let block = || Block { convs: vec![Linear::new(3, 3), Linear::new(3, 3)], act: Tanh };
    let table = summary(&sequential![block(), Linear::new(2, 1)], &Tensor::zeros([2, 3])).unwrap();
    let expected = [
        "Sequential | [2, 3] | [3, 1] | -- | --",
        "├─Block (0): 1-1 | [2, 3] | [3, 2] | -- | --",
        "│    └─ModuleList (convs): 2-1 | -- | -- | -- | --",
        "│    │    └─Linear (0): 3-1 | [2, 3] | [2, 3] | 12 | 18",
        "│    │    └─Linear (1): 3-2 | [2, 3] | [2, 3] | 12 | 18",
        "│    └─Tanh (act): 2-2 | [2, 3] | [2, 3] | -- | --",
        "├─Linear (1): 1-2 | [3, 2] | [3, 1] | 3 | 6",
    ];
    assert_eq!((rows(&table), table.multiply_adds), (expected.map(String::from).to_vec(), 42));
    let expected = [
        "Sequential | [2, 3] | [3, 1] | -- | --",
        "├─Block (0): 1-1 | [2, 3] | [3, 2] | -- | --",
        "│    └─ModuleList (convs): 2-1 | -- | -- | 24 | 36",
        "│    └─Tanh (act): 2-2 | [2, 3] | [2, 3] | -- | --",
        "├─Linear (1): 1-2 | [3, 2] | [3, 1] | 3 | 6",
    ];
    assert_eq!(rows(&table.clone().depth(2)), expected);
    assert_eq!(rows(&table.depth(0)), ["Sequential | [2, 3] | [3, 1] | 27 | 42"]);
    // The second pass through a block has its own list.
    #[derive(Module)]
    struct Twice {
        block: Block,
    }
    #[forward]
    impl Forward for Twice {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            self.block.forward(&self.block.forward(x)?)
        }
    }
    let twice = Twice { block: Block { convs: vec![Linear::new(2, 2)], act: Tanh } };
    let table = summary(&twice, &Tensor::zeros([1, 2])).unwrap();
    let depths: Vec<_> = table.rows.iter().map(|row| (row.depth, row.index, row.recursive)).collect();
    let first = [(1, 1, false), (2, 1, false), (3, 1, false), (2, 2, false)];
    let again = [(1, 2, true), (2, 3, true), (3, 2, true), (2, 4, true)];
    assert_eq!(depths, [&[(0, 1, false)], &first[..], &again[..]].concat());
}

#[test]
fn a_summary_is_of_models_of_all_inputs() {
    #[derive(Module)]
    struct Pair {
        w: Param,
        both: Bilinear,
    }
    #[forward]
    impl Forward<f32, (Tensor, Tensor<i64>)> for Pair {
        fn forward(&self, (x, y): &(Tensor, Tensor<i64>)) -> Result<Tensor> {
            self.both.forward(&(x * &self.w), &y.cast())
        }
    }
    let pair = Pair { w: Param::new(Tensor::ones([4])), both: Bilinear::new(4, 2, 3) };
    let table = summary(&pair, &(Tensor::ones([2, 4]), Tensor::<i64>::ones([2, 2]))).unwrap();
    let expected =
        ["Pair | [2, 4], [2, 2] | [2, 3] | 4 | --", "├─Bilinear (both): 1-1 | [2, 4], [2, 2] | [2, 3] | 27 | 48"];
    assert_eq!((rows(&table), table.input_bytes), (expected.map(String::from).to_vec(), 32 + 32));
    // A forward of several arguments, in f64; that of the LSTM returns three tensors.
    let lstm = LSTM::new(3, 5).dtype::<f64>();
    let x = Tensor::zeros([7, 2, 3]);
    let table = summary_of(&lstm, || lstm.forward(&x, None)).unwrap();
    assert_eq!(rows(&table), ["LSTM | [7, 2, 3] | [7, 2, 5], [1, 2, 5], [1, 2, 5] | 200 | 2,240"]);
    assert_eq!((table.input_bytes, table.parameter_bytes, table.pass_bytes), (42 * 8, 200 * 8, 2 * (70 + 20) * 8));
    // Attention has products of its own, and a layer that only lends its weights has a row without shapes.
    let layer = TransformerEncoderLayer::new(16, 4).dim_feedforward(32).batch_first(true);
    let table = summary(&layer, &Tensor::zeros([2, 5, 16])).unwrap();
    let attention = 2 * (4 * 5 * 16 * 16 + 2 * 5 * 5 * 16);
    assert_eq!((table.rows[1].multiply_adds, table.parameters), (attention, 2224));
    assert_eq!(table.multiply_adds, attention + 2 * 2 * 5 * 16 * 32);
    assert_eq!((table.rows[2].path.as_str(), table.rows[2].ran), ("self_attn.out_proj", false));
    // A forward that is not marked: the row of the model has the shapes all the same.
    #[derive(Module)]
    struct Unmarked {
        inner: Linear,
    }
    impl Forward for Unmarked {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            self.inner.forward(x)
        }
    }
    let table = summary(&Unmarked { inner: Linear::new(2, 1) }, &Tensor::zeros([3, 2])).unwrap();
    assert_eq!(
        rows(&table),
        ["Unmarked | [3, 2] | [3, 1] | -- | --", "├─Linear (inner): 1-1 | [3, 2] | [3, 1] | 3 | 6"]
    );
    assert!(!table.rows[0].ran && table.rows[1].ran);
    // Nothing at all.
    let table = summary_of(&Unmarked { inner: Linear::new(2, 1) }, || Ok(())).unwrap();
    assert_eq!(rows(&table), ["Unmarked | -- | -- | -- | --", "├─Linear (inner): 1-1 | -- | -- | 3 | --"]);
    assert!(table.to_string().contains("Total mult-adds (M): 0\n"), "{table}");
    let table = summary(&sequential![Flatten], &Tensor::<f32>::zeros([0, 3])).unwrap();
    assert_eq!(rows(&table)[1], "├─Flatten (0): 1-1 | [0, 3] | [0, 3] | -- | --");
}

#[test]
fn a_summary_of_lazy_layers() {
    let model = sequential![LazyLinear::new(3), LazyBatchNorm1d::new()];
    let table = summary(&model, &Tensor::ones([5, 2])).unwrap();
    assert_eq!((table.parameters, model.is_training()), (9 + 6, true));
    assert_eq!(model.state_dict().get("1.running_mean").unwrap().get(), Some(Tensor::<f32>::zeros([3])));
    let half = sequential![Linear::new(3, 2), LazyLinear::new(2)];
    let run = || half[0].forward(&Tensor::ones([5, 3]));
    refused(summary_of(&half, run), ErrorKind::State, "summary: `1.weight` has no values yet");
}
