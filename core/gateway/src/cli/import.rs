//! `chelseru import django`.

use std::path::{Path, PathBuf};

use chelseru_domain::money::Currency;
use chelseru_domain::money::payment::gateway::PaymentGateways;
use chelseru_store::Store;
use clap::{Args, ValueEnum};
use jiff::tz::TimeZone;

use super::compiler::compiler;
use super::out;
use crate::candidate::{Candidate, Occasion, OpenPayments};
use crate::config::{self, Loaded};
use crate::database::{self, Refused};
use crate::files;
use crate::ground::Ground;
use crate::import::{self, Report, Request, SourceName};
use crate::keys::{self, Accepted};
use crate::private;

#[derive(Args)]
pub(super) struct Arguments {
    /// The database: sqlite:PATH, postgres:URL or dumpdata:PATH (a file of `manage.py dumpdata`).
    source: SourceName,
    /// MEDIA_ROOT of the old project, whose files are copied.
    #[arg(long, value_name = "DIR")]
    media: PathBuf,
    /// SECRET_KEY of the old project: env:NAME or file:PATH. It is compared with `auth.legacy_secret`, by which old
    /// tokens stay valid.
    #[arg(long, value_name = "SOURCE")]
    secret: Option<SecretName>,
    /// The unit of the amounts in the database, as the old settings had it.
    #[arg(long, value_enum, ignore_case = true)]
    unit: Unit,
    /// The zone of times that have none, of a project with USE_TZ=False: Asia/Tehran.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    time_zone: String,
    /// Merge accounts of one number and group, which the original kept apart when a number was in Persian digits.
    #[arg(long)]
    merge_numbers: bool,
    /// Book negative wallets as debts instead of refusing them.
    #[arg(long)]
    allow_debt: bool,
    /// Read everything and print the report, and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// Write the report to a file too: as JSON when its name ends in .json, with the text beside it, else the other way
    /// round.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Unit {
    /// Toman.
    #[value(name = "IRT")]
    Irt,
    /// Rial.
    #[value(name = "IRR")]
    Irr,
}

/// Where the old secret is.
#[derive(Clone)]
enum SecretName {
    Env(String),
    File(PathBuf),
}

impl std::str::FromStr for SecretName {
    type Err = String;

    fn from_str(text: &str) -> Result<SecretName, String> {
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() => Ok(SecretName::Env(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(SecretName::File(path.into())),
            _ => Err("accepted are env:NAME and file:PATH".to_owned()),
        }
    }
}

impl SecretName {
    fn read(&self) -> Result<String, String> {
        let secret = match self {
            SecretName::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set"))?
            }
            SecretName::File(path) => {
                let text = std::fs::read_to_string(path);
                let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
        };
        if secret.is_empty() { Err("the old secret is empty".to_owned()) } else { Ok(secret) }
    }
}

/// Errors: a text for the operator; the store is empty then.
pub(super) async fn django(config_file: &Path, arguments: &Arguments) -> Result<(), String> {
    let loaded = super::load::load(config_file)?;
    let zone = TimeZone::get(&arguments.time_zone)
        .map_err(|error| format!("--time-zone {}: {error}", arguments.time_zone))?;
    if !arguments.media.is_dir() {
        return Err(format!("--media {}: there is no such folder", arguments.media.display()));
    }
    let mut notes = check_secret(&loaded, arguments)?;
    let unit = match arguments.unit {
        Unit::Irt => Currency::Irt,
        Unit::Irr => Currency::Irr,
    };
    let data_dir = config::data_dir(&loaded.config, config_file);
    let files = files::choose(&loaded, &data_dir)?;
    if let Some(away) = files.try_out().await?.filter(|_| !arguments.dry_run) {
        return Err(away.to_string());
    }
    let request = Request {
        source: arguments.source.clone(),
        media: arguments.media.clone(),
        unit,
        zone,
        merge_numbers: arguments.merge_numbers,
        allow_debt: arguments.allow_debt,
        data_dir,
        bucket: files.is_bucket.then_some(files.place),
        callback_urls: loaded.config.payment.callback_urls.clone(),
    };
    let store = match arguments.dry_run {
        true => None,
        false => Some(empty_store(&loaded, &request).await?),
    };
    let candidate = match prepare(loaded, config_file).await {
        Ok(candidate) => Some(candidate),
        Err(error) => {
            notes.push(format!("this configuration cannot serve yet, so no payment stays open: {error}"));
            None
        }
    };
    let work = tokio::task::spawn_blocking(move || {
        let gateways = candidate.as_ref().map(|candidate| candidate.gateways() as &dyn PaymentGateways);
        match store {
            Some(store) => import::run(&request, store, gateways),
            None => import::dry_run(&request, gateways),
        }
    });
    let report = work.await.map_err(|error| error.to_string())??;
    for note in notes {
        eprintln!("warning: {note}");
    }
    out::write(format_args!("{}", report.text()));
    arguments.report.as_deref().map_or(Ok(()), |path| write(path, &report))
}

/// Compares the old secret with the configuration's, and says what the configuration lacks.
///
/// Errors: a text for the operator, when they differ.
fn check_secret(loaded: &Loaded, arguments: &Arguments) -> Result<Vec<String>, String> {
    let given = arguments.secret.as_ref().map(SecretName::read).transpose()?;
    let Some(source) = &loaded.config.auth.legacy_secret else {
        let note =
            "auth.legacy_secret is not set: tokens of the original are refused, and everybody logs in again";
        return Ok(vec![note.to_owned()]);
    };
    let configured = loaded.resolve(source).map_err(|error| format!("auth.legacy_secret: {error}"))?;
    match given {
        Some(given) if given != configured => {
            Err("--secret is not auth.legacy_secret: tokens of the original would be refused".to_owned())
        }
        _ => Ok(Vec::new()),
    }
}

/// The store of the configuration, which is made when it is missing, with its key.
async fn empty_store(loaded: &Loaded, request: &Request) -> Result<Store, String> {
    let data_dir = &request.data_dir;
    private::make_dir(data_dir).map_err(|error| format!("{}: {error}", data_dir.display()))?;
    let store = database::open_for_command(loaded, data_dir).await.map_err(|refused| match refused {
        Refused::InUse(reason) => format!("{reason}: stop the gateway first"),
        Refused::Other(reason) => reason,
    })?;
    // That the store is empty beside a key is what an import wants.
    keys::of_store(data_dir, &store, Accepted { new_store: true, new_key: false }).await?;
    Ok(store)
}

/// What would serve with this configuration, for the rules of its payment gateways.
async fn prepare(loaded: Loaded, config_file: &Path) -> Result<Candidate, String> {
    let ground = Ground::look(&loaded.config, config_file, compiler())?;
    let candidate = Candidate::prepare(&ground, loaded, &OpenPayments::default(), Occasion::Start).await;
    candidate.map_err(|problems| problems.to_string())
}

/// Writes both forms of the report: one to the file, the other beside it.
fn write(path: &Path, report: &Report) -> Result<(), String> {
    let is_json = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let (json, text) = match is_json {
        true => (path.to_owned(), path.with_extension("txt")),
        false => {
            let mut json = path.as_os_str().to_owned();
            json.push(".json");
            (PathBuf::from(json), path.to_owned())
        }
    };
    let fault = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
    let file = std::fs::File::create(&json).map_err(|error| fault(&json, error))?;
    report.write_json(std::io::BufWriter::new(file)).map_err(|error| fault(&json, error))?;
    std::fs::write(&text, report.text()).map_err(|error| fault(&text, error))
}
