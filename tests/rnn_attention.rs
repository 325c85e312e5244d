//! Recurrent layers: layer and function agree, derivatives, names, errors; attention and transformers.

#[path = "rnn_attention/attention.rs"]
mod attention;
#[path = "rnn_attention/lengths.rs"]
mod lengths;
#[path = "rnn_attention/transformer.rs"]
mod transformer;

use ndnn::{
    AnyTensor,
    autograd::{CheckOptions, gradcheck, gradgradcheck},
    functional::{self as F, RecurrentKind, RecurrentOptions, RecurrentState, RecurrentWeights, RnnNonlinearity},
    module::hooks::Hooked,
    prelude::*,
    random::{Generator, SeedableRng},
};

type T = Tensor<f64>;

/// Numbers between -1 and 1 that are the same in each run.
fn numbers(seed: u64, shape: &[usize]) -> T {
    T::uniform_with(shape, -1.0, 1.0, &mut Generator::seed_from_u64(seed)).unwrap()
}

#[track_caller]
fn close(a: &T, b: &T) {
    assert_eq!(a.shape(), b.shape());
    assert!(a.allclose(b, 0.0, 1e-12, false).unwrap(), "{a}\n{b}");
}

fn weights(seed: u64, gates: usize, input: usize, hidden: usize, proj: usize) -> RecurrentWeights<f64> {
    let width = if proj > 0 { proj } else { hidden };
    let rows = gates * hidden;
    let of = RecurrentWeights::new(&numbers(seed, &[rows, input]), &numbers(seed + 1, &[rows, width]));
    let of = of.biases(&numbers(seed + 2, &[rows]), &numbers(seed + 3, &[rows]));
    if proj > 0 { of.projection(&numbers(seed + 4, &[proj, hidden])) } else { of }
}

/// Converts some weights to a list of tensors and back, for checking derivatives.
fn listed(weights: &[RecurrentWeights<f64>]) -> Vec<T> {
    let each = |w: &RecurrentWeights<f64>| {
        let all = [Some(w.weight_ih.clone()), Some(w.weight_hh.clone()), w.bias_ih.clone(), w.bias_hh.clone()];
        all.into_iter().chain([w.weight_hr.clone()]).flatten().collect::<Vec<T>>()
    };
    weights.iter().flat_map(each).collect()
}

fn unlisted(tensors: &[T], like: &RecurrentWeights<f64>) -> Vec<RecurrentWeights<f64>> {
    let each = listed(std::slice::from_ref(like)).len();
    let one = |t: &[T]| {
        let of = RecurrentWeights::new(&t[0], &t[1]);
        let of = if like.bias_ih.is_some() { of.biases(&t[2], &t[3]) } else { of };
        if like.weight_hr.is_some() { of.projection(&t[each - 1]) } else { of }
    };
    tensors.chunks(each).map(one).collect()
}

// ---------------------------------------------------------------------------------------------------- recurrent layers

#[test]
fn lstm_is_its_cell_step_by_step() {
    for (len, proj) in [(1, 0), (4, 0), (3, 2)] {
        let w = weights(1, 4, 2, 3, proj);
        let x = numbers(10, &[len, 5, 2]);
        let (output, (h_n, c_n)) = F::lstm(&x, None, std::slice::from_ref(&w), RecurrentOptions::default()).unwrap();
        let mut state = None;
        for t in 0..len as isize {
            let (h, c) = F::lstm_cell(&x.select(0, t).unwrap(), state, &w).unwrap();
            close(&output.select(0, t).unwrap(), &h);
            state = Some((h, c));
        }
        let (h, c) = state.unwrap();
        close(&h_n, &h.unsqueeze(0).unwrap());
        close(&c_n, &c.unsqueeze(0).unwrap());
    }
}

