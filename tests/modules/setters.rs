//! Setters of layers: what one removes another restores, in any order.

use ndnn::{DType, prelude::*};

use super::values;

/// The names and shapes of the state.
fn shapes(module: &impl Module) -> Vec<(String, Vec<usize>)> {
    module.state_dict().iter().map(|(name, t)| (name.to_string(), t.shape().to_vec())).collect()
}

/// Fails unless both have the same state and the same printed form.
fn alike<M: Module, N: Module>(a: M, b: N) {
    assert_eq!((shapes(&a), ndnn::module::repr(&a)), (shapes(&b), ndnn::module::repr(&b)));
}

#[test]
fn a_setter_restores_what_another_took_away() {
    alike(Linear::new(3, 2).bias(false).bias(true), Linear::new(3, 2));
    alike(Linear::new(3, 2).bias(true).bias(false), Linear::new(3, 2).bias(false));
    alike(Bilinear::new(3, 4, 2).bias(false).bias(true), Bilinear::new(3, 4, 2));
    alike(Conv1d::new(2, 4, 3).bias(false).bias(true), Conv1d::new(2, 4, 3));
    alike(Conv2d::new(2, 4, 3).bias(false).groups(2).bias(true), Conv2d::new(2, 4, 3).groups(2));
    alike(Conv3d::new(2, 4, 3).groups(2).bias(false).groups(1), Conv3d::new(2, 4, 3).bias(false));
    alike(ConvTranspose2d::new(4, 2, 3).bias(false).groups(2).bias(true), ConvTranspose2d::new(4, 2, 3).groups(2));
    alike(ConvTranspose1d::new(2, 4, 3).groups(2).bias(false).groups(1), ConvTranspose1d::new(2, 4, 3).bias(false));
    alike(ConvTranspose3d::new(2, 4, 3).groups(2).bias(false).bias(true), ConvTranspose3d::new(2, 4, 3).groups(2));
    alike(LSTM::new(3, 4).bias(false).num_layers(2).bias(true), LSTM::new(3, 4).num_layers(2));
    alike(GRUCell::new(3, 4).bias(false).bias(true), GRUCell::new(3, 4));
    let attention = || MultiheadAttention::new(4, 2);
    alike(attention().bias(false).bias(true), attention());
    alike(attention().add_bias_kv(true).add_bias_kv(false), attention());
    alike(attention().bias(false).kdim(3).add_bias_kv(true).bias(true), attention().add_bias_kv(true).kdim(3));
    let norm = || BatchNorm1d::new(3);
    alike(norm().affine(false).affine(true), norm());
    alike(norm().bias(false).bias(true), norm());
    alike(norm().track_running_stats(false).track_running_stats(true), norm());
    let layer = || LayerNorm::new([2, 3]);
    alike(layer().elementwise_affine(false).elementwise_affine(true), layer());
    alike(layer().bias(false).bias(true), layer());
    let groups = || GroupNorm::new(2, 4);
    alike(groups().affine(false).affine(true), groups());
    alike(groups().bias(false).bias(true), groups());
    // After a conversion too, with the new type.
    let wide = Linear::new(3, 2).bias(false).dtype::<f64>().bias(true);
    assert!(wide.parameters().iter().all(|p| p.dtype() == DType::F64));
    alike(norm().affine(false).dtype::<f64>().affine(true), norm());
}

#[test]
fn the_order_of_setters_does_not_matter() {
    // PyTorch: without a weight there is no bias, whatever `bias` says.
    let norm = || BatchNorm1d::new(3);
    for other in [norm().affine(false).bias(true), norm().bias(true).affine(false), norm().affine(false).bias(false)] {
        alike(other, norm().affine(false));
    }
    alike(norm().bias(false).affine(false).affine(true), norm().bias(false));
    let groups = || GroupNorm::new(2, 4);
    alike(groups().bias(true).affine(false), groups().affine(false));
    let layer = || LayerNorm::new(3);
    alike(layer().elementwise_affine(false).bias(true), layer().elementwise_affine(false));
    alike(layer().bias(false).elementwise_affine(false).elementwise_affine(true), layer().bias(false));
}

