//! Hooks: functions that see the inputs and outputs of a module, forward and backward, and may replace them.
//!
//! A module is called where its `forward` is marked [`#[forward]`](crate::forward), as those of all layers are. As in
//! PyTorch there are four kinds of hooks:
//!
//! | | sees, after the path | may replace |
//! |---|---|---|
//! | forward pre-hook | the input | the input |
//! | forward hook | input and output | the output |
//! | backward pre-hook | the gradient of the output | that gradient |
//! | backward hook | the gradients of input and output | the gradient of the input |
//!
//! Each sees the tensors in order: those of all arguments that are [`Tensors`], that is `&Tensor`, and tuples, lists and
//! options of tensors. A backward hook sees the gradients of those through which gradients flow: none if the input needs
//! none, and zeros for one of several outputs that is not used. A hook returns nothing, `()`, or as many tensors as it may
//! replace, as one tensor, a tuple or a `Vec`.
//!
//! - [`during`] and its variants borrow the hook, so that the hook may borrow too; it is active while a function runs,
//!   on the caller's thread.
//! - [`register_forward_hook`] and its variants are active until their [`Handle`] is dropped, on all threads. A handle
//!   borrows the model, so its layers cannot move meanwhile.
//! - [`Hooked`] is a wrapper around a module, whose hooks stay while it is moved, trained and evaluated.
//! - [`register_module_forward_hook`] and its variants are active for every module of the program, until their handle is
//!   dropped. They see the module as it prints, without its children, in the place of a path, and run before the other hooks.
//!
//! A module in several places of a model has one hook, which gets the first path that matches. Hooks run in the order in
//! which they were registered. If one panics, the panic propagates, and hooks of [`during`] are removed.
//!
//! Four more kinds see a state_dict, in the same two ways, registered or on a [`Hooked`] module:
//! [`register_state_dict_pre_hook`] and [`register_state_dict_post_hook`] when it is made, [`register_load_state_dict_pre_hook`]
//! and [`register_load_state_dict_post_hook`] when it is loaded. Hooks of a parameter are
//! [`Param::register_hook`](super::Param::register_hook) and
//! [`register_post_accumulate_grad_hook`](super::Param::register_post_accumulate_grad_hook); that of a tensor is a part of the
//! tensor that [`Tensor::with_hook`](crate::Tensor::with_hook) returns, and ends with it.
//!
//! Registering any other returns a [`Handle`] that removes the hook. Of PyTorch's options, `with_kwargs` is not needed, since a
//! hook sees the tensors of all arguments; `prepend` is the order of registration; and instead of `always_call`, look at the
//! `Result`: a hook does not run for a call that failed. Hooks on registration have no counterpart: a struct's fields are its
//! members once it is compiled.
//!
//! ```
//! use ndnn::{module::hooks, prelude::*};
//! let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
//! let mut features = Vec::new();
//! let y = hooks::during(
//!     &model,
//!     "1",
//!     |path, _input, output| features.push((path.to_string(), output[0].shape().to_vec())),
//!     || model.forward(&Tensor::ones([5, 4])),
//! )?;
//! assert_eq!((y.shape(), &features[..]), (&[5, 2][..], &[("1".to_string(), vec![5, 8])][..]));
//! # Ok::<(), ndnn::Error>(())
//! ```

mod backward;
mod calls;
mod hooked;
mod param;
mod state;
mod table;
mod watch;

use std::sync::Arc;

use super::Module;
use crate::{
    Result,
    tensor::{AnyTensor, Tensors},
};
use calls::{lent, register};
use table::places;

pub(super) use backward::Gradients;
pub(super) use calls::{Event, Hook, of};
pub(crate) use calls::{are_only_here, origins, origins_here, with_origins};
pub use hooked::Hooked;
pub(super) use state::{Step, runner};
pub use state::{
    register_load_state_dict_post_hook, register_load_state_dict_pre_hook, register_state_dict_post_hook,
    register_state_dict_pre_hook,
};
pub use table::Handle;
pub(super) use table::HookKind;
pub(super) use watch::{Watch, is_anybody_watching, observer};