#[test]
fn gru_is_its_cell_step_by_step() {
    for len in [1, 4] {
        let w = weights(1, 3, 2, 3, 0);
        let x = numbers(10, &[len, 5, 2]);
        let (output, h_n) = F::gru(&x, None, std::slice::from_ref(&w), RecurrentOptions::default()).unwrap();
        let mut state = None;
        for t in 0..len as isize {
            let h = F::gru_cell(&x.select(0, t).unwrap(), state, &w).unwrap();
            close(&output.select(0, t).unwrap(), &h);
            state = Some(h);
        }
        close(&h_n, &state.unwrap().unsqueeze(0).unwrap());
    }
}

#[test]
fn gru_cell_is_its_formula() {
    let w = weights(1, 3, 2, 3, 0);
    let (x, h) = (numbers(10, &[5, 2]), numbers(11, &[5, 3]));
    let gates = |t: &T, weight: &T, bias: &Option<T>| F::linear(t, weight, bias.as_ref()).unwrap().chunk(3, 1).unwrap();
    let (i, k) = (gates(&x, &w.weight_ih, &w.bias_ih), gates(&h, &w.weight_hh, &w.bias_hh));
    let (r, z) = ((&i[0] + &k[0]).sigmoid(), (&i[1] + &k[1]).sigmoid());
    let n = (&i[2] + &(&r * &k[2])).tanh();
    let expected = &(&(&T::ones([5, 3]) - &z) * &n) + &(&z * &h);
    close(&F::gru_cell(&x, Some(h.clone()), &w).unwrap(), &expected);
    // Cells, one element at a time and as a batch.
    let cell = GRUCell::new(2, 3).dtype::<f64>();
    cell.weight_ih.set(&w.weight_ih).unwrap();
    cell.weight_hh.set(&w.weight_hh).unwrap();
    cell.bias_ih.as_ref().unwrap().set(w.bias_ih.as_ref().unwrap()).unwrap();
    cell.bias_hh.as_ref().unwrap().set(w.bias_hh.as_ref().unwrap()).unwrap();
    close(&cell.forward(&x, Some(h.clone())).unwrap(), &expected);
    let one = |t: &T| t.select(0, 2).unwrap();
    close(&cell.forward(&one(&x), Some(one(&h))).unwrap(), &one(&expected));
    // Inputs that are not row-major.
    let strided = |t: &T| t.t().unwrap().contiguous().t().unwrap();
    close(&cell.forward(&strided(&x), Some(strided(&h))).unwrap(), &expected);
    cell.forward(&x, Some(h)).unwrap().sum().backward().unwrap();
    assert!(cell.parameters().iter().all(|p| p.has_grad()));
}

#[test]
fn rnn_is_its_formula_step_by_step() {
    let w = weights(1, 1, 2, 3, 0);
    let (x, start) = (numbers(10, &[4, 5, 2]), numbers(11, &[1, 5, 3]));
    for (nonlinearity, word) in [(RnnNonlinearity::Tanh, "tanh"), (RnnNonlinearity::Relu, "relu")] {
        let options = RecurrentOptions::default();
        let all = std::slice::from_ref(&w);
        let (output, last) = F::rnn(&x, Some(start.clone()), all, nonlinearity, options).unwrap();
        let cell = RNNCell::new(2, 3).nonlinearity(word).dtype::<f64>();
        cell.weight_ih.set(&w.weight_ih).unwrap();
        cell.weight_hh.set(&w.weight_hh).unwrap();
        cell.bias_ih.as_ref().unwrap().set(w.bias_ih.as_ref().unwrap()).unwrap();
        cell.bias_hh.as_ref().unwrap().set(w.bias_hh.as_ref().unwrap()).unwrap();
        let mut h = start.select(0, 0).unwrap();
        for (t, step) in x.unbind(0).unwrap().iter().enumerate() {
            let by_cell = cell.forward(step, Some(h.clone())).unwrap();
            let part = |x: &T, weight: &T, bias: &Option<T>| F::linear(x, weight, bias.as_ref()).unwrap();
            let sum = part(step, &w.weight_ih, &w.bias_ih) + part(&h, &w.weight_hh, &w.bias_hh);
            h = if word == "tanh" { sum.tanh() } else { F::relu(&sum) };
            close(&by_cell, &h);
            close(&output.select(0, t as isize).unwrap(), &h);
        }
        close(&last.select(0, 0).unwrap(), &h);
    }
}

