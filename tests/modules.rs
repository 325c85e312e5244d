//! Modules as a user writes them: names, state, modes, copies, printing.
use ndnn::prelude::*;

#[derive(Module)]
struct Net {
    fc1: Linear,
    layers: ModuleList<Linear>,
    heads: ModuleDict<Linear>,
    mode: Mode,
    seq: Sequential,
    steps: usize,
    scale: Option<Param>,
    tied: Param,
    #[module(skip)]
    note: std::sync::Arc<str>,
}

#[derive(Module)]
struct Generic<T: Real = f32> {
    a: Linear<T>,
    b: Option<Linear<T>>,
    n: usize,
}

fn net() -> Net {
    let fc1 = Linear::new(4, 3);
    Net {
        tied: fc1.weight.clone(),
        fc1,
        layers: vec![Linear::new(2, 2), Linear::new(2, 2)],
        heads: ModuleDict::from([("a", Linear::new(2, 1))]),
        mode: Mode::default(),
        seq: sequential![Linear::new(4, 3), Linear::new(3, 1).bias(false)],
        steps: 3,
        scale: None,
        note: "n".into(),
    }
}

#[test]
fn names_and_printing() {
    let mut net = net();
    println!("{net}");
    let names: Vec<String> = net.named_parameters().into_iter().map(|(n, _)| n).collect();
    println!("{names:?}");
    println!("{:?}", net.state_dict().keys().collect::<Vec<_>>());
    println!("{:?}", net.named_modules().iter().map(|(n, _)| n.clone()).collect::<Vec<_>>());
    net.eval();
    assert!(!net.is_training() && !net.mode.is_training());
    let copy = net.clone();
    assert!(copy.tied.is_same(&copy.fc1.weight) && !copy.tied.is_same(&net.tied));
    assert!(net.scale.is_none() && net.steps == 3 && &*net.note == "n");
    let error = net.seq.forward(&Tensor::zeros([2, 5])).unwrap_err();
    println!("{error}");
    let g = Generic { a: Linear::new(2, 2), b: None, n: 1 }.dtype::<f64>();
    assert_eq!(g.a.weight.value().dtype(), ndnn::DType::F64);
    assert!(g.b.is_none() && g.n == 1);
    let s = net.seq.clone().dtype::<f64>();
    let y = s.forward(&Tensor::zeros([2, 4])).unwrap();
    println!("{y}");
    println!("{}", summary(&net.seq, &[5, 4]).unwrap());
    let mut state = net.state_dict();
    state.remove("fc1.weight");
    state.insert("seq.0.weight", Tensor::<f32>::zeros([1, 2]));
    state.insert("zzz", Tensor::<f32>::zeros([1, 2]));
    println!("{}", net.load_state_dict(&state).unwrap_err());
    println!("{}", net.load_state_dict_partial(&state));
    let b = net.to_bytes();
    net.load_bytes(&b).unwrap();
}
