//! Rules of every kind that torch.optim has, each as small as possible.

use ndnn::{
    AnyTensor, Error, Result,
    nn::{AnyParam, StateDict, utils::clip_grad_norm},
    optim::{Closure, Each, Member, ParamRule, Rule, RuleOptimizer, SGDOptions, SGDRule, StateReader, Step},
    prelude::*,
};

use super::{close, param, value};

fn shapes(state: &StateDict) -> Vec<(&str, &[usize])> {
    let slots = state.iter().filter(|(name, _)| name.starts_with("state.") && !name.ends_with(".group"));
    slots.map(|(name, tensor)| (name, tensor.shape())).collect()
}

fn number(state: &StateDict, name: &str) -> f64 {
    state.get(name).unwrap_or_else(|| panic!("{name}")).to::<f64>().item().unwrap()
}

/// Like Adafactor: a matrix is divided by the root mean squares of its rows and columns, any other parameter by its
/// own.
struct FactorRule;

impl ParamRule for FactorRule {
    type Options = SGDOptions;
    const SLOTS: &'static [&'static str] = &["row_var", "col_var", "variance"];

    fn accept(shape: &[usize]) -> Result<()> {
        if shape.len() <= 2 { Ok(()) } else { Err(Error::shape("Factor", format!("at most 2 axes, got {shape:?}"))) }
    }

    fn uses(_: &SGDOptions, slot: usize, shape: &[usize]) -> bool {
        (shape.len() == 2) == (slot < 2)
    }

    fn slot_shape(slot: usize, shape: &[usize]) -> Vec<usize> {
        match (slot, shape) {
            (0, &[rows, _]) => vec![rows, 1],
            (1, &[_, columns]) => vec![1, columns],
            _ => shape.to_vec(),
        }
    }

    fn update<T: Real>(o: &SGDOptions, step: &mut Step<'_, T>) {
        let Step { shape, value, grad, slots, .. } = step;
        let [rows, columns, own] = slots else { panic!("three slots") };
        let lr = T::of(o.lr);
        let &[_, width] = *shape else {
            for ((x, &g), v) in value.iter_mut().zip(*grad).zip(&mut own.values) {
                *v += g * g;
                *x -= lr * g / v.sqrt();
            }
            return;
        };
        for (i, &g) in grad.iter().enumerate() {
            rows.values[i / width] += g * g;
            columns.values[i % width] += g * g;
        }
        for (i, x) in value.iter_mut().enumerate() {
            *x -= lr * grad[i] / (rows.values[i / width] * columns.values[i % width]).sqrt();
        }
    }
}

#[test]
fn slots_of_other_shapes() {
    let model = Linear::new(3, 2).dtype::<f64>();
    let g = tensor![[3., 0., 4.], [0., 1., 0.]; f64];
    let before = model.weight.detach();
    let make = || RuleOptimizer::<Each<FactorRule>>::with_options(&model, SGDOptions::new(0.5));
    let mut factor = make();
    // A parameter that never had a gradient has no slots.
    model.weight.set_grad(Some(g.clone())).unwrap();
    factor.step().unwrap();
    let state = factor.state_dict().unwrap();
    let expected: &[(&str, &[usize])] = &[
        ("state.weight.step", &[]),
        ("state.weight.row_var", &[2, 1]),
        ("state.weight.col_var", &[1, 3]),
        ("state.bias.step", &[]),
    ];
    assert_eq!(shapes(&state), expected);
    assert_eq!(state.get("state.weight.row_var").unwrap().to::<f64>(), tensor![[25.], [1.]; f64]);
    let moved = before - model.weight.detach();
    for (i, j, expected) in [(0, 0, 0.5 * 3. / 15.), (0, 1, 0.), (0, 2, 0.5 * 4. / 20.), (1, 1, 0.5)] {
        close(moved.view()[[i, j]], expected);
    }
    let mut other = make();
    other.load_state_dict(&state).unwrap();
    assert_eq!(shapes(&other.state_dict().unwrap()), expected);
}