#[test]
fn rnn_derivatives() {
    for nonlinearity in [RnnNonlinearity::Tanh, RnnNonlinearity::Relu] {
        let all = [weights(5, 1, 2, 3, 0), weights(15, 1, 2, 3, 0)];
        let inputs = [vec![numbers(1, &[3, 2, 2]), numbers(2, &[2, 2, 3])], listed(&all)].concat();
        let f = |t: &[T]| {
            let options = RecurrentOptions::default().bidirectional(true);
            F::rnn(&t[0], Some(t[1].clone()), &unlisted(&t[2..], &all[0]), nonlinearity, options)
        };
        gradcheck(f, &inputs, CheckOptions::default()).unwrap();
        gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
    }
}

#[test]
#[should_panic(expected = "nonlinearity: there is no \"sigmoid\"; expected one of \"tanh\", \"relu\"")]
fn rnn_knows_two_nonlinearities() {
    let _ = RNN::new(2, 3).nonlinearity("sigmoid");
}

#[test]
fn lstm_cell_layer_and_function_agree() {
    let cell = LSTMCell::new(2, 3).bias(false).dtype::<f64>();
    let w = RecurrentWeights::new(&cell.weight_ih.tensor(), &cell.weight_hh.tensor());
    let (x, h, c) = (numbers(10, &[5, 2]), numbers(11, &[5, 3]), numbers(12, &[5, 3]));
    let (h1, c1) = cell.forward(&x, Some((h.clone(), c.clone()))).unwrap();
    let (h2, c2) = F::lstm_cell(&x, Some((h, c)), &w).unwrap();
    close(&h1, &h2);
    close(&c1, &c2);
}

#[test]
fn backwards_is_forwards_over_the_reversed_sequence() {
    let x = numbers(10, &[4, 5, 2]);
    let options = RecurrentOptions::default();
    let both = [weights(1, 4, 2, 3, 0), weights(20, 4, 2, 3, 0)];
    let (output, (h, c)) = F::lstm(&x, None, &both, options.bidirectional(true)).unwrap();
    let (first, (h0, _)) = F::lstm(&x, None, &both[..1], options).unwrap();
    let (second, (_, c1)) = F::lstm(&x.flip(0).unwrap(), None, &both[1..], options).unwrap();
    close(&output, &T::cat(&[first, second.flip(0).unwrap()], -1).unwrap());
    close(&h.narrow(0, 0, 1).unwrap(), &h0);
    close(&c.narrow(0, 1, 1).unwrap(), &c1);
    let both = [weights(1, 3, 2, 3, 0), weights(20, 3, 2, 3, 0)];
    let (output, h) = F::gru(&x, None, &both, options.bidirectional(true)).unwrap();
    let (first, h0) = F::gru(&x, None, &both[..1], options).unwrap();
    let (second, h1) = F::gru(&x.flip(0).unwrap(), None, &both[1..], options).unwrap();
    close(&output, &T::cat(&[first, second.flip(0).unwrap()], -1).unwrap());
    close(&h, &T::cat(&[h0, h1], 0).unwrap());
}

/// The weights of a layer, as its function takes them.
fn weights_of<K: RecurrentKind>(layer: &Recurrent<K, f64>, places: &[&str]) -> Vec<RecurrentWeights<f64>> {
    let get = |name: String| layer.weight(&name).map(|p| p.tensor());
    let at = |place: &&str| RecurrentWeights {
        weight_ih: get(format!("weight_ih_{place}")).unwrap(),
        weight_hh: get(format!("weight_hh_{place}")).unwrap(),
        bias_ih: get(format!("bias_ih_{place}")),
        bias_hh: get(format!("bias_hh_{place}")),
        weight_hr: get(format!("weight_hr_{place}")),
    };
    places.iter().map(at).collect()
}

