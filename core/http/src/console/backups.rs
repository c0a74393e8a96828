//! Backups: written now, verified, and listed from the audit log; and what the doctor finds.

use std::path::PathBuf;

use chelseru_domain::operator::role::{BackupRead, BackupWrite, OverviewRead};

use super::config::failed;
use super::page::{Cell, Form, Input, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::grouped;
use super::visit::{Outcome, Refused, Typed, Visit};
use super::words::Words;
use super::{Console, doctor};
use crate::request::Context;
use crate::route::{Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/backups/", &[operation(Verb::Get, "console_backups", call!(list))]),
    row("/console/backups/write/", &[operation(Verb::Post, "console_backup_write", call!(write))]),
    row("/console/backups/verify/", &[operation(Verb::Post, "console_backup_verify", call!(verify))]),
];

pages!(list = listed);
forms!(write = written, verify = verified);

/// Backups shown.
const PAGE: usize = 50;

async fn listed(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    Ok(Outcome::Page(backups_page(console, visit, None, None).await?))
}

async fn backups_page(
    console: &Console,
    visit: &Visit,
    answered: Option<Form>,
    told: Option<String>,
) -> Result<Page, Refused> {
    let (t, language) = (visit.t, visit.language);
    let page = console.desk.backups(&visit.permit::<BackupRead>()?, PAGE).await?;
    let mut parts: Vec<Part> = told.map(Part::Note).into_iter().collect();
    let writes = visit.may::<BackupWrite>();
    parts.extend(acts(
        [writes.then(|| folder_form(t, true)), writes.then(|| folder_form(t, false))],
        answered.as_ref(),
    ));
    let mut table = Table::new("", vec![t.created, t.folder, t.detail, t.actor]);
    for entry in &page.entries {
        let draft = &entry.draft;
        table.rows.push(vec![
            Cell::time(draft.at, language),
            Cell::code(&draft.subject),
            Cell::text(if draft.after.is_empty() { &draft.detail } else { &draft.after }),
            Cell::code(draft.actor.map(|actor| actor.to_string()).unwrap_or_default()),
        ]);
    }
    parts.push(Part::Table(table));
    let findings = console.desk.doctor(&visit.permit::<OverviewRead>()?).await.map_err(failed)?;
    parts.push(Part::Table(doctor::table(t.doctor, &findings, visit)));
    Ok(Page::new(t.backups.to_owned(), parts))
}

fn folder_form(t: &Words, writes: bool) -> Form {
    let (title, text, act) = match writes {
        true => (t.backup_write, t.backup_write_text, "write"),
        false => (t.backup_verify, t.backup_verify_text, "verify"),
    };
    Form::new(title, text, format!("/console/backups/{act}/")).field(Input::code(
        "folder",
        t.folder,
        String::new(),
    ))
}

/// The folder that a form names.
fn folder(form: &mut Form, typed: &Typed, t: &Words) -> Option<PathBuf> {
    typed.fill(form);
    let folder = PathBuf::from(typed.get("folder"));
    if !folder.is_absolute() {
        form.refuse("folder", t.folder_wrong);
        return None;
    }
    Some(folder)
}

async fn written(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let permit = visit.permit::<BackupWrite>()?;
    let mut form = folder_form(visit.t, true);
    let Some(folder) = folder(&mut form, typed, visit.t) else {
        return Ok(Outcome::Again(backups_page(console, visit, Some(form), None).await?));
    };
    match console.desk.backup_write(&permit, &folder).await {
        Ok(_) => Ok(Outcome::Done("/console/backups/".to_owned())),
        Err(error) => {
            form.refuse("folder", &super::page::cut(&error.to_string()));
            Ok(Outcome::Again(backups_page(console, visit, Some(form), None).await?))
        }
    }
}

async fn verified(console: &Console, _: &Context, visit: &Visit, typed: &Typed) -> Result<Outcome, Refused> {
    let (t, language) = (visit.t, visit.language);
    let permit = visit.permit::<BackupWrite>()?;
    let mut form = folder_form(t, false);
    let Some(folder) = folder(&mut form, typed, t) else {
        return Ok(Outcome::Again(backups_page(console, visit, Some(form), None).await?));
    };
    match console.desk.backup_verify(&permit, &folder).await {
        Ok(counts) => {
            let (files, bytes) = (grouped(counts.files, language), grouped(counts.amount, language));
            let told = format!("{}: {files} {}, {bytes} {}", t.backup_whole, t.files, t.bytes);
            Ok(Outcome::Page(backups_page(console, visit, None, Some(told)).await?))
        }
        Err(error) => {
            form.refuse("folder", &super::page::cut(&error.to_string()));
            Ok(Outcome::Again(backups_page(console, visit, Some(form), None).await?))
        }
    }
}
