//! What is left out on purpose, and why: the one table.

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
        reason: "what dropout drops is PyTorch's own draw, though the case is not marked stochastic",
        when: dropped,
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

/// Attention that drops weights, of whose outputs the case has the values.
fn dropped(case: &Json) -> bool {
    let given = |at: usize, name: &str| case["args"].get(at).unwrap_or(&case["kwargs"][name]).clone();
    let some = |p: Json| p.as_f64().is_some_and(|p| p > 0.);
    case["stochastic"] != true
        && match case["target"].as_str() {
            Some("scaled_dot_product_attention") => some(given(4, "dropout_p")),
            Some("multi_head_attention_forward") => some(given(10, "dropout_p")) && given(13, "training") != false,
            _ => false,
        }
}

/// Whether a dtype of this list stands anywhere in the case.
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

/// Functions that chance decides in training; a few of their cases record one draw without saying so.
const RANDOM: &[&str] =
    &["dropout", "dropout1d", "dropout2d", "dropout3d", "alpha_dropout", "feature_alpha_dropout", "rrelu"];

/// Marks a case whose answer is one draw among many as `stochastic`: then shapes are compared.
pub fn mark_chance(case: &mut Json, shape: impl Fn(&str) -> Vec<usize>) {
    let target = case["target"].as_str().unwrap_or_default();
    if case["kind"] != "functional" || !RANDOM.contains(&target) || case["stochastic"] == true {
        return;
    }
    let by_default = matches!(target, "dropout" | "dropout1d" | "dropout2d" | "dropout3d");
    let training = case["kwargs"]["training"].as_bool().unwrap_or(by_default);
    let certain = [0., 1.].map(Some).contains(&case["kwargs"]["p"].as_f64());
    if training && !certain {
        let outputs = case["outputs"].as_array().cloned().unwrap_or_default();
        let shapes = outputs.iter().map(|o| Json::from(shape(o["tensor"].as_str().unwrap_or_default())));
        case["shapes"] = shapes.collect();
        case["stochastic"] = true.into();
        case["input_grads"] = Json::Object(Default::default());
    }
}