const PLACES: [&str; 4] = ["l0", "l0_reverse", "l1", "l1_reverse"];

#[test]
fn lstm_layer_and_function_agree() {
    let lstm = LSTM::new(4, 5).num_layers(2).bidirectional(true).proj_size(3).batch_first(true).dtype::<f64>();
    let (x, h, c) = (numbers(1, &[2, 6, 4]), numbers(2, &[4, 2, 3]), numbers(3, &[4, 2, 5]));
    let options = RecurrentOptions::default().bidirectional(true).batch_first(true);
    let all = weights_of(&lstm, &PLACES);
    let (expected, (h1, c1)) = F::lstm(&x, Some((h.clone(), c.clone())), &all, options).unwrap();
    let (output, (h2, c2)) = lstm.forward(&x, Some((h, c))).unwrap();
    close(&output, &expected);
    close(&h2, &h1);
    close(&c2, &c1);
    assert_eq!((output.shape(), h1.shape(), c1.shape()), (&[2, 6, 6][..], &[4, 2, 3][..], &[4, 2, 5][..]));
    output.sum().backward().unwrap();
    assert!(lstm.parameters().iter().all(|p| p.has_grad()));
    // Without a batch axis the results are those of a batch of one.
    let one = x.select(0, 1).unwrap();
    let (alone, (h, _)) = lstm.forward(&one, None).unwrap();
    let (batch, (hb, _)) = lstm.forward(&one.unsqueeze(0).unwrap(), None).unwrap();
    close(&alone, &batch.select(0, 0).unwrap());
    close(&h, &hb.select(1, 0).unwrap());
}

#[test]
fn gru_layer_and_function_agree() {
    let gru = GRU::new(4, 5).num_layers(2).bidirectional(true).batch_first(true).dtype::<f64>();
    let (x, h) = (numbers(1, &[2, 6, 4]), numbers(2, &[4, 2, 5]));
    let options = RecurrentOptions::default().bidirectional(true).batch_first(true);
    let (expected, h1) = F::gru(&x, Some(h.clone()), &weights_of(&gru, &PLACES), options).unwrap();
    let (output, h2) = gru.forward(&x, Some(h.clone())).unwrap();
    close(&output, &expected);
    close(&h2, &h1);
    assert_eq!((output.shape(), h1.shape()), (&[2, 6, 10][..], &[4, 2, 5][..]));
    output.sum().backward().unwrap();
    assert!(gru.parameters().iter().all(|p| p.has_grad()));
    // With the batch as second axis, and without a batch.
    let (second, h3) = gru.clone().batch_first(false).forward(&x.transpose(0, 1).unwrap(), Some(h.clone())).unwrap();
    close(&second.transpose(0, 1).unwrap(), &output);
    close(&h3, &h2);
    let (alone, h4) = gru.forward(&x.select(0, 1).unwrap(), Some(h.select(1, 1).unwrap())).unwrap();
    close(&alone, &output.select(0, 1).unwrap());
    close(&h4, &h2.select(1, 1).unwrap());
    // Step by step gives the same as the whole sequence.
    let one_way = GRU::new(4, 5).num_layers(2).dtype::<f64>();
    let (x, mut h, mut parts) = (numbers(1, &[6, 2, 4]), None, Vec::new());
    for part in x.chunk(3, 0).unwrap() {
        let (output, last) = one_way.forward(&part, h).unwrap();
        parts.push(output);
        h = Some(last);
    }
    let (whole, last) = one_way.forward(&x, None).unwrap();
    close(&T::cat(&parts, 0).unwrap(), &whole);
    close(&h.unwrap(), &last);
}

#[test]
fn lstm_derivatives() {
    let all = [weights(5, 4, 2, 2, 1), weights(15, 4, 2, 2, 1)];
    let mut inputs = vec![numbers(1, &[3, 2, 2]), numbers(2, &[2, 2, 1]), numbers(3, &[2, 2, 2])];
    inputs.extend(listed(&all));
    let f = |t: &[T]| {
        let options = RecurrentOptions::default().bidirectional(true);
        F::lstm(&t[0], Some((t[1].clone(), t[2].clone())), &unlisted(&t[3..], &all[0]), options)
    };
    gradcheck(f, &inputs, CheckOptions::default()).unwrap();
    gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
}

