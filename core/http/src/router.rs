//! Finds the route of a path.

use http::Uri;

use crate::generation::Generation;
use crate::request::Door;
use crate::route::{Kind, Route};
use crate::routes;

/// The result of looking a path up.
pub(crate) enum Found {
    /// With the bytes of the path before the route's own.
    Route(&'static Route, usize),
    /// The path lacks its last slash. Holds the path with it.
    MissingSlash(String),
    Nothing,
}

/// A listener's routes under a base path, and those of files beside it.
pub(crate) struct Router {
    routes: matchit::Router<(&'static Route, usize)>,
}

impl Router {
    /// The routes of one listener.
    pub(crate) fn new(base_path: &str, door: Door) -> Router {
        let mut router = matchit::Router::new();
        for route in routes::all().filter(|route| route.access.door() == door) {
            let prefix = if route.is_beside() { "" } else { base_path };
            let path = format!("{prefix}{}", route.path);
            let bare = matches!(route.kind, Kind::Pushed).then(|| path.trim_end_matches('/').to_owned());
            for path in [Some(path), bare].into_iter().flatten() {
                router
                    .insert(path, (route, prefix.len()))
                    .expect("the rows' paths differ and the base path was checked");
            }
        }
        Router { routes: router }
    }

    pub(crate) fn find(&self, uri: &Uri, generation: &Generation) -> Found {
        let path = uri.path();
        let lookup = |path: &str| {
            let found = self.routes.at(path).ok().map(|found| *found.value);
            found.filter(|(route, _)| route.exists(generation))
        };
        if let Some((route, prefix_len)) = lookup(path) {
            return Found::Route(route, prefix_len);
        }
        let with_slash = format!("{path}/");
        // `//host/..` as a location would lead to another host.
        if path.starts_with("//") || lookup(&with_slash).is_none() {
            return Found::Nothing;
        }
        Found::MissingSlash(match uri.query() {
            Some(query) => format!("{with_slash}?{query}"),
            None => with_slash,
        })
    }
}
