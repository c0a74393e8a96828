//! Components: uploaded in the place of one of the same name, and rolled back to the one before.
//!
//! A form with a file is read whole, within `plugins.plugin_bytes_max`, and its key is checked before anything else is
//! done with it.

use std::sync::Arc;

use bytes::Bytes;
use chelseru_domain::operator::house::{ComponentSeen, HouseError};
use chelseru_domain::operator::role::{ConfigRead, PluginWrite};
use http::header;

use super::Console;
use super::page::{Cell, Form, Input, InputKind, Page, Part, Table, acts};
use super::row::{forms, operation, pages, row};
use super::show::grouped;
use super::visit::{Outcome, Refused, Typed, Visit, reason_field};
use super::words::Words;
use crate::body::{BodyBounds, read_bytes};
use crate::drain::Incoming;
use crate::fields::multipart_with_file;
use crate::request::{ByOperator, Context, Request};
use crate::route::{Answer, Route, Verb, call};

pub(crate) const ROUTES: &[Route] = &[
    row("/console/components/", &[operation(Verb::Get, "console_components", call!(list))]),
    row("/console/components/upload/", &[operation(Verb::Post, "console_component_upload", call!(upload))]),
    row("/console/components/back/", &[operation(Verb::Post, "console_component_back", call!(back))]),
];

pages!(list = listed);
forms!(back = rolled_back);

/// Bytes of a form besides its file.
pub(crate) const OVERHEAD_BYTES: u64 = 64 * 1024;

async fn listed(console: &Console, _: &Context, visit: &Visit) -> Result<Outcome, Refused> {
    Ok(Outcome::Page(page(console, visit, None)?))
}

fn page(console: &Console, visit: &Visit, answered: Option<Form>) -> Result<Page, Refused> {
    let (t, language) = (visit.t, visit.language);
    let components =
        console.desk.components(&visit.permit::<ConfigRead>()?).map_err(super::config::failed)?;
    let may = visit.may::<PluginWrite>();
    let offered = [may.then(|| upload_form(t)), may.then(|| back_form(&components, t)).flatten()];
    let mut parts = acts(offered, answered.as_ref());
    let mut table = Table::new("", vec![t.name, t.bytes, t.providers, t.component_before]);
    for one in &components {
        table.rows.push(vec![
            Cell::code(&one.name),
            Cell::code(grouped(one.bytes, language)),
            Cell::Lines(one.used_by.iter().map(|name| super::page::cut(name)).collect()),
            if one.has_before { Cell::plain(t.yes) } else { Cell::code("") },
        ]);
    }
    parts.push(Part::Table(table));
    Ok(Page::new(t.components.to_owned(), parts))
}

fn upload_form(t: &Words) -> Form {
    let file = Input { name: "file", label: t.component_file, kind: InputKind::File, ..Input::default() };
    Form::new(t.component_upload, t.component_upload_text, "/console/components/upload/".to_owned())
        .field(Input::code("name", t.name, String::new()))
        .field(reason_field(t))
        .field(file)
}

fn back_form(components: &[ComponentSeen], t: &Words) -> Option<Form> {
    let kept = components.iter().filter(|one| one.has_before);
    let choices: Vec<(&str, &str)> = kept.map(|one| (one.name.as_str(), one.name.as_str())).collect();
    let first = choices.first()?.0.to_owned();
    let form = Form::new(t.component_back, t.component_back_text, "/console/components/back/".to_owned());
    Some(form.danger_of_choice().field(Input::select("name", t.name, first, choices)).field(reason_field(t)))
}

/// Takes a component. Not one of `forms!`, whose bodies are small.
async fn upload(console: Arc<Console>, request: Request<ByOperator, Incoming>) -> Answer {
    let Request { mut context, body, .. } = request;
    let visit = match console.visit(&context).await {
        Ok(visit) => visit,
        Err(reply) => return Ok(reply),
    };
    let bytes_max = console.desk.component_bytes_max().saturating_add(OVERHEAD_BYTES);
    let bounds = BodyBounds {
        bytes_max: usize::try_from(bytes_max).unwrap_or(usize::MAX),
        timeout: context.edge.body_bounds().timeout,
    };
    let bytes = read_bytes(body, bounds, &mut context.memory).await?;
    let (fields, file) = multipart_with_file(context.header(header::CONTENT_TYPE), bytes).await?;
    let typed = Typed::new(fields);
    let outcome = match typed.check(&context, &visit) {
        Ok(()) => uploaded(&console, &visit, &typed, file).await,
        Err(refused) => Err(refused),
    };
    Ok(visit.reply(&context, outcome))
}

async fn uploaded(
    console: &Console,
    visit: &Visit,
    typed: &Typed,
    file: Option<Bytes>,
) -> Result<Outcome, Refused> {
    let t = visit.t;
    let permit = visit.permit::<PluginWrite>()?;
    let mut form = upload_form(t);
    typed.fill(&mut form);
    let file = file.filter(|file| !file.is_empty());
    if file.is_none() {
        form.refuse("file", t.component_missing);
    }
    let (Some(reason), Some(file)) = (typed.reason(&mut form, t), file) else {
        return Ok(Outcome::Again(page(console, visit, Some(form))?));
    };
    let put = console.desk.component_put(&permit, &typed.get("name"), file.to_vec(), &reason).await;
    done(console, visit, form, put)
}

async fn rolled_back(
    console: &Console,
    _: &Context,
    visit: &Visit,
    typed: &Typed,
) -> Result<Outcome, Refused> {
    let permit = visit.permit::<PluginWrite>()?;
    let components =
        console.desk.components(&visit.permit::<ConfigRead>()?).map_err(super::config::failed)?;
    let mut form = back_form(&components, visit.t).ok_or(Refused::Missing)?;
    typed.fill(&mut form);
    let name = typed.get("name");
    form.target(&name);
    let Some(reason) = typed.reason(&mut form, visit.t) else {
        return Ok(Outcome::Again(page(console, visit, Some(form))?));
    };
    let back = console.desk.component_back(&permit, &name, &reason).await;
    done(console, visit, form, back)
}

fn done(
    console: &Console,
    visit: &Visit,
    mut form: Form,
    done: Result<String, HouseError>,
) -> Result<Outcome, Refused> {
    let text = match done {
        Ok(_) => return Ok(Outcome::Done("/console/components/".to_owned())),
        Err(HouseError::Refused(lines)) => lines.join("; "),
        Err(error) => error.to_string(),
    };
    form.refuse("name", &super::page::cut(&text));
    Ok(Outcome::Again(page(console, visit, Some(form))?))
}