#[test]
fn gru_derivatives() {
    // Layers, directions, batch axis, biases.
    for (layers, bidirectional, batch_first, bias) in
        [(1, true, false, true), (2, false, true, true), (1, false, false, false)]
    {
        let directions = 1 + usize::from(bidirectional);
        let all: Vec<_> = (0..layers * directions)
            .map(|i| {
                let w = weights(10 * i as u64 + 5, 3, 2, 2, 0);
                if bias { w } else { RecurrentWeights::new(&w.weight_ih, &w.weight_hh) }
            })
            .collect();
        let x = numbers(1, if batch_first { &[1, 3, 2] } else { &[3, 1, 2] });
        let inputs = [vec![x, numbers(2, &[all.len(), 1, 2])], listed(&all)].concat();
        let f = |t: &[T]| {
            let options = RecurrentOptions::default().bidirectional(bidirectional).batch_first(batch_first);
            F::gru(&t[0], Some(t[1].clone()), &unlisted(&t[2..], &all[0]), options)
        };
        gradcheck(f, &inputs, CheckOptions::default()).unwrap();
        gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
    }
    let w = weights(5, 3, 2, 2, 0);
    let inputs = [vec![numbers(1, &[2]), numbers(2, &[2])], listed(std::slice::from_ref(&w))].concat();
    let f = |t: &[T]| F::gru_cell(&t[0], Some(t[1].clone()), &unlisted(&t[2..], &w)[0]);
    gradcheck(f, &inputs, CheckOptions::default()).unwrap();
    gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
}

/// Large enough to be shared, with lengths that differ; also many sequences of one step.
#[test]
fn bits_do_not_depend_on_the_threads() {
    fn check<K: RecurrentKind>(layer: &Recurrent<K>, shape: &[usize]) {
        let mut rng = Generator::seed_from_u64(1);
        let x = Tensor::<f32>::normal_with(shape, 0.0, 1.0, &mut rng).unwrap().set_requires_grad(true);
        let lengths: Vec<usize> = (0..shape[1]).map(|i| 1 + (i * 7) % shape[0]).collect();
        let run = |threads: usize| {
            ndnn::with_num_threads(threads, || {
                let (y, end) = layer.forward_lengths(&x, None, &lengths[..]).unwrap();
                (&y * &y).sum().backward().unwrap();
                let mut out = vec![y.detach(), end.part(0).detach(), x.grad().unwrap()];
                out.extend(layer.parameters().iter().map(|p| p.grad().unwrap().get::<f32>().unwrap()));
                x.zero_grad();
                layer.zero_grad();
                out
            })
        };
        let alone = run(1);
        for threads in [2, 3, 8] {
            // Twice, since the first region of a kind may run alone.
            (0..2).for_each(|_| assert!(run(threads) == alone, "{shape:?} on {threads} threads"));
        }
    }
    for shape in [[12, 21, 8], [3, 130, 8], [1, 300, 8], [40, 3, 8]] {
        check(&LSTM::new(8, 48).bidirectional(true), &shape);
        check(&LSTM::new(8, 48).proj_size(20), &shape);
        check(&GRU::new(8, 48), &shape);
        check(&RNN::new(8, 96), &shape);
    }
}

