use ndnn::{autograd::grad, prelude::*};
#[test]
fn deep() {
    let x = tensor![1.0].requires_grad(true);
    let mut y = x.clone();
    for _ in 0..100_000 {
        y = y * 1.0 + 0.0;
    }
    y.sum().backward().unwrap();
    assert_eq!(x.grad().unwrap().item().unwrap(), 1.0);
    let mut y = x.clone();
    for _ in 0..100_000 {
        y = y * 1.0 + 0.0;
    }
    drop(y);
}
#[test]
fn second() {
    let x = tensor![0.3, 0.7; f64].requires_grad(true);
    let y = (x.tanh() * x.exp()).sum();
    let d = grad(&[&y], &[&x], true).unwrap()[0].clone().unwrap().sum();
    let d2 = grad(&[&d], &[&x], false).unwrap()[0].clone().unwrap();
    println!("{d2}");
    assert!((y.item().unwrap() - (0.3f64.tanh() * 0.3f64.exp() + 0.7f64.tanh() * 0.7f64.exp())).abs() < 1e-12);
    let e = y.backward().unwrap_err();
    println!("{e}");
}
