//! Printed forms, state_dicts and initial distributions, which must equal PyTorch's
//! (`tests/conformance/reference.json`) exactly. Modules are built from PyTorch's arguments by the dispatch of the
//! conformance runner.

// The parts of the runner that build modules; what they contain for running cases is not used here.
#[allow(dead_code, unused_imports)]
#[path = "conformance/args.rs"]
mod args;
#[allow(dead_code)]
#[path = "conformance/skips.rs"]
mod skips;
#[allow(dead_code, unused_imports, unused_macros)]
#[path = "conformance/targets/mod.rs"]
mod targets;
#[allow(dead_code)]
#[path = "conformance/values.rs"]
mod values;

use std::{fs, path::Path};

use args::{Args, Mode as Handing};
use ndnn::{DType, module, prelude::*};
use serde_json::Value as Json;
use targets::module::{Case, build};
use values::CaseFile;

fn reference() -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/reference.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The entries, each with its name for messages.
fn entries(reference: &Json) -> Vec<(String, &Json)> {
    let modules = reference["modules"].as_array().unwrap();
    assert!(modules.len() >= 150, "only {} modules in the reference", modules.len());
    let name = |m: &Json| format!("{}{}{}", m["target"].as_str().unwrap(), m["args"], m["kwargs"]);
    modules.iter().map(|m| (name(m), m)).collect()
}

fn make(entry: &Json) -> Box<dyn Case<f32>> {
    let file = CaseFile::default();
    let (args, kwargs) = (file.values(&entry["args"]).unwrap(), file.named_values(&entry["kwargs"]).unwrap());
    let args = Args::<f32>::new(args, kwargs, Handing { strided: false, tracked: false });
    let built = build(entry["target"].as_str().unwrap(), &args).unwrap().expect("a target that is built");
    assert!(args.unused().is_empty(), "arguments that nothing asked for: {:?}", args.unused());
    built
}

/// Names, shapes and types in order, in the reference's form.
fn state(module: &dyn Module) -> Json {
    let dtype = |t| match t {
        DType::F32 => "float32",
        DType::F64 => "float64",
        DType::I64 => "int64",
        DType::Bool => "bool",
    };
    module.state_dict().iter().map(|(name, t)| serde_json::json!([name, t.shape(), dtype(t.dtype())])).collect()
}

