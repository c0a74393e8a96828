//! A function of an interface with its types: what a kind promises and what is called are the same value.

use std::fmt;
use std::marker::PhantomData;

use wasmtime::Store;
use wasmtime::component::{ComponentExportIndex, ComponentNamedList, Instance, Lift, Lower};

use crate::state::CallState;
use crate::text::error_text;

/// A function that plugins export, named without package and version.
///
/// `P` is the tuple of parameters and `R` the tuple of results: `(Answer,)` for one. A constant of this type is listed
/// in [`crate::Kind::functions`], so that loading compares the types, and handed to [`crate::Provider::call`].
pub struct Function<P, R> {
    interface: &'static str,
    name: &'static str,
    types: PhantomData<fn(P) -> R>,
}

impl<P, R> Function<P, R> {
    /// `Function::new("greeter", "greet")`.
    pub const fn new(interface: &'static str, name: &'static str) -> Self {
        Function { interface, name, types: PhantomData }
    }

    /// Without package and version.
    pub fn interface(&self) -> &'static str {
        self.interface
    }

    /// Without its interface.
    pub fn name(&self) -> &'static str {
        self.name
    }
}

impl<P, R> Clone for Function<P, R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P, R> Copy for Function<P, R> {}

impl<P, R> fmt::Debug for Function<P, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.interface, self.name)
    }
}

/// A [`Function`] whatever its types.
pub trait AnyFunction: fmt::Debug + Send + Sync + sealed::Typed {}

pub(crate) mod sealed {
    use super::{CallState, ComponentExportIndex, Instance, Store};

    pub trait Typed {
        fn named(&self) -> (&'static str, &'static str);

        /// Compares the types of an export with this function's; the error says what differs.
        #[expect(private_interfaces, reason = "only this crate can name the trait")]
        fn compare(
            &self,
            store: &mut Store<CallState>,
            instance: &Instance,
            export: &ComponentExportIndex,
        ) -> Result<(), String>;
    }
}

impl<P, R> sealed::Typed for Function<P, R>
where
    P: ComponentNamedList + Lower + 'static,
    R: ComponentNamedList + Lift + 'static,
{
    fn named(&self) -> (&'static str, &'static str) {
        (self.interface, self.name)
    }

    #[expect(private_interfaces, reason = "only this crate can name the trait")]
    fn compare(
        &self,
        store: &mut Store<CallState>,
        instance: &Instance,
        export: &ComponentExportIndex,
    ) -> Result<(), String> {
        let found = instance.get_typed_func::<P, R>(store, export);
        found.map(drop).map_err(|error| error_text(&error))
    }
}

impl<P, R> AnyFunction for Function<P, R>
where
    P: ComponentNamedList + Lower + 'static,
    R: ComponentNamedList + Lift + 'static,
{
}
