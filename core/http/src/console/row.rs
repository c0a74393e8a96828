//! Rows and handlers of pages and forms.
//!
//! A handler is made from a function that gets an operator: whoever is none, and a form from elsewhere, never reach it.

use crate::request::Access;
use crate::route::{About, Call, Kind, Operation, Route, Verb};

/// A row of the console: a path and its methods.
pub(crate) const fn row(path: &'static str, operations: &'static [Operation]) -> Route {
    Route { path, name: "Console", access: Access::Operator, kind: Kind::Page, operations }
}

pub(crate) const fn operation(verb: Verb, id: &'static str, call: Call) -> Operation {
    let about = About {
        summary: "A page of the console",
        parameters: &[],
        fields: &[],
        answers: &[(200, "A page."), (303, "To the login, or after an act.")],
    };
    Operation { verb, id, call, about }
}

/// Handlers of pages: `name = inner`, where `inner` takes console, context and visit. A page that is asked for as a
/// stream is looked at until the browser leaves it.
macro_rules! pages {
    ($($name:ident = $inner:path),* $(,)?) => {$(
        async fn $name(
            console: std::sync::Arc<$crate::console::Console>,
            request: $crate::request::Request<$crate::request::ByOperator>,
        ) -> $crate::route::Answer {
            let visit = match console.visit(&request).await {
                Ok(visit) => visit,
                Err(reply) => return Ok($crate::console::stream::refused(&request, reply)),
            };
            if $crate::console::stream::is_asked(&request) {
                let look: $crate::console::stream::Look =
                    |console, context, visit| Box::pin($inner(console, context, visit));
                return Ok($crate::console::stream::open(&console, request.context, &visit, look));
            }
            let outcome = $inner(&console, &request.context, &visit).await;
            Ok(visit.reply(&request, outcome))
        }
    )*};
}
pub(crate) use pages;

/// Handlers of forms: `name = inner`, where `inner` also takes what was typed. The form's origin is checked first. A
/// form that `inner` gives back ([`Refused::Again`](crate::console::visit::Refused::Again)) is shown by itself, or,
/// with `name = inner => page`, on the page that `page` makes of console, context, visit and the form.
macro_rules! forms {
    (@again $visit:ident $form:ident [$console:ident $context:ident]) => {
        Ok($visit.alone(*$form))
    };
    (@again $visit:ident $form:ident [$console:ident $context:ident] $page:path) => {
        $page(&$console, &$context, &$visit, *$form).await
    };
    ($($name:ident = $inner:path $(=> $page:path)?),* $(,)?) => {$(
        async fn $name(
            console: std::sync::Arc<$crate::console::Console>,
            request: $crate::request::Request<$crate::request::ByOperator, $crate::fields::Fields>,
        ) -> $crate::route::Answer {
            let $crate::request::Request { context, body, .. } = request;
            let visit = match console.visit(&context).await {
                Ok(visit) => visit,
                Err(reply) => return Ok(reply),
            };
            let typed = $crate::console::visit::Typed::new(body);
            let outcome = match typed.check(&context, &visit) {
                Ok(()) => $inner(&console, &context, &visit, &typed).await,
                Err(refused) => Err(refused),
            };
            let outcome = match outcome {
                Err($crate::console::visit::Refused::Again(form)) => {
                    let page: Result<$crate::console::page::Page, $crate::console::visit::Refused> =
                        forms!(@again visit form [console context] $($page)?);
                    page.map($crate::console::visit::Outcome::Again)
                }
                outcome => outcome,
            };
            Ok(visit.reply(&context, outcome))
        }
    )*};
}
pub(crate) use forms;