#[test]
#[should_panic(expected = "Factor: at most 2 axes, got [1, 1, 1]; in the parameter 1")]
fn shapes_that_a_rule_does_not_serve() {
    let params = [&[1][..], &[1, 1, 1]].map(|shape| Param::<f32>::new(Tensor::ones(shape))).to_vec();
    let _ = RuleOptimizer::<Each<FactorRule>>::with_options(params, SGDOptions::new(1.));
}

/// Like Rprop and NAdam: a slot that starts with the learning rate, and a number in addition to the arrays.
struct ProductRule;

impl ParamRule for ProductRule {
    type Options = SGDOptions;
    const SLOTS: &'static [&'static str] = &["step_size"];
    const SCALARS: &'static [&'static str] = &["mu_product"];

    fn initial(o: &SGDOptions, _: usize) -> f64 {
        o.lr
    }

    fn initial_scalar(_: &SGDOptions, _: usize) -> f64 {
        1.
    }

    fn update<T: Real>(o: &SGDOptions, step: &mut Step<'_, T>) {
        step.scalars[0] *= o.momentum + step.count as f64;
        for (x, size) in step.value.iter_mut().zip(&mut step.slots[0].values) {
            *x -= *size * T::of(step.scalars[0]);
            *size /= T::of(2.);
        }
    }
}

#[test]
fn numbers_beside_the_arrays() {
    let p = param(1., 1.);
    let make =
        |lr| RuleOptimizer::<Each<ProductRule>>::with_options(vec![p.clone()], SGDOptions::new(lr).momentum(0.5));
    let mut rule = make(0.25);
    rule.step().unwrap();
    close(value(&p), 1. - 0.25 * 1.5);
    // Later learning rates do not matter: the slot started with the first one.
    rule.set_lr(10.);
    rule.step().unwrap();
    close(value(&p), 0.625 - 0.125 * 1.5 * 2.5);
    let state = rule.state_dict().unwrap();
    assert_eq!((number(&state, "state.0.mu_product"), number(&state, "state.0.step_size")), (3.75, 0.0625));
    let mut resumed = make(1.);
    resumed.load_state_dict(&state).unwrap();
    let before = value(&p);
    resumed.step().unwrap();
    close(value(&p), before - 0.0625 * 3.75 * 3.5);
}

/// Like L-BFGS: steps along the gradient of all parameters as far as that lowers the loss enough, which requires the
/// closure.
struct LineSearchRule {
    evaluations: i64,
}

fn f64s(members: &[Member]) -> Vec<&Param<f64>> {
    members.iter().map(|m| if let AnyParam::F64(p) = m.param() { p } else { panic!("f64 only") }).collect()
}

impl Rule for LineSearchRule {
    type Options = SGDOptions;

    fn new(_: &[Member]) -> Result<Self> {
        Ok(LineSearchRule { evaluations: 0 })
    }

    fn step(&mut self, _: &[Member], _: &[SGDOptions]) -> Result<()> {
        Err(Error::value("LineSearch", "it needs the loss; call step_with"))
    }

    fn step_with(&mut self, members: &[Member], groups: &[SGDOptions], closure: &mut Closure<'_>) -> Result<()> {
        let loss = closure()?;
        let params = f64s(members);
        let start: Vec<Tensor<f64>> = params.iter().map(|p| p.detach()).collect();
        let grads: Vec<Tensor<f64>> = params.iter().map(|p| p.grad().expect("a gradient")).collect();
        let square: f64 = grads.iter().map(|g| g.square().sum().item().unwrap()).sum();
        let mut t = groups[0].lr;
        loop {
            for ((p, x), g) in params.iter().zip(&start).zip(&grads) {
                p.set(&(x - &(g * t)))?;
            }
            self.evaluations += 1;
            if closure()? <= loss - 1e-4 * t * square {
                return Ok(());
            }
            t /= 2.;
        }
    }

    fn save(&self, _: &[Member], _: &[SGDOptions], state: &mut StateDict) {
        state.insert("rule.evaluations", Tensor::scalar(self.evaluations));
    }

