//! What `#[forward]` turns the body of a `forward` into: a call. It adds the module's name to errors, shows the output
//! to a summary, and runs hooks.

use std::any::TypeId;

use super::{
    Module,
    hooks::{self, Event, Gradients, Hook, HookKind},
    printing, summary, walk,
};
use crate::{
    Error, Result,
    tensor::{AnyTensor, Tensors},
};

/// Identifies a module among all that exist at the same time, by its address and its type. Only structs without fields
/// may share an identity; ndnn's own layers all have at least one byte.
pub type Place = (usize, TypeId);

/// A call of a module that a hook or a summary observes.
pub struct Call<'m>(Box<dyn Observer + 'm>);

impl<'m> Call<'m> {
    /// Returns `None`, at the cost of one relaxed load, if nothing observes calls.
    #[inline]
    pub fn of<M: Module>(module: &'m M) -> Option<Self> {
        if hooks::is_anybody_watching() { hooks::observer(module).map(Call) } else { None }
    }

    /// Runs the hooks before the body.
    pub fn before(&mut self) -> Result<()> {
        self.0.before()
    }

    /// From now on the tensors shown are the output.
    pub fn ran(&mut self) {
        self.0.ran();
    }

    /// Runs the hooks after the body.
    pub fn after(&mut self) -> Result<()> {
        self.0.after()
    }
}

/// What a call does with hooks and summaries. Only [`Watch`](hooks::Watch) names what implements it, so that a program
/// without them does not contain it.
pub(super) trait Observer {
    fn before(&mut self) -> Result<()>;
    fn ran(&mut self);
    fn after(&mut self) -> Result<()>;
    /// Takes the tensors of an argument or a result.
    fn show(&mut self, tensors: Vec<AnyTensor>);
    /// Whether hooks have replaced the tensors that were shown.
    fn has_replaced(&self) -> bool;
    /// The next of the tensors that replace them.
    fn next(&mut self) -> AnyTensor;
    fn module(&self) -> &dyn Module;
}

struct Observed<'m> {
    module: &'m dyn Module,
    hooks: Vec<Hook>,
    event: Event,
    gradients: Option<Gradients>,
    summary: Option<summary::Observed>,
    /// Whether the tensors shown next are the output.
    ran: bool,
    replaced: bool,
    /// How many replacements were taken.
    taken: usize,
}

/// What observes a call of this module now, if anything does.
#[inline]
pub(super) fn observer(module: &dyn Module) -> Option<Box<dyn Observer + '_>> {
    let (hooks, summary) = (hooks::of(module), summary::Observed::begin(module.place()));
    if hooks.is_empty() && summary.is_none() {
        return None;
    }
    let gradients = Gradients::of(&hooks);
    let event = Event::default();
    Some(Box::new(Observed { module, hooks, event, gradients, summary, ran: false, replaced: false, taken: 0 }))
}

impl Observed<'_> {
    #[inline]
    fn shown(&mut self) -> &mut Vec<AnyTensor> {
        if self.ran { &mut self.event.output } else { &mut self.event.input }
    }

    #[inline]
    fn run(&mut self, kind: HookKind) -> Result<()> {
        self.taken = 0;
        self.replaced = false;
        for hook in self.hooks.iter().filter(|h| h.kind == kind) {
            self.replaced |= self.event.run(hook).map_err(|e| locate(self.module, e))?;
        }
        Ok(())
    }
}

impl Observer for Observed<'_> {
    #[inline]
    fn before(&mut self) -> Result<()> {
        self.run(HookKind::ForwardPre)?;
        if let Some(summary) = &self.summary {
            summary.got(&self.event.input);
        }
        if let Some(gradients) = &self.gradients {
            self.replaced |= gradients.watch_input(&mut self.event.input).map_err(|e| locate(self.module, e))?;
        }
        Ok(())
    }

    #[inline]
    fn ran(&mut self) {
        self.ran = true;
    }

    #[inline]
    fn after(&mut self) -> Result<()> {
        self.run(HookKind::Forward)?;
        if let Some(gradients) = &self.gradients {
            self.replaced |= gradients.watch_output(&mut self.event.output).map_err(|e| locate(self.module, e))?;
        }
        if let Some(summary) = self.summary.take() {
            summary.returned(&self.event.output);
        }
        Ok(())
    }

    #[inline]
    fn show(&mut self, tensors: Vec<AnyTensor>) {
        self.shown().extend(tensors);
    }

    #[inline]
    fn has_replaced(&self) -> bool {
        self.replaced
    }

    #[inline]
    fn next(&mut self) -> AnyTensor {
        let at = self.taken;
        self.taken += 1;
        self.shown()[at].clone()
    }

    #[inline]
    fn module(&self) -> &dyn Module {
        self.module
    }
}

/// An argument or a result of a `forward`, which may contain tensors.
pub struct Arg<'a, A>(pub &'a A);

/// An argument that is [`Tensors`].
pub trait Seen<A> {
    /// Shows the tensors to the call.
    fn show(&self, call: &mut Call<'_>);
    /// The value that replaces it.
    fn taken(&self, call: &mut Call<'_>) -> Result<Option<A>>;
}

impl<A: Tensors> Seen<A> for Arg<'_, A> {
    fn show(&self, call: &mut Call<'_>) {
        call.0.show(self.0.tensors());
    }

    fn taken(&self, call: &mut Call<'_>) -> Result<Option<A>> {
        if !call.0.has_replaced() {
            return Ok(None);
        }
        let other = self.0.map(&mut |_| Ok(call.0.next()));
        other.map(Some).map_err(|e| locate(call.0.module(), e))
    }
}

/// An argument of any other type. The compiler prefers [`Seen`], since this trait needs one more reference.
pub trait Unseen<A> {
    /// Shows nothing.
    fn show(&self, _: &mut Call<'_>) {}
    /// It stays as it is.
    fn taken(&self, _: &mut Call<'_>) -> Result<Option<A>> {
        Ok(None)
    }
}

impl<A> Unseen<A> for &Arg<'_, A> {}

/// Runs the body of a call and adds the place to an error.
#[inline]
pub fn run<M: Module, R>(module: &M, body: impl FnOnce() -> Result<R>) -> Result<R> {
    match body() {
        Ok(result) => Ok(result),
        Err(error) => Err(locate(module, error)),
    }
}

/// Records that `module` returned an error: on the way out, each enclosing module adds its own name in front of the
/// path to the innermost one.
#[cold]
fn locate(module: &dyn Module, error: Error) -> Error {
    let (place, name) = (module.place(), module.type_name());
    match error.place() {
        Some(inner) if inner == place => error,
        Some(inner) => match walk::path_to(module, inner) {
            Some(path) => error.below(place, name, &path),
            None => error.at(place, name, printing::line(module)),
        },
        None => error.at(place, name, printing::line(module)),
    }
}