#[test]
fn lstm_names_printing_and_copies() {
    let lstm = LSTM::new(2, 3).num_layers(2).batch_first(true).bidirectional(true);
    assert_eq!(lstm.to_string(), "LSTM(2, 3, num_layers=2, batch_first=True, bidirectional=True)");
    let text = LSTM::new(4, 5).proj_size(2).num_layers(3).bias(false).dropout(0.5).to_string();
    assert_eq!(text, "LSTM(4, 5, proj_size=2, num_layers=3, bias=False, dropout=0.5)");
    let names: Vec<String> = lstm.named_parameters().into_iter().map(|(name, _)| name).collect();
    let kinds = ["weight_ih", "weight_hh", "bias_ih", "bias_hh"];
    let expected: Vec<String> = PLACES.iter().flat_map(|p| kinds.map(|k| format!("{k}_{p}"))).collect();
    assert_eq!(names, expected);
    assert_eq!(lstm.weight("weight_ih_l1_reverse").unwrap().shape(), [12, 6]);
    assert_eq!(lstm.weight("weight_hh_l1").unwrap().shape(), [12, 3]);
    let bound = 1. / 3f32.sqrt();
    let value = lstm.weight("weight_ih_l1").unwrap().detach();
    assert!(value.to_vec().iter().all(|v| v.abs() <= bound) && value.abs().max().unwrap().item().unwrap() > 0.4);
    let names: Vec<String> =
        LSTM::new(2, 3).proj_size(1).bias(false).state_dict().keys().map(|k| k.to_string()).collect();
    assert_eq!(names, ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]);

    let copy = lstm.clone();
    lstm.weight("bias_ih_l0").unwrap().update(|mut b| b.fill(9.0));
    assert!(copy.weight("bias_ih_l0").unwrap().detach().to_vec().iter().all(|&b| b < 1.0));
    copy.load_state_dict(&lstm.state_dict()).unwrap();
    assert_eq!(copy.weight("bias_ih_l0").unwrap().detach(), lstm.weight("bias_ih_l0").unwrap().detach());
}

#[test]
fn gru_and_cells_names_and_printing() {
    let gru = GRU::new(3, 4).num_layers(2).bidirectional(true).dropout(0.1).batch_first(true).bias(false);
    let printed = "GRU(3, 4, num_layers=2, bias=False, batch_first=True, dropout=0.1, bidirectional=True)";
    assert_eq!(gru.to_string(), printed);
    assert_eq!(gru.weight("weight_ih_l1_reverse").unwrap().shape(), [12, 8]);
    assert_eq!(GRUCell::new(3, 2).bias(false).to_string(), "GRUCell(3, 2, bias=False)");
    assert_eq!(LSTMCell::new(3, 2).to_string(), "LSTMCell(3, 2)");
    assert_eq!(RNN::new(3, 2).nonlinearity("relu").dropout(0.5).to_string(), "RNN(3, 2, dropout=0.5)");
    assert_eq!(RNNCell::new(3, 2).nonlinearity("relu").to_string(), "RNNCell(3, 2, nonlinearity=relu)");
    let cell = GRUCell::new(3, 2);
    let names: Vec<String> = cell.state_dict().keys().map(|k| k.to_string()).collect();
    assert_eq!(names, ["weight_ih", "weight_hh", "bias_ih", "bias_hh"]);
    let copy = cell.clone();
    cell.weight_hh.update(|mut w| w.fill(9.0));
    assert!(copy.weight_hh.detach().to_vec().iter().all(|&w| w < 1.0));
}

#[test]
fn recurrent_layers_stand_in_a_sequential() {
    let mut model = sequential![f64; LSTM::new(2, 3).num_layers(2).dropout(0.5), GRU::new(3, 4), Linear::new(4, 1)];
    let x = numbers(1, &[4, 5, 2]);
    let y = model.forward(&x).unwrap();
    assert_eq!(y.shape(), [4, 5, 1]);
    assert_ne!(y, model.forward(&x).unwrap());
    model.eval();
    assert_eq!(model.forward(&x).unwrap(), model.forward(&x).unwrap());
    assert!(model.state_dict().keys().any(|k| k == "0.weight_hh_l1"));
    assert!(model.state_dict().keys().any(|k| k == "1.bias_hh_l0"));
    let error = model.forward(&numbers(1, &[4, 5, 3])).unwrap_err().to_string();
    assert!(error.contains("3 features") && error.contains("expects 2"), "{error}");
    assert!(error.contains("in Sequential.0 (LSTM(2, 3"), "{error}");
}

