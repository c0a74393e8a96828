//! The configuration: the running file without secrets, what waits for a restart, and an edit in two presses.
//!
//! The first press checks the text as `chelseru check` does and shows the difference; the second applies it. An edit
//! never replaces a file that changed since it was shown.

use chelseru_domain::operator::house::{ConfigSeen, HouseError};
use chelseru_domain::operator::role::{ConfigRead, ConfigWrite};
use similar::{ChangeTag, TextDiff};

use super::Console;
use super::page::{Cell, Form, Input, InputKind, Page, Part, acts};
use super::row::{forms, operation, pages, row};
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/config/", &[operation(Verb::Get, "console_config", call!(page))]),
    row("/console/config/check/", &[operation(Verb::Post, "console_config_check", call!(check))]),
    row("/console/config/apply/", &[operation(Verb::Post, "console_config_apply", call!(apply))]),
];

pages!(page = shown);
forms!(check = checked, apply = applied);

/// Lines of a shown difference.
const DIFFERENCE_LINES_MAX: usize = 500;
/// Unchanged lines around a change.
const AROUND: usize = 2;

/// An edit that is being made.
struct Edit {
    text: String,
    problems: Vec<String>,
    /// It was checked and may be applied.
    accepted: bool,
    reason: Option<Form>,
}

pub(super) fn failed(error: HouseError) -> Refused {
    Refused::Failed(error.to_string())
}

async fn shown(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    let seen = console.desk.config(&visit.permit::<ConfigRead>()?).await.map_err(failed)?;
    Ok(Outcome::Page(config_page(&seen, visit, None)))
}

fn config_page(seen: &ConfigSeen, visit: &Visit, edit: Option<Edit>) -> Page {
    let t = visit.t;
    let mut facts = vec![
        (t.config_file, Cell::code(&seen.file)),
        (t.generation, Cell::code(seen.generation)),
        (t.state, if seen.refused.is_none() { Cell::good(t.ok) } else { Cell::bad(t.config_error) }),
    ];
    if let Some(refused) = &seen.refused {
        facts.push((t.config_error, Cell::Lines(refused.lines().map(super::page::cut).collect())));
    }
    if !seen.restart_keys.is_empty() {
        facts.push((t.restart_keys, Cell::Lines(seen.restart_keys.clone())));
    }
    let mut parts = vec![Part::Facts { title: String::new(), facts }];
    if visit.may::<ConfigWrite>() {
        if let Some(edit) = &edit {
            parts.extend(edit_parts(seen, edit, t));
        }
        let text = edit.as_ref().map_or_else(|| seen.text.clone(), |edit| edit.text.clone());
        let mut form = edit_form(t, t.config_edit, text);
        form.open = edit.is_some();
        parts.extend(acts([Some(form)], None));
        if let Some(before) = seen.before.as_ref().filter(|before| **before != seen.text) {
            let form = edit_form(t, t.config_back, before.clone());
            parts.push(Part::Form(Box::new(Form { text: t.config_back_text.to_owned(), ..form })));
        }
        // Comments may hold what was once a secret, so the text is for whoever may edit it.
        parts.push(Part::Text(seen.text.clone()));
    }
    Page::new(t.config.to_owned(), parts)
}

fn edit_form(t: &Words, title: &'static str, text: String) -> Form {
    let area = Input { name: "text", label: t.text, value: text, kind: InputKind::Long, ..Input::default() };
    let form = Form::new(title, t.config_edit_text, "/console/config/check/".to_owned()).field(area);
    Form { button: t.config_check, ..form }
}

/// What the check said, the difference, and the second press.
fn edit_parts(seen: &ConfigSeen, edit: &Edit, t: &Words) -> Vec<Part> {
    let mut parts = Vec::new();
    if !edit.problems.is_empty() {
        let lines = edit.problems.iter().map(|line| super::page::cut(line)).collect();
        parts.push(Part::Facts {
            title: if edit.accepted { t.config_notes } else { t.config_error }.to_owned(),
            facts: vec![(t.details, Cell::Lines(lines))],
        });
    }
    if !edit.accepted {
        return parts;
    }
    parts.push(Part::Note(t.config_accepted.to_owned()));
    parts.push(Part::Text(difference(&seen.text, &edit.text)));
    let apply = edit.reason.clone().unwrap_or_else(|| apply_form(seen, &edit.text, t));
    parts.push(Part::Form(Box::new(apply)));
    parts
}