    fn load(_: &[Member], _: &[SGDOptions], state: &mut StateReader<'_>) -> Self {
        LineSearchRule { evaluations: state.count("rule.evaluations") as i64 }
    }
}

#[test]
fn a_rule_over_all_parameters_that_needs_the_loss() {
    // 50x² + y²: a step of 1 along its gradient increases it.
    let (x, y) = (param(1., 0.), param(-2., 0.));
    let make = || RuleOptimizer::<LineSearchRule>::with_options(vec![x.clone(), y.clone()], SGDOptions::new(1.));
    let closure = || {
        [&x, &y].iter().for_each(|p| p.zero_grad());
        let loss = x.tensor().square() * 50. + y.tensor().square();
        loss.backward()?;
        Ok(loss)
    };
    let mut search = make();
    let _ = closure().unwrap();
    assert_eq!(search.step().unwrap_err().to_string(), "LineSearch: it needs the loss; call step_with");
    // It returns the loss before the step.
    assert_eq!(search.step_with(closure).unwrap().item().unwrap(), 54.);
    let losses: Vec<f64> = (0..30).map(|_| search.step_with(closure).unwrap().item().unwrap()).collect();
    assert!(losses.windows(2).all(|pair| pair[1] < pair[0]) && losses[29] < 0.5, "{losses:?}");
    let state = search.state_dict().unwrap();
    assert!(number(&state, "rule.evaluations") > 60.);
    let mut resumed = make();
    resumed.load_state_dict(&state).unwrap();
    assert_eq!(resumed.state_dict().unwrap().keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>());
    assert_eq!(number(&resumed.state_dict().unwrap(), "rule.evaluations"), number(&state, "rule.evaluations"));
    // An error of the closure is returned, and a closure that computes no gradients is refused.
    let failed = resumed.step_with(|| Tensor::<f64>::ones([2]).reshape([3]));
    assert!(failed.unwrap_err().to_string().starts_with("reshape: "));
    [&x, &y].iter().for_each(|p| p.zero_grad());
    let error = resumed.step_with(|| Ok(Tensor::scalar(1.0f64))).unwrap_err();
    assert!(error.to_string().starts_with("step: none of the 2 parameters has a gradient"), "{error}");
}

/// A rule that wraps another one: it clips by the norm of all gradients before it steps.
struct ClippedRule(Each<SGDRule>);

impl Rule for ClippedRule {
    type Options = SGDOptions;

    fn new(members: &[Member]) -> Result<Self> {
        Each::new(members).map(ClippedRule)
    }

    fn step(&mut self, members: &[Member], groups: &[SGDOptions]) -> Result<()> {
        clip_grad_norm(members.iter().map(|m| m.param().clone()).collect::<Vec<AnyParam>>(), 1.)?;
        self.0.step(members, groups)
    }

    fn save(&self, members: &[Member], groups: &[SGDOptions], state: &mut StateDict) {
        self.0.save(members, groups, state);
    }

    fn load(members: &[Member], groups: &[SGDOptions], state: &mut StateReader<'_>) -> Self {
        ClippedRule(Each::load(members, groups, state))
    }
}

#[test]
fn a_rule_around_another() {
    let params = [param(0., 3.), param(0., -4.)];
    let mut clipped = RuleOptimizer::<ClippedRule>::with_options(params.to_vec(), SGDOptions::new(0.5));
    clipped = clipped.group("1", |g| g.lr(0.25)).unwrap();
    let loss = clipped.step_with(|| Ok(Tensor::scalar(7.0f32))).unwrap();
    assert_eq!(loss.item().unwrap(), 7.);
    let norm = 5. + 1e-6;
    close(value(&params[0]), -0.5 * 3. / norm);
    close(value(&params[1]), 0.25 * 4. / norm);
    let any: AnyTensor = clipped.state_dict().unwrap().remove("state.1.step").unwrap();
    assert_eq!(any.to::<i64>(), Tensor::scalar(1));
}
