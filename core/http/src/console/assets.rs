//! The stylesheet, the keys and the font, embedded in the program.
//!
//! The font is a subset of Vazirmatn Regular 33.0.3 (npm `vazirmatn`, its TTF has SHA-256 b69fd4c6..3a56), made with
//! fonttools for Latin, Persian and Arabic letters and digits; `assets/vazirmatn-OFL.txt` is its licence. A test holds
//! the subset's hash.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderValue};

use super::Console;
use super::row::{operation, row};
use super::visit::guarded;
use crate::reply::Reply;
use crate::request::{ByOperator, Request};
use crate::route::{Answer, Route, Verb, call};

const CSS: &str = include_str!("assets/console.css");
const JS: &str = include_str!("assets/console.js");
const FONT: &[u8] = include_bytes!("assets/vazirmatn.woff2");

pub(crate) const ROUTES: &[Route] = &[
    row("/console/assets/console.css", &[operation(Verb::Get, "console_css", call!(css))]),
    row("/console/assets/console.js", &[operation(Verb::Get, "console_js", call!(js))]),
    row("/console/assets/vazirmatn.woff2", &[operation(Verb::Get, "console_font", call!(font))]),
];

async fn css(_: Arc<Console>, _: Request<ByOperator>) -> Answer {
    Ok(asset("text/css; charset=utf-8", Bytes::from_static(CSS.as_bytes())))
}

async fn js(_: Arc<Console>, _: Request<ByOperator>) -> Answer {
    Ok(asset("text/javascript; charset=utf-8", Bytes::from_static(JS.as_bytes())))
}

async fn font(_: Arc<Console>, _: Request<ByOperator>) -> Answer {
    Ok(asset("font/woff2", Bytes::from_static(FONT)))
}

fn asset(kind: &'static str, bytes: Bytes) -> Reply {
    let kept = HeaderValue::from_static("private, max-age=600");
    guarded(Reply::text(StatusCode::OK, kind, bytes)).with(header::CACHE_CONTROL, kept)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_font_is_the_recorded_subset_and_small() {
        let hash: String = Sha256::digest(FONT).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "57b6ea1d3770da6f168a714211f6f91d10aa65554e992ee32eaeed8fde689e1b");
        assert!(include_str!("assets/vazirmatn-OFL.txt").contains("SIL Open Font License, Version 1.1"));
        assert!(FONT.len() + CSS.len() + JS.len() < 64 * 1024);
    }

    #[test]
    fn the_stylesheet_knows_no_left_and_right() {
        for physical in ["left", "right", "margin-top", "padding-bottom"] {
            assert!(!CSS.contains(physical), "{physical}");
        }
    }
}