#[test]
fn hooks_see_states_and_may_replace_them() {
    let cell = Hooked::new(LSTMCell::new(2, 3));
    let other = Tensor::<f32>::full([5, 3], 7.0);
    let replaced = other.clone();
    let hook = move |input: &[AnyTensor], output: &[AnyTensor]| {
        assert_eq!((input.len(), output.len()), (3, 2));
        vec![output[0].clone(), replaced.clone().into()]
    };
    cell.register_forward_hook(hook).keep();
    let zeros = Tensor::zeros([5, 3]);
    let (h, c) = cell.forward(&Tensor::zeros([5, 2]), Some((zeros.clone(), zeros.clone()))).unwrap();
    assert_eq!(c, other);
    assert_ne!(h, zeros);
}

#[test]
fn lstm_errors() {
    let lstm = LSTM::new(2, 3).num_layers(2);
    let x = |shape: &[usize]| Tensor::<f32>::zeros(shape);
    let message = |r: Result<(Tensor, (Tensor, Tensor))>| r.unwrap_err().to_string();
    let text = message(lstm.forward(&x(&[4, 5, 2]), Some((x(&[2, 4, 3]), x(&[2, 5, 3])))));
    assert!(text.contains("the state's part 0 is [2, 4, 3], expected [2, 5, 3] for an input of [4, 5, 2]"), "{text}");
    let text = message(lstm.forward(&x(&[4, 5, 2]), Some((x(&[2, 5, 3]), x(&[2, 3])))));
    assert!(text.contains("the state's part 1 is [2, 3], expected [2, 5, 3]"), "{text}");
    let text = message(lstm.forward(&x(&[4, 2]), Some((x(&[2, 1, 3]), x(&[2, 1, 3])))));
    assert!(text.contains("expected [2, 3] for an input of [4, 2]"), "{text}");
    let text = message(lstm.forward(&x(&[2]), None));
    assert!(text.contains("2 or 3 axes") && text.ends_with("in LSTM(2, 3, num_layers=2)"), "{text}");
    assert!(message(lstm.forward(&x(&[0, 5, 2]), None)).contains("at least one step"));
    // An empty batch is accepted.
    assert_eq!(lstm.forward(&x(&[4, 0, 2]), None).unwrap().0.shape(), [4, 0, 3]);
    let w = weights(1, 4, 2, 3, 0);
    let text = |all: &[RecurrentWeights<f64>], options| {
        F::lstm(&numbers(1, &[4, 5, 2]), None, all, options).unwrap_err().to_string()
    };
    let options = RecurrentOptions::default();
    assert_eq!(text(&[], options), "lstm: expected at least one layer of weights, 1 per layer, got 0");
    assert!(text(std::slice::from_ref(&w), options.bidirectional(true)).contains("2 per layer, got 1"));
    let wide = weights(1, 4, 3, 5, 0);
    assert!(text(&[w.clone(), wide], options).contains("the layers' states are of [3, 3] and [5, 5] values"));
    assert!(
        text(&[w.clone().projection(&numbers(1, &[2, 3]))], options).contains("weight_hh is [12, 3], expected [12, 2]")
    );
    let error = F::lstm_cell(&numbers(1, &[2]), Some((numbers(1, &[3]), numbers(1, &[1, 3]))), &w).unwrap_err();
    assert_eq!(error.to_string(), "lstm_cell: the state's part 1 is [1, 3], expected [3] for an input of [2]");
}

