//! The filters of a list: read from the address, shown in a form, and kept in every link of the page.
//!
//! An address describes a page wholly. A wrong field keeps what was typed, gets a message, and nothing is listed.

use std::collections::BTreeMap;

use chelseru_domain::Timestamp;
use http::StatusCode;
use http::header::{self, HeaderValue, LINK};

use super::page::{Input, InputKind, Page};
use super::show;
use super::visit::{Outcome, Refused};
use super::words::Words;
use crate::reply::Reply;
use crate::request::{Context, number};

/// Characters read of one filter.
const FILTER_CHARS_MAX: usize = 300;
const CSV: &str = "text/csv; charset=utf-8";

/// The filters of one request.
pub(crate) struct Filtered<'a> {
    path: &'a str,
    t: &'static Words,
    /// Without the position in the list.
    values: BTreeMap<String, String>,
    before: Option<String>,
    errors: BTreeMap<&'static str, &'static str>,
}

impl<'a> Filtered<'a> {
    pub(crate) fn new(context: &'a Context, t: &'static Words) -> Filtered<'a> {
        let mut values = BTreeMap::new();
        let mut before = None;
        for (name, value) in form_urlencoded::parse(context.query_text().as_bytes()).take(50) {
            match &*name {
                "before" => before = Some(value.chars().take(FILTER_CHARS_MAX).collect()),
                "done" => {}
                _ => {
                    let value: String = value.trim().chars().take(FILTER_CHARS_MAX).collect();
                    if !value.is_empty() {
                        values.insert(name.into_owned(), value);
                    }
                }
            }
        }
        Filtered { path: context.path(), t, values, before, errors: BTreeMap::new() }
    }

    pub(crate) fn words(&self) -> &'static Words {
        self.t
    }

    /// The position at which the page begins.
    pub(crate) fn before(&self) -> Option<u64> {
        self.before.as_deref().and_then(number)
    }

    /// The same where it is no number.
    pub(crate) fn before_text(&self) -> Option<&str> {
        self.before.as_deref()
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.values.get(name).cloned().unwrap_or_default()
    }

    /// A text, `None` when it is empty.
    pub(crate) fn given(&self, name: &str) -> Option<String> {
        self.values.get(name).cloned()
    }

    pub(crate) fn number(&mut self, name: &'static str) -> Option<u64> {
        let text = show::latin(self.values.get(name)?);
        let found = number(&text);
        if found.is_none() {
            self.refuse(name, self.t.number_wrong);
        }
        found
    }

    pub(crate) fn day(&mut self, name: &'static str) -> Option<Timestamp> {
        let found = show::day(self.values.get(name)?);
        if found.is_none() {
            self.refuse(name, self.t.date_wrong);
        }
        found
    }

    pub(crate) fn one_of<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let word = self.values.get(name)?;
        let found = choices.iter().find(|(choice, _)| choice == word).map(|(_, value)| *value);
        if found.is_none() {
            self.refuse(name, self.t.choice_wrong);
        }
        found
    }

    pub(crate) fn refuse(&mut self, name: &'static str, text: &'static str) {
        self.errors.insert(name, text);
    }

    pub(crate) fn is_wrong(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The page, with the status of a refused form when a filter is wrong.
    pub(crate) fn outcome(&self, page: Page) -> Result<Outcome, Refused> {
        Ok(if self.is_wrong() { Outcome::Again(page) } else { Outcome::Page(page) })
    }

    pub(crate) fn input(&self, name: &'static str, label: &'static str) -> Input {
        let error = self.errors.get(name).map(|text| (*text).to_owned());
        Input { name, label, value: self.text(name), error, ..Input::default() }
    }

    pub(crate) fn day_input(&self, name: &'static str, label: &'static str) -> Input {
        Input { kind: InputKind::Code, hint: self.t.date_hint, ..self.input(name, label) }
    }

    pub(crate) fn choice(
        &self,
        name: &'static str,
        label: &'static str,
        choices: &[(&str, &'static str)],
    ) -> Input {
        let any = [("", self.t.any)];
        let choices = any.iter().chain(choices).map(|(value, label)| (*value, *label));
        let error = self.errors.get(name).map(|text| (*text).to_owned());
        Input { error, ..Input::select(name, label, self.text(name), choices) }
    }

    /// The address of the page that begins there.
    pub(crate) fn at(&self, before: impl ToString) -> String {
        let mut query = self.query();
        query.append_pair("before", &before.to_string());
        format!("{}?{}", self.path, query.finish())
    }

    /// The address of the first page, on a later one.
    pub(crate) fn first(&self) -> Option<String> {
        self.before.as_ref().map(|_| self.address(self.path))
    }

    /// Another address with these filters.
    pub(crate) fn address(&self, path: &str) -> String {
        match self.query().finish() {
            query if query.is_empty() => path.to_owned(),
            query => format!("{path}?{query}"),
        }
    }

    /// Another address with these filters and one more.
    pub(crate) fn with(&self, path: &str, name: &str, value: &str) -> String {
        format!("{path}?{}", self.query().append_pair(name, value).finish())
    }

    fn query(&self) -> form_urlencoded::Serializer<'static, String> {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(&self.values);
        query
    }

    /// A table to save. A `Link` header names its next part.
    pub(crate) fn file(&self, name: &str, text: String, next: Option<u64>) -> Outcome {
        // The mark lets spreadsheets read Persian.
        let mut reply = Reply::text(StatusCode::OK, CSV, format!("\u{feff}{text}"));
        if let Ok(file) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
            reply = reply.with(header::CONTENT_DISPOSITION, file);
        }
        if let Some(Ok(next)) =
            next.map(|next| HeaderValue::from_str(&format!("<{}>; rel=\"next\"", self.at(next))))
        {
            reply = reply.with(LINK, next);
        }
        Outcome::File(reply)
    }
}
