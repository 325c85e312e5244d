//! The right column of the README's table "From PyTorch", so that it stays correct. (Its program is a documentation
//! test.)

use ndnn::{
    autograd,
    data::{DataLoader, TensorDataset, random_split},
    functional::{self as F, CrossEntropyLossOptions},
    module::hooks,
    prelude::*,
};

#[test]
fn tensors() -> Result<()> {
    let (x, y) = (tensor![[1., 2.], [3., 4.]], tensor![[0.5, 1.], [1., 2.]]);
    assert_eq!(
        (Tensor::<f32>::zeros([2, 3]).shape(), Tensor::<f32>::randn([2, 3]).shape()),
        (&[2, 3][..], &[2, 3][..])
    );
    assert_eq!((Tensor::arange(0., 5., 1.)?.numel(), Tensor::<f32>::eye(3).numel()), (5, 9));
    assert_eq!(Tensor::from(x.clone().into_array()).view(), x.view());
    assert_eq!((&x + &y, 2. * &x), (tensor![[1.5, 3.], [4., 6.]], tensor![[2., 4.], [6., 8.]]));
    assert_eq!((x.matmul(&y)?, x.sum().item()?), (tensor![[2.5, 5.], [5.5, 11.]], 10.));
    assert_eq!((x.sum_dim(1, true)?, x.max()?.item()?), (tensor![[3.], [7.]], 4.));
    assert_eq!((x.max_dim(1, false)?.0, x.argmax(Some(1), false)?), (tensor![2., 4.], tensor![1, 1]));
    assert_eq!((x.reshape([2, -1])?, x.permute([1, 0])?), (x.clone(), x.t()?));
    assert_eq!(Tensor::cat(&[&x, &y], 0)?.shape(), [4, 2]);
    assert_eq!(Tensor::einsum("ij,kj->ik", &[&x, &y])?, x.matmul(&y.t()?)?);
    let m = x.gt(2.)?;
    assert_eq!((x.eq(&y)?.any().item()?, Tensor::where_(&m, &x, &y)?), (false, tensor![[0.5, 1.], [3., 4.]]));
    assert_eq!(x.cast::<i64>().cast::<f64>(), x.cast::<f64>());
    Ok(())
}

#[test]
fn gradients() -> Result<()> {
    let x = tensor![3.].set_requires_grad(true);
    let y = &x * &x;
    let first = autograd::grad(&[&y], &[&x], true)?.remove(0).expect("y is made from x");
    assert_eq!(first.item()?, 6.);
    y.backward_retain()?;
    y.backward()?;
    assert_eq!(x.grad(), Some(tensor![12.]));
    assert!(!no_grad(|| &x * 2.).requires_grad() && !x.detach().requires_grad());
    let double = Tensor::op("double", x.view().mapv(|v| v * 2.), [&x], |g, _| Ok([Some(g * 2.)]));
    assert_eq!(autograd::grad(&[&double], &[&x], false)?, [Some(tensor![2.])]);
    Ok(())
}

#[test]
fn modules_and_training() -> Result<()> {
    ndnn::manual_seed(0);
    let mut model = sequential![
        Conv2d::new(3, 16, 3).stride(2).padding(1),
        ReLU,
        Flatten::default(),
        Linear::new(256, 30).bias(false),
        Dropout::new(0.1)
    ];
    println!("{model}");
    model.train();
    let (x, y) = (Tensor::<f32>::rand([10, 3, 8, 8]), Tensor::<i64>::randint(0, 30, [10])?);
    let [train, test] = random_split(TensorDataset::new((x, y))?, [8, 2])?;
    let mut sgd = optim::SGD::new(&model, 0.1).momentum(0.9);
    let mut adam = optim::AdamW::new(&model, 1e-3).group("*.bias", |g| g.weight_decay(0.))?;
    for (x, y) in DataLoader::new(train, 4).shuffle(true).epoch(0) {
        let out = model.forward(&x)?;
        let loss = F::cross_entropy(&out, &y, CrossEntropyLossOptions::default().label_smoothing(0.1))?
            + CrossEntropyLoss::new().forward(&out, &y)?;
        adam.zero_grad();
        loss.backward()?;
        utils::clip_grad_norm(&model, 1.)?;
        sgd.step()?;
        adam.step()?;
    }
    assert_eq!(DataLoader::new(test, 2).len(), 1);
    model.eval();
    let weight: Param = Param::new(Tensor::zeros([4, 3]));
    init::kaiming_normal(&weight, init::Fan::In, init::Nonlinearity::ReLU)?;
    assert_eq!(model.set_requires_grad_matching("0.*", false)?, 2);
    assert_eq!(model.named_parameters().len(), model.parameters().len());
    let copy = model.clone();
    assert!(copy.load_state_dict_partial(&model.state_dict()).unwrap().is_complete());
    assert_eq!(sequential![f64; Linear::new(1, 32), Tanh].parameters()[0].dtype(), ndnn::DType::F64);
    let x = tensor![[1., -1.]];
    assert_eq!(F::relu(&x), tensor![[1., 0.]]);
    assert_eq!((F::gelu(&x, Default::default()).shape(), F::softmax(&x, 1)?.shape()), (&[1, 2][..], &[1, 2][..]));
    Ok(())
}

#[test]
fn changing_and_watching_modules() -> Result<()> {
    let mut model = sequential![Linear::new(4, 3), ReLU, Linear::new(3, 2)];
    model.append(Tanh);
    assert_eq!((model[3].type_name(), model.slice(1..3).len()), ("Tanh".into(), 2));
    let weight = &model.get::<Linear>(0).expect("it is one").weight;
    // Fewer than a row: a row of zeros has no norm to divide by.
    utils::prune::l1_unstructured(weight, 3, None)?;
    utils::prune::remove(weight)?;
    utils::parametrizations::weight_norm(weight, 0)?;
    utils::parametrize::remove_parametrizations(weight, true)?;
    let mut heads = ModuleDict::from([("a", Linear::new(2, 1))]);
    assert_eq!((heads["a"].weight.shape(), heads.remove("a").is_some()), (vec![1, 2], true));
    model.set_submodule("2", LazyLinear::new(5))?;
    let x = Tensor::ones([2, 4]);
    assert_eq!(summary(&model, &x)?.to_markdown().lines().nth(5), Some("| `2` | Linear | [2, 3] | [2, 5] | 20 | 30 |"));
    let mut count = 0;
    model.apply(|_path, _module| count += 1);
    assert_eq!((count, model.get_submodule("2")?.type_name()), (5, "Linear".into()));
    let y = hooks::during(&model, "3", |_, _, y| y[0].get::<f32>().map(|y| y * 2.), || model.forward(&x))?;
    let handles = [
        hooks::register_forward_hook(&model, "*", |_, _, _| ())?,
        hooks::register_load_state_dict_pre_hook(&model, "0", |_, _, _| ())?,
    ];
    assert_eq!(y, model.forward(&x)? * 2.);
    drop(handles);
    let (x, handle) = x.set_requires_grad(true).register_hook(|g| g * 2.);
    model.forward(&x)?.sum().backward()?;
    handle.remove();
    let state = model.state_dict().select("0.*")?.replace_prefix("0.", "encoder.")?;
    assert_eq!(state.keys().next(), Some("encoder.weight"));
    Ok(())
}