fn assert_all_equal(differences: Vec<String>) {
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn printed_forms() {
    let reference = reference();
    let mut differences = Vec::new();
    for (name, entry) in entries(&reference) {
        let printed = make(entry).module().to_string();
        if printed != entry["repr"].as_str().unwrap() {
            differences.push(format!("{name}\n  is       {printed}\n  PyTorch: {}", entry["repr"]));
        }
    }
    assert_all_equal(differences);
}

#[test]
fn state_dicts_and_parameters() {
    let reference = reference();
    let mut differences = Vec::new();
    for (name, entry) in entries(&reference) {
        let mut built = make(entry);
        let module: &dyn Module = built.module();
        let names: Json = module.named_parameters().into_iter().map(|(name, _)| name).collect();
        let ours = [state(module), names, module.num_parameters().into()];
        for (ours, what) in ours.iter().zip(["state", "parameters", "num_parameters"]) {
            if *ours != entry[what] {
                differences.push(format!("{name}, {what}\n  is       {ours}\n  PyTorch: {}", entry[what]));
            }
        }
    }
    assert_all_equal(differences);
}

/// Minimum, maximum, mean, standard deviation and number of some samples.
#[derive(Clone, Copy, Debug)]
struct Moments {
    min: f64,
    max: f64,
    mean: f64,
    std: f64,
    draws: f64,
}

impl Moments {
    fn of(values: &[f32]) -> Moments {
        let draws = values.len() as f64;
        let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / draws;
        let var = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / draws;
        let [min, max] = [f32::min, f32::max].map(|f| f64::from(values.iter().copied().reduce(f).unwrap()));
        Moments { min, max, mean, std: var.sqrt(), draws }
    }

    fn read(json: &Json) -> Moments {
        let [min, max, mean, std, draws] = ["min", "max", "mean", "std", "draws"].map(|k| json[k].as_f64().unwrap());
        Moments { min, max, mean, std, draws }
    }

    /// Bounds that two samples of one distribution exceed with a probability below one in a million: six standard
    /// errors of the mean and of the standard deviation, and bounds for minimum and maximum.
    fn unlike(self, other: Moments) -> Option<String> {
        let constant = |m: Moments| m.min == m.max;
        if constant(self) || constant(other) {
            let same = self.min == other.min && self.max == other.max;
            return (!same).then(|| format!("{} to {}", other.min, other.max));
        }
        let root = (1. / self.draws + 1. / other.draws).sqrt();
        let standard = self.std.max(other.std);
        // The standard error of a standard deviation is 0.45 σ/√n for uniform samples, 0.71 for normal ones, and 0.77
        // for normal ones of which a tenth is zero.
        let (mean, std) = (6. * standard * root, 6. * 0.77 * standard * root);
        // A uniform sample comes within range · 20/n of both ends, with a probability of 1 - e⁻²⁰; the extremes of a
        // distribution with tails vary by some standard deviations.
        let uniform = other.max < 1.8 * other.std;
        let end = match uniform {
            true => 20. * (other.max - other.min) / self.draws.min(other.draws),
            false => 2.5 * standard,
        };
        let off = |what: &str, ours: f64, theirs: f64, within: f64| {
            ((ours - theirs).abs() > within).then(|| format!("{what} {ours}, PyTorch's {theirs} ± {within}"))
        };
        off("mean", self.mean, other.mean, mean)
            .or(off("standard deviation", self.std, other.std, std))
            .or(off("minimum", self.min, other.min, end))
            .or(off("maximum", self.max, other.max, end))
    }
}

#[test]
fn the_comparison_of_distributions_tells_them_apart() {
    let uniform = Moments { min: -0.999, max: 0.999, mean: 0.01, std: 3f64.sqrt().recip(), draws: 2000. };
    assert_eq!(uniform.unlike(Moments { mean: -0.01, min: -0.998, ..uniform }), None);
    assert!(uniform.unlike(Moments { mean: 0.2, ..uniform }).unwrap().starts_with("mean"));
    assert!(uniform.unlike(Moments { std: 0.4, ..uniform }).unwrap().starts_with("standard deviation"));
    assert!(uniform.unlike(Moments { max: 0.9, ..uniform }).unwrap().starts_with("maximum"));
    let zeros = Moments { min: 0., max: 0., mean: 0., std: 0., draws: 10. };
    assert!(zeros.unlike(uniform).is_some() && uniform.unlike(zeros).is_some() && zeros.unlike(zeros).is_none());
}

#[test]
fn initial_distributions() {
    const SEEDS: u64 = 100;
    let reference = reference();
    let mut differences = Vec::new();
    let mut compared = 0;
    for (name, entry) in entries(&reference) {
        let Some(init) = entry["init"].as_object() else { continue };
        // A module among the arguments was made once, before the seeds: its entry holds one draw, copied.
        if entry["args"].as_array().unwrap().iter().any(|arg| arg["module"].is_string()) {
            continue;
        }
        let mut drawn: Vec<(String, Vec<f32>)> = Vec::new();
        for seed in 0..SEEDS {
            ndnn::manual_seed(seed);
            for (i, (name, param)) in make(entry).module().named_parameters().into_iter().enumerate() {
                if seed == 0 {
                    drawn.push((name, Vec::new()));
                }
                drawn[i].1.extend(param.detach().to::<f32>().to_vec());
            }
        }
        // Parameters without elements have no distribution.
        drawn.retain(|(_, values)| !values.is_empty());
        assert_eq!(drawn.len(), init.len(), "{name}");
        for (param, values) in &drawn {
            compared += 1;
            if let Some(difference) = Moments::of(values).unlike(Moments::read(&init[param])) {
                differences.push(format!("{name}, {param}: {difference}"));
            }
        }
    }
    assert!(compared >= 150, "only {compared} parameters were compared");
    assert_all_equal(differences);
}

// ------------------------------------------------------------------------------------------------------ nested models

#[derive(Module)]
struct Simple {
    fc: Linear,
    dropout: Dropout,
}

fn simple() -> Simple {
    Simple { fc: Linear::new(10, 1), dropout: Dropout::new(0.5) }
}

#[derive(Module)]
struct Deep {
    stem: Sequential,
    layers: ModuleList<Linear>,
    heads: ModuleDict<Linear>,
    act: LeakyReLU,
    simple: Simple,
}

fn deep() -> Deep {
    Deep {
        stem: sequential![Conv2d::new(3, 16, 3).padding(1), BatchNorm2d::new(16), ReLU, MaxPool2d::new(2)],
        layers: vec![Linear::new(16, 16), Linear::new(16, 16), Linear::new(16, 16), Linear::new(16, 4)],
        heads: ModuleDict::from([("a", Linear::new(4, 2)), ("b", Linear::new(4, 3).bias(false))]),
        act: LeakyReLU::new(0.2),
        simple: simple(),
    }
}

/// Builds a model by the first word of its description in the reference; `None` if it needs a layer that ndnn does not
/// have yet.
fn nested(what: &str) -> Option<Box<dyn Module>> {
    let params = |shapes: &[&[usize]]| shapes.iter().map(|s| Param::new(Tensor::zeros(s))).collect::<Vec<Param>>();
    Some(match what {
        _ if what.starts_with("Simple") => Box::new(simple()),
        _ if what.starts_with("Deep") => Box::new(deep()),
        "Sequential()" => Box::new(Sequential::<f32>::default()),
        _ if what.starts_with("Sequential(") => {
            Box::new(sequential![Linear::new(784, 256), ReLU, Dropout::new(0.2), Linear::new(256, 10)])
        }
        _ if what.starts_with("ModuleList") => {
            let block = || sequential![Linear::new(2, 2), Tanh];
            Box::new(vec![block(), block(), block()])
        }
        _ if what.starts_with("ParameterList") => Box::new(ParameterList::from(params(&[&[2, 3], &[4]]))),
        _ if what.starts_with("ParameterDict") => {
            Box::new(ParameterDict::from([("w", Param::new(Tensor::<f32>::zeros([2, 3])))]))
        }
        _ if what.starts_with("TransformerEncoder") => {
            Box::new(TransformerEncoder::new(TransformerEncoderLayer::new(8, 2).dim_feedforward(16), 3))
        }
        other => panic!("the reference has a nested model that is not built here: {other}"),
    })
}

#[test]
fn nested_models() {
    let reference = reference();
    let mut compared = 0;
    for entry in reference["nested"].as_array().unwrap() {
        let what = entry["what"].as_str().unwrap();
        let Some(module) = nested(what) else { continue };
        compared += 1;
        assert_eq!(module::repr(&*module), entry["repr"].as_str().unwrap(), "{what}");
        let state: Json = module.state_dict().iter().map(|(name, t)| serde_json::json!([name, t.shape()])).collect();
        assert_eq!(state, entry["state"], "{what}");
    }
    assert!(compared >= 8);
}
