//! One row per route: path, access, methods, handlers and OpenAPI text.
//!
//! A row stands beside its handlers. An incomplete row does not compile, and neither does one whose access
//! contradicts its handlers ([`check`]). Every path ends in a slash; the same path without it answers 301 with a
//! relative location, for any method, as in the original; routes that others push to are served there, too.

use std::pin::Pin;

use http::header::HeaderValue;
use http::{Method, StatusCode};
use serde_json::json;

use crate::generation::Generation;
use crate::reply::{Failure, Reply};
use crate::request::{Access, Arrived, BodyKind, Calls, FromBody, Request};

/// The result of a handler.
pub(crate) type Answer = Result<Reply, Failure>;

pub(crate) type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A path and its operations.
pub(crate) struct Route {
    /// Under the base path, with parameters in braces.
    pub(crate) path: &'static str,
    /// The name in the answer to `OPTIONS`.
    pub(crate) name: &'static str,
    pub(crate) access: Access,
    pub(crate) kind: Kind,
    pub(crate) operations: &'static [Operation],
}

/// Special properties of a route.
pub(crate) enum Kind {
    /// Nothing.
    Plain,
    /// Others push to it, whose programs follow no redirect: also served without the last slash.
    Pushed,
    /// Exists in some generations only.
    When(fn(&Generation) -> bool),
    /// The tus protocol: `OPTIONS` needs no credentials and answers more than the name, `X-HTTP-Method-Override` names
    /// the method of a `POST`, and every answer names the version.
    Resumable(fn(&Generation, Reply) -> Reply),
    /// Another route under the path that the original's format suffix gave it. The clients' document has it once.
    Twin,
    /// A file of any type, beside the base path.
    File,
    /// A page of the console, beside the base path; not in the document.
    Page,
    /// For tests of the gateway itself; not in the document.
    Test,
}

/// A method of a route.
pub(crate) struct Operation {
    pub(crate) verb: Verb,
    /// `noun_verb`, the name in the document.
    pub(crate) id: &'static str,
    pub(crate) call: Call,
    pub(crate) about: About,
}

/// The document's text about an operation.
pub(crate) struct About {
    pub(crate) summary: &'static str,
    /// Parameters in query and headers.
    pub(crate) parameters: &'static [Field],
    /// Fields of the body.
    pub(crate) fields: &'static [Field],
    /// Status and the name of a shape, or a sentence, which contains a space or ends in a full stop. Below 400 a
    /// sentence describes an answer without JSON, from 400 on an error. `Name[]` is a list, `Page<Name>` one page of
    /// them, `One|Other` either. `|Html` at the end: a browser gets it as a page.
    pub(crate) answers: &'static [(u16, &'static str)],
}

/// A field of a body, query or header: name, kind, meaning.
pub(crate) struct Field(pub(crate) &'static str, pub(crate) Is, pub(crate) &'static str);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Is {
    /// A required text.
    Text,
    /// An optional text.
    MayText,
    Integer,
    MayInteger,
    MayNumber,
    MayBool,
    MayList,
    /// A required file.
    File,
    /// An optional header.
    Header,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl Verb {
    pub(crate) const ALL: [Verb; 5] = [Verb::Get, Verb::Post, Verb::Put, Verb::Patch, Verb::Delete];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }
}

/// How an operation runs. Only [`call!`] builds it, so access and body kind are the handler's own.
pub(crate) struct Call {
    pub(crate) access: Access,
    pub(crate) body: BodyKind,
    pub(crate) run: fn(&Generation, Arrived) -> Answering,
}

/// The access and body kind of a handler's types.
pub(crate) const fn kinds<S, C: Calls, B: FromBody, F>(_: fn(S, Request<C, B>) -> F) -> (Access, BodyKind) {
    (C::ACCESS, B::KIND)
}

/// A handler, `async fn(Arc<Slice>, Request<Caller, Body>) -> Answer`, as a [`Call`].
macro_rules! call {
    ($handler:path) => {
        $crate::route::Call {
            access: $crate::route::kinds($handler).0,
            body: $crate::route::kinds($handler).1,
            run: |generation, arrived| {
                let slice = $crate::generation::Slice::of(generation);
                Box::pin(async move { $handler(slice, arrived.read().await?).await })
            },
        }
    };
}
pub(crate) use call;

/// Fails to compile when a row contradicts itself.
pub(crate) const fn check(routes: &[Route]) {
    let mut at = 0;
    while at < routes.len() {
        let route = &routes[at];
        assert!(!route.operations.is_empty(), "a route has an operation");
        let mut on = 0;
        while on < route.operations.len() {
            let Operation { call, about, id, .. } = &route.operations[on];
            assert!(call.access as u8 == route.access as u8, "a handler takes the callers of its route");
            let unread = matches!(call.body, BodyKind::Unread | BodyKind::Bytes);
            assert!(about.fields.is_empty() || !unread, "a handler reads the fields that it documents");
            assert!(!id.is_empty() && !about.summary.is_empty(), "an operation has a name and a summary");
            assert!(!about.answers.is_empty(), "an operation has an answer");
            on += 1;
        }
        at += 1;
    }
}

impl Route {
    /// Stands beside the base path and answers in other types than JSON.
    pub(crate) fn is_beside(&self) -> bool {
        matches!(self.kind, Kind::File | Kind::Page)
    }

    pub(crate) fn is_resumable(&self) -> bool {
        matches!(self.kind, Kind::Resumable(_))
    }

    pub(crate) fn exists(&self, generation: &Generation) -> bool {
        match self.kind {
            Kind::When(exists) => exists(generation),
            _ => true,
        }
    }

    pub(crate) fn operation(&self, method: &Method) -> Option<&'static Operation> {
        let asked = if *method == Method::HEAD { "GET" } else { method.as_str() };
        self.operations.iter().find(|operation| operation.verb.as_str() == asked)
    }

    /// The `Allow` header, in the original's order.
    pub(crate) fn allow(&self) -> HeaderValue {
        let has = |verb: &Verb| self.operations.iter().any(|operation| operation.verb == *verb);
        let mut methods: Vec<&str> = Verb::ALL.into_iter().filter(has).map(Verb::as_str).collect();
        if has(&Verb::Get) {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        HeaderValue::from_str(&methods.join(", ")).expect("methods are plain words")
    }

    /// The answer to `OPTIONS`.
    pub(crate) fn describe(&self, generation: &Generation) -> Reply {
        let parses = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"];
        let reply = Reply::json(
            StatusCode::OK,
            &json!({"name": self.name, "description": "", "renders": ["application/json"], "parses": parses}),
        );
        match self.kind {
            Kind::Resumable(describe) => describe(generation, reply),
            _ => reply,
        }
    }
}