#[test]
fn gru_errors_and_sizes_of_none() {
    let x = |shape: &[usize]| Tensor::<f32>::zeros(shape);
    let (gru, cell) = (GRU::new(2, 3), GRUCell::new(2, 3));
    let message = |shape: &[usize], state: &[usize]| gru.forward(&x(shape), Some(x(state))).unwrap_err().to_string();
    let text = message(&[4, 5, 2], &[1, 4, 3]);
    assert_eq!(text, "gru: the state is [1, 4, 3], expected [1, 5, 3] for an input of [4, 5, 2]; in GRU(2, 3)");
    assert!(message(&[4, 2], &[1, 1, 3]).contains("the state is [1, 1, 3], expected [1, 3]"));
    assert!(message(&[0, 5, 2], &[1, 5, 3]).contains("expected a sequence of at least one step, got [0, 5, 2]"));
    assert!(message(&[4, 5, 3], &[1, 5, 3]).contains("3 features, weight_ih [9, 2] expects 2"));
    let message = |shape: &[usize], state: &[usize]| cell.forward(&x(shape), Some(x(state))).unwrap_err().to_string();
    let text = message(&[1, 5, 2], &[5, 3]);
    assert_eq!(text, "gru_cell: expected an input (N, input) or (input), got [1, 5, 2]; in GRUCell(2, 3)");
    assert!(message(&[5, 2], &[4, 3]).contains("the state is [4, 3], expected [5, 3] for an input of [5, 2]"));
    assert!(message(&[2], &[1, 3]).contains("expected [3]"));
    assert!(message(&[5, 4], &[5, 3]).contains("4 features, weight_ih [9, 2] expects 2"));
    let (w, x2) = (weights(1, 3, 2, 4, 0), numbers(1, &[5, 2]));
    let text = |w: &RecurrentWeights<f64>| F::gru_cell(&x2, None, w).unwrap_err().to_string();
    let projects = text(&w.clone().projection(&numbers(1, &[4, 4])));
    assert_eq!(projects, "gru_cell: weight_hr is [4, 4], expected none: only an LSTM projects");
    let four = RecurrentWeights::new(&numbers(1, &[16, 2]), &numbers(1, &[16, 4]));
    assert_eq!(text(&four), "gru_cell: weight_ih is [16, 2], expected 3 gates of as many rows");
    let short = w.clone().biases(&numbers(1, &[12]), &numbers(1, &[4]));
    assert_eq!(text(&short), "gru_cell: bias_hh is [4], expected [12]");

    assert_eq!(gru.forward(&x(&[4, 0, 2]), None).unwrap().0.shape(), [4, 0, 3]);
    assert_eq!(gru.forward(&x(&[1, 1, 2]), None).unwrap().1.shape(), [1, 1, 3]);
    assert_eq!(cell.forward(&x(&[0, 2]), None).unwrap().shape(), [0, 3]);
    // As in PyTorch, the number of inputs or the hidden size may be 0.
    assert_eq!(GRUCell::new(0, 3).forward(&x(&[2, 0]), None).unwrap().shape(), [2, 3]);
    assert_eq!(GRUCell::new(3, 0).forward(&x(&[2, 3]), None).unwrap().shape(), [2, 0]);
    assert_eq!(LSTMCell::new(3, 0).forward(&x(&[3]), None).unwrap().1.shape(), [0]);
}

#[test]
fn gru_at_extreme_numbers() {
    // Gates at their limits: z = 1 keeps the state, z = 0 and n = ±1 replace it; NaN is propagated.
    let w = RecurrentWeights::new(&tensor![[0.0], [1.0], [1.0]; f64], &T::zeros([3, 1]));
    let next = |x: f64, h: f64| F::gru_cell(&tensor![x; f64], Some(tensor![h; f64]), &w).unwrap().item().unwrap();
    assert_eq!((next(1e30, 0.25), next(-1e30, 0.25)), (0.25, -1.0));
    assert_eq!(next(1e-30, 0.0), 5e-31);
    // As in PyTorch: the weight 0 of r turns infinity into NaN.
    assert!([f64::NAN, f64::INFINITY, f64::NEG_INFINITY].iter().all(|&x| next(x, 0.25).is_nan()));
    assert!(next(0.0, f64::NAN).is_nan());
}

#[test]
#[should_panic(expected = "smaller than hidden_size")]
fn lstm_refuses_a_wide_projection() {
    let _ = LSTM::new(2, 3).proj_size(3);
}
