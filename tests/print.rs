//! Printing, compared with what PyTorch prints: the conformance cases, and `golden/print.json` (created by
//! `golden/print.py`).

use ndnn::{Element, Real, Tensor, prelude::*};
use serde_json::Value;

fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        number => number.as_f64().unwrap(),
    }
}

fn build<T: Element>(case: &Value, element: impl Fn(&Value) -> T) -> Tensor<T> {
    let shape: Vec<usize> = case["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize).collect();
    let elements = match &case["data"] {
        Value::Array(data) => data.iter().map(element).collect(),
        arange => {
            let step = if arange == "arange" { 1.0 } else { arange["arange"].as_f64().unwrap() };
            (0..shape.iter().product()).map(|i: usize| T::of(i as f64 * step)).collect()
        }
    };
    let tensor = Tensor::from_vec(shape, elements).unwrap();
    match case["permute"].as_array() {
        Some(order) => tensor.permute(order.iter().map(|d| d.as_i64().unwrap() as isize).collect::<Vec<_>>()).unwrap(),
        None => tensor,
    }
}

fn float<T: Real>(case: &Value) -> String {
    let tensor = build(case, |v| T::of(number(v)));
    let text = case["text"].as_str().unwrap();
    let precision = case["precision"].as_u64().unwrap_or(4) as usize;
    if text.ends_with("grad_fn=<MulBackward0>)") {
        return (tensor.set_requires_grad(true) * T::ONE).to_string().replace("<mul>", "<MulBackward0>");
    }
    format!("{:.precision$}", tensor.set_requires_grad(text.ends_with("requires_grad=True)")))
}

fn print(case: &Value) -> String {
    match case["dtype"].as_str().unwrap() {
        "float32" => float::<f32>(case),
        "float64" => float::<f64>(case),
        "int64" => build(case, |v| v.as_i64().unwrap()).to_string(),
        "bool" => build(case, |v| v.as_bool().unwrap()).to_string(),
        other => panic!("dtype {other}"),
    }
}

fn check(file: &str) {
    let text = std::fs::read_to_string(format!("{}/tests/{file}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let cases: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert!(cases.len() > 20);
    for (i, case) in cases.iter().enumerate() {
        let (ours, torch) = (print(case), case["text"].as_str().unwrap());
        assert_eq!(ours, torch, "case {i} {}\n\nours:\n{ours}\n\nPyTorch's:\n{torch}", case["name"]);
    }
}

#[test]
fn the_conformance_cases() {
    check("conformance/tensor_print.json");
}

#[test]
fn more_of_pytorchs() {
    check("golden/print.json");
}

#[test]
fn a_result_names_our_operation() {
    let x = tensor![1.0, 2.0].set_requires_grad(true);
    assert_eq!((&x * &x).to_string(), "tensor([1., 4.], grad_fn=<mul>)");
    assert_eq!(format!("{:?}", &x + 1.0), "tensor([2., 3.], grad_fn=<add>)");
    assert_eq!((&x * &x).detach().to_string(), "tensor([1., 4.])");
}
