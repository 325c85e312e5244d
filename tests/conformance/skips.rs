//! The table of what is left out on purpose, and why.

use serde_json::Value as Json;

struct Skip {
    reason: &'static str,
    when: fn(&Json) -> bool,
}

const SKIPS: &[Skip] = &[
    Skip { reason: "the nuclear norm needs a singular value decomposition", when: nuclear },
    Skip { reason: "ndnn has no complex numbers", when: |case| mentions_dtype(case, &["C64", "C128"]) },
    Skip { reason: "ndnn has no half precision", when: |case| mentions_dtype(case, &["F16", "BF16"]) },
    Skip {
        reason: "tensors do not change in place",
        when: |case| case["kwargs"]["inplace"] == true && case["mutates"].as_object().is_some_and(|m| !m.is_empty()),
    },
    Skip { reason: "ndnn has no sparse gradients", when: |case| case["kwargs"]["sparse"] == true },
    Skip {
        reason: "batch_norm takes floats only: a bool does not compile",
        when: |case| case["target"] == "batch_norm" && case["dtype"] == "BOOL",
    },
];

/// Why a case is left out, if it is.
pub fn reason(case: &Json) -> Option<&'static str> {
    SKIPS.iter().find(|skip| (skip.when)(case)).map(|skip| skip.reason)
}

fn nuclear(case: &Json) -> bool {
    case["target"] == "norm"
        && (case["variant"] == "nuc" || case["kwargs"]["p"] == "nuc" || case["args"].get(1).is_some_and(|p| p == "nuc"))
}

/// Whether the case contains a dtype of this list.
fn mentions_dtype(json: &Json, dtypes: &[&str]) -> bool {
    match json {
        Json::Array(list) => list.iter().any(|v| mentions_dtype(v, dtypes)),
        Json::Object(map) => map.iter().any(|(key, v)| match v {
            Json::String(text) => key == "dtype" && dtypes.contains(&text.as_str()),
            other => mentions_dtype(other, dtypes),
        }),
        _ => false,
    }
}

/// Whether the result of a function is random: it drops or draws with a probability between 0 and 1.
fn by_chance(case: &Json) -> bool {
    let given = |at: usize, name: &str| case["args"].get(at).unwrap_or(&case["kwargs"][name]).clone();
    let training = |at: usize, default: bool| given(at, "training").as_bool().unwrap_or(default);
    let open = |p: Json| p.as_f64().is_none_or(|p| 0. < p && p < 1.);
    match case["target"].as_str().unwrap_or_default() {
        "dropout" | "dropout1d" | "dropout2d" | "dropout3d" => training(2, true) && open(given(1, "p")),
        "alpha_dropout" | "feature_alpha_dropout" => training(2, false) && open(given(1, "p")),
        "rrelu" => training(3, false),
        "fractional_max_pool2d" | "fractional_max_pool3d" => given(5, "_random_samples").is_null(),
        "scaled_dot_product_attention" => given(4, "dropout_p").as_f64().is_some_and(|p| p > 0.),
        "multi_head_attention_forward" => training(13, true) && given(10, "dropout_p").as_f64().is_some_and(|p| p > 0.),
        _ => false,
    }
}

/// Marks a case whose result is random as `stochastic`, if it is not marked: then only shapes are compared.
pub fn mark_chance(case: &mut Json, shape: impl Fn(&str) -> Vec<usize>) {
    if case["kind"] != "functional" || case["stochastic"] == true || !by_chance(case) {
        return;
    }
    let outputs = case["outputs"].as_array().cloned().unwrap_or_default();
    let shapes = outputs.iter().map(|o| Json::from(shape(o["tensor"].as_str().unwrap_or_default())));
    case["shapes"] = shapes.collect();
    case["stochastic"] = true.into();
    case["input_grads"] = Json::Object(Default::default());
}