#[test]
fn a_layer_has_all_setters_of_its_options() {
    let text = |module: &dyn Module| module.to_string();
    let conv = Conv2d::new(2, 4, 3).stride(2).padding([1, 0]).dilation(2).groups(2).padding_mode("circular");
    assert_eq!(
        text(&conv),
        "Conv2d(2, 4, kernel_size=(3, 3), stride=(2, 2), padding=(1, 0), dilation=(2, 2), groups=2, padding_mode=circular)"
    );
    // In any order, each by itself undone.
    alike(conv.padding_mode("zeros").groups(1).dilation(1).padding(0).stride(1), Conv2d::new(2, 4, 3));
    let pool = AvgPool2d::new(3).stride(1).padding(1).ceil_mode(true).count_include_pad(false).divisor_override(5);
    let y = pool.divisor_override(None).forward(&Tensor::<f32>::ones([1, 2, 2])).unwrap();
    assert_eq!(y, Tensor::ones([1, 2, 2]));
}

#[test]
fn what_a_setter_restores_starts_as_it_does_in_a_new_layer() {
    let within = |bias: &Option<Param>, bound: f32| {
        let values = bias.as_ref().unwrap().detach().to_vec();
        values.iter().any(|v| *v != 0.0) && values.iter().all(|v| v.abs() <= bound)
    };
    assert!(within(&Linear::new(4, 100).bias(false).bias(true).bias, 0.5));
    assert!(within(&GRUCell::new(3, 100).bias(false).bias(true).bias_hh, 0.1));
    assert!(within(&Bilinear::new(4, 3, 100).bias(false).bias(true).bias, 0.5));
    assert!(within(&Conv2d::new(4, 64, 2).bias(false).bias(true).bias, 0.25));
    assert!(within(&Conv2d::new(4, 64, 2).bias(false).groups(4).bias(true).bias, 0.5));
    // Without inputs, PyTorch's bias is 0.
    assert_eq!(Linear::new(0, 3).bias.unwrap().detach(), Tensor::zeros([3]));
    let norm = BatchNorm1d::new(3).affine(false).track_running_stats(false).affine(true).track_running_stats(true);
    assert_eq!(values(&norm), values(&BatchNorm1d::new(3)));
    // What exists is kept.
    let (linear, attention) = (Linear::new(3, 2), MultiheadAttention::new(4, 2).add_bias_kv(true));
    let (bias, key) = (linear.bias.clone().unwrap(), attention.bias_k.clone().unwrap());
    assert!(linear.bias(true).bias.unwrap().is_same(&bias));
    assert!(attention.add_bias_kv(true).bias(true).bias_k.unwrap().is_same(&key));
    // A row that is no longer the padding row has its values again.
    let table = Embedding::new(4, 3);
    let rows = table.weight.detach();
    let table = table.padding_idx(1).padding_idx(-1);
    let now = table.weight.detach();
    assert_eq!(now.narrow(0, 0, 3).unwrap(), rows.narrow(0, 0, 3).unwrap());
    assert_eq!(now.select(0, 3).unwrap(), Tensor::zeros([3]));
}

#[test]
fn a_setter_that_changes_no_shape_keeps_the_weights() {
    fn kept<M: Module>(layer: M, set: impl FnOnce(M) -> M) {
        let before = layer.parameters();
        before.iter().for_each(|p| p.set_requires_grad(false));
        let layer = set(layer);
        let after = layer.parameters();
        assert_eq!(after.len(), before.len());
        assert!(before.iter().zip(&after).all(|(b, a)| b.is_same(a)), "{}", ndnn::module::repr(&layer));
    }
    kept(Conv2d::new(4, 4, 3).groups(2), |l| l.groups(2).stride(2).padding(1));
    kept(Conv2d::new(4, 4, 3), |l| l.groups(1).bias(true));
    kept(LSTM::new(3, 4), |l| l.num_layers(1).bias(true).bidirectional(false).proj_size(0));
    kept(LSTM::new(3, 4), |l| l.num_layers(2).num_layers(1).bidirectional(true).bidirectional(false));
    kept(GRU::new(3, 4), |l| l.num_layers(2).bidirectional(true).bidirectional(false).num_layers(1).batch_first(true));
    kept(MultiheadAttention::new(4, 2), |l| l.kdim(4).vdim(4).bias(true));
    kept(MultiheadAttention::new(4, 2).kdim(3), |l| l.kdim(3).vdim(4));
    kept(PReLU::new(), |l| l.num_parameters(1));
    // What keeps its shape stays, next to what is new.
    let lstm = LSTM::new(3, 4);
    let weight = lstm.weight("weight_ih_l0").unwrap().clone();
    let lstm = lstm.bias(false).num_layers(2).bias(true);
    assert!(lstm.weight("weight_ih_l0").unwrap().is_same(&weight));
    assert_eq!(lstm.parameters().len(), 8);
}
