//! Sequences of different lengths: each is as if it ran alone; packing and padding.

use ndnn::{
    autograd::{CheckOptions, gradcheck, gradgradcheck},
    functional::{self as F, RecurrentKind, RecurrentOptions, RecurrentState},
    nn::utils::rnn::{
        PackOptions, PackedSequence, PadPackedOptions, PadSequenceOptions, pack_padded_sequence, pack_sequence,
        pad_packed_sequence, pad_sequence, unpack_sequence, unpad_sequence,
    },
    prelude::*,
};

use super::{T, close, listed, numbers, unlisted, weights};

const LENGTHS: [usize; 4] = [2, 5, 1, 4];

fn parts<S: RecurrentState<f64>>(state: &S) -> Vec<T> {
    state.tensors().iter().map(|t| t.to::<f64>()).collect()
}

/// Compares a batch of padded sequences, whose padding is NaN, with each sequence alone: output, state, gradients.
fn as_if_alone<K: RecurrentKind>(layer: Recurrent<K>, width: usize, state: impl Fn(&[usize]) -> Option<K::State<f64>>)
where
    K::State<f64>: Clone,
{
    let layer = layer.dtype::<f64>();
    let clean = numbers(1, &[4, 6, 3]);
    let row = Tensor::from_vec([4, 6], LENGTHS.iter().flat_map(|&n| (0..6).map(move |t| t >= n)).collect()).unwrap();
    let padded = row.unsqueeze(-1).unwrap().broadcast_to([4, 6, 3]).unwrap();
    let x = clean.masked_fill(&padded, f64::NAN).unwrap().set_requires_grad(true);
    let all: Vec<isize> = (0..4).collect();
    let start = |which: &[usize]| state(which);
    let (y, end) = layer.forward_lengths(&x, start(&[0, 1, 2, 3]), &LENGTHS).unwrap();
    assert_eq!(y.shape(), [4, 6, width]);
    let weight = numbers(7, y.shape());
    let loss = (&y * &weight).sum() + parts(&end).iter().map(|p| p.square().sum()).reduce(|a, b| a + b).unwrap();
    loss.backward().unwrap();
    let gradient = x.grad().unwrap();
    let by_batch: Vec<T> = layer.parameters().iter().map(|p| p.grad().unwrap().to::<f64>()).collect();
    layer.zero_grad();
    for &i in &all {
        let n = LENGTHS[i as usize];
        let alone = clean.select(0, i).unwrap().narrow(0, 0, n).unwrap().unsqueeze(0).unwrap();
        let alone = alone.set_requires_grad(true);
        let (y1, end1) = layer.forward(&alone, start(&[i as usize])).unwrap();
        let of_batch = y.select(0, i).unwrap();
        close(&of_batch.narrow(0, 0, n).unwrap(), &y1.select(0, 0).unwrap());
        close(&of_batch.narrow(0, n as isize, 6 - n).unwrap(), &T::zeros([6 - n, width]));
        for (whole, one) in parts(&end).iter().zip(parts(&end1)) {
            close(&whole.narrow(1, i, 1).unwrap(), &one);
        }
        let weight = weight.select(0, i).unwrap().narrow(0, 0, n).unwrap();
        let squares = parts(&end1).iter().map(|p| p.square().sum()).reduce(|a, b| a + b).unwrap();
        ((y1.select(0, 0).unwrap() * weight).sum() + squares).backward().unwrap();
        let of_batch = gradient.select(0, i).unwrap();
        close(&of_batch.narrow(0, 0, n).unwrap(), &alone.grad().unwrap().select(0, 0).unwrap());
        close(&of_batch.narrow(0, n as isize, 6 - n).unwrap(), &T::zeros([6 - n, 3]));
    }
    for (sum, batch) in layer.parameters().iter().zip(&by_batch) {
        let sum = sum.grad().unwrap().to::<f64>();
        assert!(sum.allclose(batch, 1e-10, 1e-12, false).unwrap());
    }
}

/// Rows of a state of four sequences.
fn some(seed: u64, shape: &[usize], which: &[usize]) -> T {
    let index = Tensor::from_vec([which.len()], which.iter().map(|&i| i as i64).collect()).unwrap();
    numbers(seed, shape).index_select(1, &index).unwrap()
}

#[test]
fn sequences_of_a_batch_are_as_if_alone() {
    ndnn::manual_seed(4);
    as_if_alone(RNN::new(3, 4).nonlinearity("relu").batch_first(true), 4, |_| None);
    as_if_alone(GRU::new(3, 4).batch_first(true).num_layers(2), 4, |which| Some(some(5, &[2, 4, 4], which)));
    as_if_alone(GRU::new(3, 4).batch_first(true).bidirectional(true).bias(false), 8, |_| None);
    let lstm = LSTM::new(3, 4).batch_first(true).bidirectional(true).num_layers(2).proj_size(2);
    as_if_alone(lstm, 4, |which| Some((some(5, &[4, 4, 2], which), some(6, &[4, 4, 4], which))));
}

