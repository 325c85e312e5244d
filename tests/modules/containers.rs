//! Containers: changing a `Sequential`.

use ndnn::prelude::*;

use super::common::panic_of;

#[test]
fn layers_are_inserted_removed_replaced_and_shared() {
    let mut model = sequential![Linear::new(2, 3), Linear::new(3, 1)];
    model.insert(1, Tanh);
    model.insert(3, Sigmoid);
    let names = |model: &Sequential| model.children().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&model), ["0", "1", "2", "3"]);
    assert_eq!(model.get_as::<Linear>(2).unwrap().weight.shape(), [1, 3]);
    assert!(model.get_as::<Linear>(1).is_none() && model.get_as::<Tanh>(4).is_none());

    // A slice shares parameters under their names.
    let part = model.slice(1..3);
    assert_eq!(part.named_parameters()[0].0, "2.weight");
    part.parameters()[0].set(&Tensor::<f32>::ones([1, 3]).into()).unwrap();
    assert_eq!(model.get_as::<Linear>(2).unwrap().weight.detach(), Tensor::ones([1, 3]));
    assert_eq!((model.slice(..).len(), model.slice(2..=3).len(), model.slice(4..).len()), (4, 2, 0));

    let old = model.replace(1, ReLU);
    assert_eq!((old.type_name(), model.get(1).unwrap().type_name()), ("Tanh".into(), "ReLU".into()));
    assert_eq!(model.remove(0).type_name(), "Linear");
    assert_eq!(model.pop().unwrap().type_name(), "Sigmoid");
    assert_eq!(names(&model), ["0", "1"]);
    assert_eq!(model.forward(&Tensor::ones([1, 3])).unwrap().shape(), [1, 1]);

    // Names of one's own stay.
    let mut named = Sequential::<f32>::default().push_named("body", Tanh).push(Tanh);
    named.insert(0, ReLU);
    assert_eq!(names(&named), ["0", "body", "2"]);
    assert!(Sequential::<f32>::default().pop().is_none());
    let mut clash = Sequential::<f32>::default().push_named("2", Tanh).push(Tanh);
    assert_eq!(panic_of(|| clash.insert(0, ReLU)), "Sequential: two layers would be named `2`");
    assert_eq!(panic_of(|| named.insert(9, ReLU)), "Sequential: cannot insert at position 9 of 3 layers");
    assert_eq!(panic_of(|| named.remove(3)), "Sequential: there is no position 3 among 3 layers");
    assert_eq!(panic_of(|| named.replace(3, ReLU)), "Sequential: there is no position 3 among 3 layers");
    assert_eq!(panic_of(|| named.slice(2..5)), "Sequential: there is no slice 2..5 of 3 layers");
}