/// The functions for the four kinds of hooks, each with what such a hook sees: while a function runs, until removed, on a
/// [`Hooked`] module, and on all modules.
macro_rules! kinds {
    ($(
        $kind:ident, ($($arg:ident),+):
        $(#[$during_doc:meta])* $during:ident,
        $(#[$doc:meta])* $name:ident,
        $(#[$all_doc:meta])* $all:ident;
    )*) => {
        $(
            $(#[$during_doc])*
            pub fn $during<M: Module, H: Tensors, R>(
                model: &M,
                pattern: &str,
                mut hook: impl FnMut(&str, $(kinds!(@ $arg)),+) -> H,
                run: impl FnOnce() -> Result<R>,
            ) -> Result<R> {
                let mut hook = |e: &mut Event| e.returned = hook(&e.path, $(&e.$arg),+).tensors();
                lent(model, pattern, HookKind::$kind, &mut hook, run)
            }

            $(#[$doc])*
            ///
            /// # Errors
            /// If no path matches.
            pub fn $name<'a, M: Module, H: Tensors>(
                model: &'a M,
                pattern: &str,
                hook: impl Fn(&str, $(kinds!(@ $arg)),+) -> H + Send + Sync + 'static,
            ) -> Result<Handle<'a>> {
                let places = places(model, pattern)?;
                Ok(register(places, HookKind::$kind, move |e| e.returned = hook(&e.path, $(&e.$arg),+).tensors()))
            }

            #[doc = concat!("As [`", stringify!($name), "`](", stringify!($name), "()), for every module of the program, on all threads: the hook")]
            /// sees the module as it prints, without its children, and runs before those of the module itself.
            $(#[$all_doc])*
            pub fn $all<H: Tensors>(
                hook: impl Fn(&str, $(kinds!(@ $arg)),+) -> H + Send + Sync + 'static,
            ) -> Handle<'static> {
                let everywhere = vec![(None, Arc::from(""))];
                register(everywhere, HookKind::$kind, move |e| e.returned = hook(&e.path, $(&e.$arg),+).tensors())
            }
        )*

        impl<M: Module + Clone> Hooked<M> {
            $(
                #[doc = concat!("As [`", stringify!($name), "`](", stringify!($name), "()), of this module, without a path.")]
                pub fn $name<H: Tensors>(
                    &self,
                    hook: impl Fn($(kinds!(@ $arg)),+) -> H + Send + Sync + 'static,
                ) -> Handle<'static> {
                    let place = vec![(Some((**self).as_module().place()), Arc::from(""))];
                    register(place, HookKind::$kind, move |e| e.returned = hook($(&e.$arg),+).tensors())
                }
            )*
        }
    };
    (@ $arg:ident) => { &[AnyTensor] };
}
kinds! {
    ForwardPre, (input):
    /// As [`during`], with a forward pre-hook `hook(path, input)`, whose result replaces the input.
    ///
    /// # Errors
    /// As [`during`].
    during_pre,

    /// Registers the forward pre-hook `hook(path, input)` of each module whose path matches, for all threads.
    register_forward_pre_hook,

    register_module_forward_pre_hook;

    Forward, (input, output):
    /// Runs `run`; meanwhile, on this thread, the forward hook `hook(path, input, output)` of each module of `model` whose
    /// path matches `pattern` is active (`"layer4.*"`; `""` is the model itself).
    ///
    /// What the hook returns replaces the output, unless it is `()`.
    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// let model = sequential![Linear::new(2, 2), ReLU];
    /// let (x, double) = (tensor![[1.0, 2.0]], |output: &[ndnn::AnyTensor]| output[0].get::<f32>().map(|y| y * 2.0));
    /// let y = hooks::during(&model, "1", |_, _, output| double(output), || model.forward(&x))?;
    /// assert_eq!(y, model.forward(&x)? * 2.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `run`; if no path matches; if the hook returns a different number or type of tensors than it may replace.
    during,

    /// Registers the forward hook `hook(path, input, output)` of each module whose path matches, for all threads.
    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    /// static CALLS: AtomicUsize = AtomicUsize::new(0);
    /// let model = sequential![Linear::new(2, 2), ReLU, Linear::new(2, 1)];
    /// let count = |_: &str, _: &[ndnn::AnyTensor], _: &[ndnn::AnyTensor]| drop(CALLS.fetch_add(1, Relaxed));
    /// let handle = hooks::register_forward_hook(&model, "*", count)?;
    /// model.forward(&Tensor::ones([3, 2]))?;
    /// handle.remove();
    /// model.forward(&Tensor::ones([3, 2]))?;
    /// assert_eq!(CALLS.load(Relaxed), 4, "three layers, and the model");
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    register_forward_hook,

    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
    /// let handle = hooks::register_module_forward_hook(|module, _input, output| println!("{module}: {:?}", output[0].shape()));
    /// model.forward(&Tensor::ones([5, 4]))?;  // Linear(in_features=4, out_features=8, bias=True): [5, 8] …
    /// handle.remove();
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    register_module_forward_hook;

    BackwardPre, (output):
    /// As [`during_backward`], with a backward pre-hook `hook(path, grad_output)`, whose result replaces the gradient of
    /// the output.
    ///
    /// # Errors
    /// As [`during`].
    during_backward_pre,

    /// Registers the backward pre-hook `hook(path, grad_output)` of each module whose path matches, for all threads.
    register_full_backward_pre_hook,

    register_module_full_backward_pre_hook;

    Backward, (input, output):
    /// As [`during`], with a backward hook `hook(path, grad_input, grad_output)`, whose result replaces the gradient of the
    /// input. `run` calls both `forward` and `backward`.
    ///
    /// # Errors
    /// As [`during`].
    during_backward,

    /// Registers the backward hook `hook(path, grad_input, grad_output)` of each module whose path matches, for all threads.
    register_full_backward_hook,

    register_module_full_backward_hook;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn a_shared_module_has_one_hook() {
        let tanh = Arc::new(Tanh);
        let model: Sequential = sequential![tanh.clone(), ReLU, tanh];
        let (mut paths, x) = (Vec::new(), Tensor::ones([1]));
        let y = during(&model, "*", |path, _, _| paths.push(path.to_string()), || model.forward(&x)).unwrap();
        assert_eq!((y.shape(), paths), (&[1][..], ["0", "1", "0", ""].map(String::from).to_vec()));
    }
}