/// What is typed before the configuration is replaced, whatever its file is called.
const CONFIRMED_BY: &str = "config.toml";

fn apply_form(seen: &ConfigSeen, text: &str, t: &Words) -> Form {
    let form = Form::new(t.config_apply, t.config_apply_text, "/console/config/apply/".to_owned())
        .danger(CONFIRMED_BY)
        .hide("text", text)
        .hide("mark", &seen.mark)
        .field(reason_field(t));
    Form { open: true, ..form }
}

/// Changed lines with their surroundings, marked as removed and added.
fn difference(before: &str, after: &str) -> String {
    let after = after.replace("\r\n", "\n");
    let difference = TextDiff::from_lines(before, &after);
    let mut lines = Vec::new();
    for group in difference.grouped_ops(AROUND) {
        if !lines.is_empty() {
            lines.push("…\n".to_owned());
        }
        for change in group.iter().flat_map(|operation| difference.iter_changes(operation)) {
            let mark = match change.tag() {
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
                ChangeTag::Equal => ' ',
            };
            lines.push(format!("{mark} {}\n", change.value().trim_end_matches('\n')));
        }
    }
    lines.truncate(DIFFERENCE_LINES_MAX);
    lines.concat()
}

fn problems(error: HouseError, t: &Words) -> Vec<String> {
    match error {
        HouseError::Refused(problems) => problems,
        HouseError::Stale => vec![t.config_stale.to_owned()],
        HouseError::Failed(text) => vec![text],
    }
}

async fn checked(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let permit = visit.permit::<ConfigWrite>()?;
    let seen = console.desk.config(&visit.permit::<ConfigRead>()?).await.map_err(failed)?;
    let text = typed.raw("text").to_owned();
    let (accepted, problems) = match console.desk.config_check(&permit, &text).await {
        Ok(checked) => {
            let waits = checked.restart_keys.iter().map(|key| format!("{}: {key}", visit.t.restart_keys));
            (true, waits.chain(checked.warnings).collect())
        }
        Err(error) => (false, problems(error, visit.t)),
    };
    let page = config_page(&seen, visit, Some(Edit { text, problems, accepted, reason: None }));
    Ok(if accepted { Outcome::Page(page) } else { Outcome::Again(page) })
}

async fn applied(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let permit = visit.permit::<ConfigWrite>()?;
    let (text, mark) = (typed.raw("text").to_owned(), typed.get("mark"));
    let seen = console.desk.config(&visit.permit::<ConfigRead>()?).await.map_err(failed)?;
    let mut form = apply_form(&seen, &text, visit.t);
    let Some(reason) = typed.reason(&mut form, visit.t) else {
        let edit = Edit { text, problems: Vec::new(), accepted: true, reason: Some(form) };
        return Ok(Outcome::Again(config_page(&seen, visit, Some(edit))));
    };
    match console.desk.config_apply(&permit, &text, &mark, &reason).await {
        Ok(()) => Ok(Outcome::Done("/console/config/".to_owned())),
        Err(error) => {
            let problems = problems(error, visit.t);
            let edit = Edit { text, problems, accepted: false, reason: None };
            Ok(Outcome::Again(config_page(&seen, visit, Some(edit))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::difference;

    #[test]
    fn a_difference_shows_changed_lines_and_their_surroundings() {
        let before: String = (0..20).map(|n| format!("line {n}\n")).collect();
        let after = before.replace("line 10\n", "line ten\r\n");
        let shown = difference(&before, &after);
        assert_eq!(shown, "  line 8\n  line 9\n- line 10\n+ line ten\n  line 11\n  line 12\n");
        assert_eq!(difference(&before, &before), "");
    }
}