#[test]
fn lengths_packed_and_the_plain_call_agree() {
    let gru = GRU::new(3, 4).bidirectional(true).dtype::<f64>();
    let (x, h) = (numbers(1, &[5, 4, 3]), numbers(2, &[2, 4, 4]));
    let (plain, last) = gru.forward(&x, Some(h.clone())).unwrap();
    let (equal, same) = gru.forward_lengths(&x, Some(h.clone()), &[5, 5, 5, 5]).unwrap();
    close(&plain, &equal);
    close(&last, &same);
    // Sequences in the order of their lengths, and in another.
    for (sorted, lengths) in [(true, [5_i64, 4, 4, 1]), (false, [4, 1, 5, 4])] {
        let lengths = Tensor::from_vec([4], lengths.to_vec()).unwrap();
        let (y, end) = gru.forward_lengths(&x, Some(h.clone()), &lengths).unwrap();
        let packed = pack_padded_sequence(&x, &lengths, PackOptions::default().enforce_sorted(sorted)).unwrap();
        let (output, end2) = gru.forward_packed(&packed, Some(h.clone())).unwrap();
        close(&pad_packed_sequence(&output, PadPackedOptions::default().total_length(5)).unwrap().0, &y);
        close(&end, &end2);
        let options = RecurrentOptions::default().bidirectional(true);
        let all = super::weights_of(&gru, &["l0", "l0_reverse"]);
        close(F::gru_packed(&packed, Some(h.clone()), &all, options).unwrap().0.data(), output.data());
    }
}

#[test]
fn derivatives_over_lengths() {
    let all = [weights(5, 4, 2, 2, 1), weights(15, 4, 2, 2, 1)];
    let inputs = [vec![numbers(1, &[3, 3, 2]), numbers(2, &[2, 3, 1]), numbers(3, &[2, 3, 2])], listed(&all)].concat();
    let f = |t: &[T]| {
        let options = RecurrentOptions::default().bidirectional(true);
        let packed = pack_padded_sequence(&t[0], &[1, 3, 2], PackOptions::default().enforce_sorted(false))?;
        let state = Some((t[1].clone(), t[2].clone()));
        let (output, end) = F::lstm_packed(&packed, state, &unlisted(&t[3..], &all[0]), options)?;
        Ok((pad_packed_sequence(&output, Default::default())?.0, end))
    };
    gradcheck(f, &inputs, CheckOptions::default()).unwrap();
    gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
}

#[test]
fn packing_and_padding_go_both_ways() {
    // The values are those of PyTorch 2.15.
    let x = Tensor::from_vec([4, 3], (0..12).collect::<Vec<i64>>()).unwrap();
    let packed = pack_padded_sequence(&x, &[2, 4, 2], PackOptions::default().enforce_sorted(false)).unwrap();
    assert_eq!(packed.data(), &tensor![1_i64, 0, 2, 4, 3, 5, 7, 10]);
    assert_eq!(packed.batch_sizes(), [3, 3, 1, 1]);
    assert_eq!((packed.sorted_indices(), packed.unsorted_indices()), (Some(&[1, 0, 2][..]), Some(&[1, 0, 2][..])));
    assert_eq!(packed.lengths(), [2, 4, 2]);
    let options = PadPackedOptions::default().padding_value(-1.).total_length(5).batch_first(true);
    let (padded, lengths) = pad_packed_sequence(&packed, options).unwrap();
    assert_eq!(padded, tensor![[0_i64, 3, -1, -1, -1], [1, 4, 7, 10, -1], [2, 5, -1, -1, -1]]);
    assert_eq!(lengths, [2, 4, 2]);
    let first = pack_padded_sequence(
        &x.t().unwrap(),
        &[2, 4, 2],
        PackOptions::default().enforce_sorted(false).batch_first(true),
    );
    assert_eq!(first.unwrap().data(), packed.data());
    let sequences = unpack_sequence(&packed).unwrap();
    assert_eq!(sequences, [tensor![0_i64, 3], tensor![1_i64, 4, 7, 10], tensor![2_i64, 5]]);
    assert_eq!(unpad_sequence(&x, &[2, 4, 2], false).unwrap(), sequences);
    let again = pack_sequence(&sequences, false).unwrap();
    assert_eq!((again.data(), again.sorted_indices()), (packed.data(), packed.sorted_indices()));
    // Several features, empty sequences, the other side.
    let (a, b) = (numbers(1, &[2, 3]), numbers(2, &[0, 3]));
    let padded = pad_sequence(&[b.clone(), a.clone()], PadSequenceOptions::default().padding_side("left")).unwrap();
    assert_eq!(padded.shape(), [2, 2, 3]);
    close(&padded.select(1, 0).unwrap(), &T::zeros([2, 3]));
    close(&padded.select(1, 1).unwrap(), &a);
    let left = PadSequenceOptions::default().batch_first(true).padding_side("left").padding_value(9.);
    assert_eq!(pad_sequence(&[tensor![1.0], tensor![2.0, 3.0]], left).unwrap(), tensor![[9.0, 1.0], [2.0, 3.0]]);
    close(&unpad_sequence(&padded, &[0, 2], false).unwrap()[1], &a);
    // Gradients pass through; padding gets none.
    let f = |t: &[T]| {
        let packed = pack_sequence(&[t[0].clone(), t[1].clone()], false)?;
        Ok(pad_packed_sequence(&packed, PadPackedOptions::default().padding_value(2.))?.0)
    };
    gradcheck(f, &[numbers(3, &[1, 2]), numbers(4, &[3, 2])], CheckOptions::default()).unwrap();
}

