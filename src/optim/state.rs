//! The state of an optimizer by name: written to a [`StateDict`], and read from one completely or not at all.

use std::collections::HashSet;

use super::{
    each::{ParamRule, ParamState, Slot},
    rule::Member,
};
use crate::{
    Error, Result,
    error::{ErrorKind, listed},
    kernels::memory::copied,
    module::LoadReport,
    number::Real,
    state::StateDict,
    tensor::{AnyTensor, Tensor},
};

/// 2⁵³
const EXACT: f64 = (1u64 << 53) as f64;

/// A state_dict from which an optimizer is loaded: records what is missing, unexpected or does not match.
pub struct StateReader<'s> {
    state: &'s StateDict,
    taken: HashSet<String>,
    report: LoadReport,
    faults: Vec<String>,
}

impl<'s> StateReader<'s> {
    pub(super) fn new(state: &'s StateDict) -> Self {
        StateReader { state, taken: HashSet::new(), report: LoadReport::default(), faults: Vec::new() }
    }

    /// The shape of an entry, if there is one.
    pub fn shape(&self, name: &str) -> Option<&'s [usize]> {
        self.state.get(name).map(AnyTensor::shape)
    }

    /// An entry; if it is missing or has another shape, records this and returns `None`.
    pub fn take(&mut self, name: &str, shape: &[usize]) -> Option<&'s AnyTensor> {
        let found = self.state.get(name);
        match found {
            None => self.report.missing.push((name.to_string(), shape.to_vec())),
            Some(tensor) => {
                self.taken.insert(name.to_string());
                if tensor.shape() != shape {
                    self.report.mismatched.push((name.to_string(), shape.to_vec(), tensor.shape().to_vec()));
                    return None;
                }
            }
        }
        found
    }

    /// A number; if it is missing or has axes, records this and returns 0.
    pub fn number(&mut self, name: &str) -> f64 {
        self.take(name, &[]).map_or(0., |tensor| tensor.to::<f64>().to_vec()[0])
    }

    /// A whole number from 0 to 2⁵³, up to which every whole number is exact in `f64`; if it is not one, records this and
    /// returns 1, so that what belongs to a step is read all the same.
    pub fn count(&mut self, name: &str) -> u64 {
        let number = self.number(name);
        if (0. ..=EXACT).contains(&number) && number.fract() == 0. {
            return number as u64;
        }
        self.refuse(format!("{name} is a whole number from 0 to 2^53, got {number}"));
        1
    }

    /// Records anything else that does not match.
    pub fn refuse(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// # Errors
    /// If anything was recorded, or an entry was not used.
    pub(super) fn finish(mut self) -> Result<()> {
        let unexpected = self.state.iter().filter(|(name, _)| !self.taken.contains(*name));
        self.report.unexpected = unexpected.map(|(name, tensor)| (name.to_string(), tensor.shape().to_vec())).collect();
        let problems = [self.report.problems(), listed(self.faults.iter())];
        let problems: Vec<&str> = problems.iter().map(String::as_str).filter(|text| !text.is_empty()).collect();
        if problems.is_empty() {
            return Ok(());
        }
        let message = format!("{}; nothing was changed", problems.join("; "));
        Err(Error::new(ErrorKind::State, "load_state_dict", message))
    }
}

/// How the state of a parameter is stored in a state_dict.
pub(super) struct Layout<'m> {
    parameter: &'m str,
    scalars: &'static [&'static str],
    slots: Vec<SlotLayout>,
}

struct SlotLayout {
    name: &'static str,
    shape: Vec<usize>,
    used: bool,
}

impl SlotLayout {
    /// The shape under which a slot is saved that the options use but no step has used yet: without elements, as a
    /// placeholder, so that a file that lacks the slot is refused.
    fn vacant(&self) -> &[usize] {
        if self.shape.contains(&0) { &self.shape } else { &[0] }
    }
}

impl<'m> Layout<'m> {
    pub(super) fn of<R: ParamRule>(member: &'m Member, groups: &[R::Options]) -> Self {
        let shape = member.param.shape();
        let slot = |(i, &name)| SlotLayout {
            name,
            shape: R::slot_shape(i, &shape),
            used: R::uses(&groups[member.group], i, &shape),
        };
        Layout { parameter: &member.name, scalars: R::SCALARS, slots: R::SLOTS.iter().enumerate().map(slot).collect() }
    }

    fn key(&self, what: &str) -> String {
        format!("state.{}.{what}", self.parameter)
    }

    pub(super) fn save<T: Real>(&self, own: &ParamState<T>, state: &mut StateDict) {
        state.insert(self.key("step"), Tensor::scalar(own.step as i64));
        for (name, &value) in self.scalars.iter().zip(&own.scalars) {
            state.insert(self.key(name), Tensor::scalar(value));
        }
        for (layout, slot) in self.slots.iter().zip(&own.slots) {
            let tensor = match slot.uses {
                0 if !layout.used => continue,
                0 => Tensor::zeros(layout.vacant()),
                _ => Tensor::from_vec(&layout.shape, copied(&slot.values)).expect("it was made so"),
            };
            state.insert(self.key(layout.name), tensor);
        }
    }

    pub(super) fn load<T: Real>(&self, state: &mut StateReader<'_>) -> ParamState<T> {
        let step = state.count(&self.key("step"));
        if step == 0 {
            return ParamState::default();
        }
        let scalars = self.scalars.iter().map(|name| state.number(&self.key(name))).collect();
        let slots = self.slots.iter().map(|layout| {
            let name = self.key(layout.name);
            let shape = match state.shape(&name) {
                None if !layout.used => return Slot::default(),
                Some(found) if found == layout.vacant() => layout.vacant(),
                _ => &layout.shape,
            };
            let values = state.take(&name, shape).map(|t| t.to::<T>().to_vec()).unwrap_or_default();
            // A slot that was saved with values does not count as new.
            Slot { uses: u64::from(shape == layout.shape), values, used: false }
        });
        ParamState { step, scalars, slots: slots.collect() }
    }
}
