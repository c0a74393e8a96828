//! `chelseru import django`: users, money, rooms, files and messages of a django-chelseru installation.
//!
//! The source is read once, table by table, and written to a store beside the empty one, which it replaces in the end:
//! all of it or nothing. Invariants: the source is never written to; ids of users, payments, rooms, organisations and
//! files stay; every row is imported, or named in the report with the reason; money adds up to the last rial, and the
//! ledger is proven before the store counts.
//!
//! Not here: what the command line says (`cli::import`), tokens of the original (`chelseru-domain`, `login::token`).
//! Reading order: this file, `source`, `users`, `money`, `chat`, `files`, `sms`, `staging`, `report`.

mod source;

mod reader;
mod target;

mod users;

mod money;

mod chat;
mod files;
mod sms;

mod report;
mod staging;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use chelseru_domain::clock::{Clock, SystemClock, rest_format};
use chelseru_domain::files::place::FilePlace;
use chelseru_domain::money::Currency;
use chelseru_domain::money::payment::gateway::PaymentGateways;
use chelseru_domain::operator::audit::{Audit, AuditEvent, AuditKind};
use chelseru_store::Store;
use chelseru_store::chat::ImportedIds;
use jiff::tz::TimeZone;
use tokio::runtime::Handle;

pub(crate) use report::Report;
pub(crate) use source::SourceName;
pub(crate) use staging::sweep;

use self::money::MoneyRules;
use self::reader::Reader;
use self::source::Source;
use self::staging::Staging;
use self::target::Target;

/// What an import is asked to do.
pub(crate) struct Request {
    pub(crate) source: SourceName,
    pub(crate) media: PathBuf,
    /// The unit of the amounts in the source.
    pub(crate) unit: Currency,
    /// The zone of times that have none.
    pub(crate) zone: TimeZone,
    pub(crate) merge_numbers: bool,
    pub(crate) allow_debt: bool,
    pub(crate) data_dir: PathBuf,
    /// Where files go instead of the data folder.
    pub(crate) bucket: Option<Arc<dyn FilePlace>>,
    pub(crate) callback_urls: Vec<String>,
}

/// Reads the source as an import would, and stores nothing. Blocks; must run where a tokio runtime can be entered.
///
/// Errors: a text for the operator.
pub(crate) fn dry_run(request: &Request, gateways: Option<&dyn PaymentGateways>) -> Result<Report, String> {
    let scratch = tempfile::tempdir().map_err(|error| format!("a folder for temporary files: {error}"))?;
    read(request, scratch.path(), None, gateways)
}

/// Imports into an empty store, which is open. Blocks; must run where a tokio runtime can be entered.
///
/// Errors: a text for the operator; the store is empty then.
pub(crate) fn run(
    request: &Request,
    empty: Store,
    gateways: Option<&dyn PaymentGateways>,
) -> Result<Report, String> {
    let runtime = Handle::current();
    if !runtime.block_on(empty.is_unused()).map_err(|error| error.to_string())? {
        return Err(format!(
            "{}: the store is not empty; an import needs an empty one, so move the data folder away first",
            request.data_dir.display()
        ));
    }
    let bucket = request.bucket.as_deref();
    runtime.block_on(sweep(&request.data_dir, bucket, &empty))?;
    let staging = Staging::begin(&request.data_dir, bucket)?;
    match fill(request, &staging, &empty, gateways) {
        Ok(report) => staging.commit(empty).map(|()| report),
        Err(error) => {
            staging.abandon();
            Err(error)
        }
    }
}

/// Fills a store of its own, proves its ledger, and closes it.
fn fill(
    request: &Request,
    staging: &Staging<'_>,
    empty: &Store,
    gateways: Option<&dyn PaymentGateways>,
) -> Result<Report, String> {
    let store = staging.store()?;
    let runtime = Handle::current();
    let fault = |error: chelseru_store::StoreError| error.to_string();
    if let Some(mark) = runtime.block_on(empty.key_mark()).map_err(fault)? {
        let mark = mark.try_into().map_err(|_| "the mark of the store's key is damaged".to_owned())?;
        runtime.block_on(store.key_mark_set(mark)).map_err(fault)?;
    }
    let mut report = read(request, staging.folder(), Some(&store), gateways)?;
    let ledger = runtime.block_on(store.ledger_verify()).map_err(fault)?;
    if let Some(difference) = ledger.difference {
        return Err(format!("the imported ledger differs: {difference}"));
    }
    report.money.ledger_head = ledger.head.iter().map(|byte| format!("{byte:02x}")).collect();
    runtime.block_on(record(&store, request, &report));
    store.close();
    Ok(report)
}

/// Reads the whole source, and stores it when there is a store.
fn read(
    request: &Request,
    folder: &Path,
    store: Option<&Store>,
    gateways: Option<&dyn PaymentGateways>,
) -> Result<Report, String> {
    let (started, now) = (Instant::now(), SystemClock.now());
    let source = Source::open(&request.source, folder)?;
    source::check(&source)?;
    let (source_kind, name) = request.source.shown();
    let mut report = Report {
        source: name,
        source_kind,
        dry_run: store.is_none(),
        unit: report::unit_name(request.unit),
        time_zone: request.zone.iana_name().unwrap_or("UTC").to_owned(),
        started_at: rest_format(now),
        version: env!("CARGO_PKG_VERSION"),
        rules: [&chat::RULES[..], &files::RULES[..], &sms::RULES[..]].concat(),
        ..Report::default()
    };
    if source_kind == "dumpdata" {
        let lost = "microseconds of times, and the order in which members joined their rooms";
        report.warn("a dump does not have everything", lost.to_owned());
    }
    let reader = Reader::new(source, request.zone.clone());
    let target = Target { store: store.cloned(), runtime: Handle::current() };
    let mut ids = ImportedIds::default();

    let people = users::import(&reader, &target, &mut report, request.merge_numbers)?;
    ids.user = people.last_id;
    let rules = MoneyRules {
        unit: request.unit,
        allow_debt: request.allow_debt,
        now,
        gateways,
        callback_urls: &request.callback_urls,
    };
    ids.payment = money::import(&reader, &target, &mut report, &people, &rules)?;
    let mut chat = chat::plan(&reader, &target, &mut report, &people, &mut ids)?;
    let folders: (&Path, &Path) = (&request.media, folder);
    let mut files = files::import(&reader, &target, &mut report, &people, &chat, folders)?;
    ids.file = files.last_id;
    let mut file_of = |message, room, seq| files.of_message(message, room, seq);
    chat::messages(&reader, &target, &mut report, &people, &mut chat, &mut file_of)?;
    chat::rooms(&target, &mut report, chat)?;
    files.store(&target)?;
    sms::import(&reader, &target, &mut report, now)?;
    target.put(async |store| store.import_ids(ids).await)?;

    for (table, reason) in source::NOT_IMPORTED {
        let there = reader.source.count(table)?;
        report.not_imported(table, there, reason);
    }
    report.source_digest = reader.digest();
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Notes the import in the new store's audit log.
async fn record(store: &Store, request: &Request, report: &Report) {
    let audit = Audit::start(store.clone(), std::sync::Arc::new(SystemClock), AUDIT_RECORDS);
    let (kind, name) = request.source.shown();
    let detail = format!("digest {}", report.source_digest);
    audit.record(AuditEvent::new(AuditKind::StoreImported).subject(format!("{kind}: {name}")).detail(detail));
    audit.flush().await;
}

/// Records of the audit log of a store that has none but the import's.
const AUDIT_RECORDS: u64 = 1000;