#[test]
fn errors_of_lengths() {
    let gru = GRU::new(2, 3).batch_first(true);
    let x = Tensor::<f32>::zeros([2, 4, 2]);
    let error = |lengths: &[i64]| {
        let lengths = Tensor::from_vec([lengths.len()], lengths.to_vec()).unwrap();
        gru.forward_lengths(&x, None, &lengths).unwrap_err().to_string()
    };
    assert!(error(&[4]).contains("expected 2 lengths, one per sequence, got 1"));
    assert!(error(&[4, 5]).contains("the length of sequence 1 is 5, expected 1 to 4"));
    assert!(error(&[0, 4]).contains("the length of sequence 0 is 0, expected 1 to 4"));
    assert!(error(&[4, -3]).ends_with("in GRU(2, 3, batch_first=True)"), "{}", error(&[4, -3]));
    let text = |result: Result<(Tensor, Tensor)>| result.unwrap_err().to_string();
    assert!(
        text(gru.forward_lengths(&x.select(0, 0).unwrap(), None, &[4])).contains("expected an input (N, L, input)")
    );
    assert!(text(gru.forward_lengths(&Tensor::zeros([0, 4, 2]), None, &[])).contains("at least one sequence"));
    let state = Some(Tensor::zeros([1, 3, 3]));
    assert!(text(gru.forward_lengths(&x, state, &[4, 2])).contains("the state is [1, 3, 3], expected [1, 2, 3]"));
    assert!(text(gru.forward_lengths(&Tensor::zeros([2, 4, 5]), None, &[4, 2])).contains("5 features"));
    let packed = pack_sequence(&[Tensor::<f32>::zeros([4])], true).unwrap();
    assert!(
        gru.forward_packed(&packed, None).unwrap_err().to_string().contains("packed steps (total, input), got [4]")
    );
}

#[test]
fn errors_of_packing() {
    let text = |result: Result<PackedSequence>| result.unwrap_err().to_string();
    let x = Tensor::<f32>::zeros([4, 2, 3]);
    let rising = text(pack_padded_sequence(&x, &[2, 4], Default::default()));
    assert!(rising.contains("the lengths [2, 4] must fall; pass enforce_sorted = false"), "{rising}");
    assert!(text(pack_padded_sequence(&x, &[4, 0], Default::default())).contains("sequence 1 is 0, expected 1 to 4"));
    assert!(text(pack_padded_sequence(&Tensor::zeros([4]), &[4], Default::default())).contains("expected (L, N, *)"));
    assert!(text(pack_sequence(&[], true)).contains("at least one sequence"));
    assert!(text(pack_sequence(&[Tensor::zeros([0])], true)).contains("sequence 0 has no step"));
    let unlike = [Tensor::zeros([2, 3]), Tensor::zeros([2, 4])];
    assert!(text(pack_sequence(&unlike, true)).contains("differ in L only, got [2, 3] and, as number 1, [2, 4]"));
    assert!(text(pack_sequence(&[Tensor::scalar(1.0)], true)).contains("sequences (L, *)"));
    let packed = pack_sequence(&[Tensor::<f32>::zeros([4])], true).unwrap();
    let short = pad_packed_sequence(&packed, PadPackedOptions::default().total_length(3)).unwrap_err().to_string();
    assert!(short.contains("total_length is 3, the longest sequence has 4 steps"), "{short}");
    let two = pack_sequence(&[Tensor::<f32>::zeros([4]), Tensor::zeros([2])], true).unwrap();
    let endless = PadPackedOptions::default().batch_first(true).total_length(usize::MAX);
    assert!(pad_packed_sequence(&two, endless).unwrap_err().to_string().starts_with("pad_packed_sequence: "));
    assert!(text(packed.with_data(Tensor::zeros([3]))).contains("got [1, 1, 1, 1] for [3]"));
    let new = |sizes: &[usize], sorted: Option<Vec<usize>>| PackedSequence::new(Tensor::zeros([3]), sizes, sorted);
    assert!(text(new(&[1, 2], None)).contains("do not rise"));
    assert!(text(new(&[], None)).contains("above 0"));
    assert!(text(new(&[2, 1], Some(vec![0, 0]))).contains("do not name each of 2 sequences once"));
    assert!(text(new(&[2, 1], Some(vec![0, 2]))).contains("do not name each"));
    assert!(unpad_sequence(&x, &[4, 5], false).unwrap_err().to_string().contains("sequence 1 is 5, expected 0 to 4"));
}
