//! Logins a second, the check of a request's token, and `sessions/` among a million sessions.
//!
//! A login is a code sent by Kavenegar's plugin (in its own instance, against a stub in this process) and a session
//! opened with the code: two durable changes. The baseline is as many bare changes in the same run. The token check has
//! a target of 5 µs instead. The list of sessions is compared with the same list among a thousand sessions, with and
//! without an HTTP request.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chelseru_domain::PhoneNumber;
use chelseru_domain::clock::{Clock, SystemClock};
use chelseru_domain::login::group::Group;
use chelseru_domain::login::identity::{Caller, ClientInfo, Identity, IdentityRules};
use chelseru_domain::login::method::{ByCode, LoginMethods};
use chelseru_domain::login::otp::{OtpRules, OtpService};
use chelseru_domain::login::token::{TokenRules, Tokens};
use chelseru_domain::login::user_agent::{Agent, UserAgentParser};
use chelseru_domain::operator::audit::Audit;
use chelseru_domain::secret::{KeyUse, MasterKey};
use chelseru_domain::sms::{SmsBody, SmsError, SmsMessage, SmsPort, SmsReceipt};
use chelseru_outbound::bindings::{functions, sms_text, sms_types};
use chelseru_outbound::kinds::KINDS;
use chelseru_plugin_host::{
    Binding, Host, HostOptions, HttpError, HttpRequest, HttpResponse, Limits, Provider, Transport,
};
use chelseru_store::{PasswordLogin, PasswordLoginDraft, SessionDraft, Store, StoreOptions};
use chelseru_tests::{TestGateway, built_plugins};
use futures_util::StreamExt;
use uuid::Uuid;

use crate::measure::{Connection, cpu_seconds, median, micros, percentile, runtime, sorted};

const BY_CODE: ByCode = match LoginMethods::Both.by_code() {
    Ok(by) => by,
    Err(_) => panic!("both"),
};

/// Where all codes are asked for.
const HERE: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

const CALLERS: usize = 64;
const RUNS: usize = 3;
const RUN_TIME: Duration = Duration::from_secs(3);
/// Durable changes of one login: the code and the session.
const COMMITS: f64 = 2.0;
const CHECKS: u32 = 200_000;
const SESSIONS_PER_USER: usize = 50;
const LISTS: usize = 20_000;
/// The default of `data.cache_mib`, and a value that holds a million sessions.
const CACHE_MIB: u64 = 384;
const CACHE_MIB_LARGE: u64 = 1024;

const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36";

const ANSWER: &str = r#"{"return":{"status":200,"message":"ok"},"entries":[{"messageid":8792343001,"message":"x","status":1,"statustext":"queued","sender":"10004346","receptor":"09121234567","date":1767256200,"cost":1200}]}"#;

/// Answers immediately, in this process.
struct Stub;

#[async_trait::async_trait]
impl Transport for Stub {
    async fn send(&self, _request: HttpRequest) -> Result<HttpResponse, HttpError> {
        Ok(HttpResponse { status: 200, headers: Vec::new(), body: ANSWER.as_bytes().to_vec() })
    }
}

/// Sends through the plugin and keeps the text for the number's owner.
struct Handset {
    provider: Arc<Provider>,
    text: Mutex<String>,
}

#[async_trait::async_trait]
impl SmsPort for Handset {
    async fn send(&self, message: SmsMessage) -> Result<SmsReceipt, SmsError> {
        let SmsBody::Text { text } = message.body else { panic!("no template is configured") };
        let recipient =
            sms_types::Recipient { number: message.to.e164().to_owned(), local_id: message.local_id };
        let sent = sms_text::Message { recipients: vec![recipient], text: text.clone(), sender: None };
        let (answer,) = self.provider.call(functions::SEND_TEXT, (sent,)).await.expect("a call");
        assert_eq!(answer.expect("the stub accepts everything").len(), 1);
        *self.text.lock().expect("no panic") = text;
        Ok(SmsReceipt {
            provider: "STUB".into(),
            message_id: Some("1".into()),
            duplicate: false,
            cost_rial: None,
        })
    }
}

async fn provider() -> Arc<Provider> {
    let host = Host::new(HostOptions::default()).expect("a host");
    let (_, path) =
        built_plugins().into_iter().find(|(name, _)| name == "kavenegar.wasm").expect("the plugin is built");
    let plugin = host.load(std::fs::read(path).expect("read"), KINDS).await.expect("loaded");
    let binding = Binding {
        name: "KAVENEGAR_COM".into(),
        settings: [("api_key".to_owned(), "0123456789abcdef".into())].into(),
        hosts: None,
        limits: Limits::default(),
    };
    Arc::new(Provider::bind(&host, plugin, binding).expect("bound").with_transport(Arc::new(Stub)))
}

/// Knows no client. A gateway makes its rules once; here every run would make them, which takes a tenth of
/// its time.
struct NoRules;

impl UserAgentParser for NoRules {
    fn parse(&self, _user_agent: &str) -> Agent {
        let unknown = || "Other".to_owned();
        Agent { device: unknown(), browser: unknown(), platform: unknown() }
    }
}

struct World {
    store: Store,
    otp: Arc<OtpService>,
    identity: Arc<Identity>,
    _folder: tempfile::TempDir,
}

/// The gateway's own services with the audit log. Call it inside a runtime.
fn world() -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let options = StoreOptions { cache_bytes: CACHE_MIB * 1024 * 1024, ..StoreOptions::default() };
    let store = Store::open(folder.path(), options).expect("open");
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let master = MasterKey::from_bytes([3; 32]);
    let pepper = master.derive(KeyUse::OtpPepper);
    let otp = OtpService::new(store.clone(), clock.clone(), OtpRules::default(), pepper).expect("rules");
    let otp = Arc::new(otp);
    let tokens = Tokens::new(TokenRules::default(), &master.derive(KeyUse::JwtHs256)).expect("rules");
    let rules = IdentityRules { sessions_per_user_max: SESSIONS_PER_USER, ..IdentityRules::default() };
    let identity = Identity::new(store.clone(), clock.clone(), otp.clone(), tokens, rules).expect("rules");
    let identity = identity
        .with_audit(Audit::start(store.clone(), clock, 100_000))
        .with_user_agent_parser(Box::new(|| Box::new(NoRules)));
    World { store, otp, identity: Arc::new(identity), _folder: folder }
}

/// Logins a second, and CPU time of one in microseconds.
async fn logins(provider: &Arc<Provider>) -> (f64, f64) {
    let world = world();
    let cpu_before = cpu_seconds();
    let started = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let (otp, identity) = (world.otp.clone(), world.identity.clone());
            let handset = Handset { provider: provider.clone(), text: Mutex::default() };
            tokio::spawn(async move {
                let mut done = 0_u32;
                while started.elapsed() < RUN_TIME {
                    let number = format!("09{:02}{:07}", 10 + caller % 30, caller as u32 * 100_000 + done);
                    let number = PhoneNumber::parse(&number).expect("a number");
                    otp.send(BY_CODE, &number, HERE, &handset).await.expect("sent");
                    let text = std::mem::take(&mut *handset.text.lock().expect("no panic"));
                    let code: String = text.chars().filter(char::is_ascii_digit).collect();
                    let client = ClientInfo::default();
                    identity
                        .authenticate(BY_CODE, &number, &code, Group::default(), client)
                        .await
                        .expect("logged in");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut sum = 0;
    for caller in callers {
        sum += caller.await.expect("no panic");
    }
    let cpu = (cpu_seconds() - cpu_before) * 1e6 / f64::from(sum);
    (f64::from(sum) / started.elapsed().as_secs_f64(), cpu)
}

/// Bare durable changes a second with the same number of callers.
async fn commits() -> f64 {
    let world = world();
    let started = Instant::now();
    let callers: Vec<_> = (0..CALLERS as u64)
        .map(|caller| {
            let store = world.store.clone();
            tokio::spawn(async move {
                let mut done = 0_u64;
                while started.elapsed() < RUN_TIME {
                    let key = [caller.to_be_bytes(), done.to_be_bytes()].concat();
                    store.probe_put(&key, &[7; 100]).await.expect("stored");
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut sum = 0;
    for caller in callers {
        sum += caller.await.expect("no panic");
    }
    sum as f64 / started.elapsed().as_secs_f64()
}

/// Keeps the text for the number's owner and sends nothing.
#[derive(Default)]
struct Pocket(Mutex<String>);

#[async_trait::async_trait]
impl SmsPort for Pocket {
    async fn send(&self, message: SmsMessage) -> Result<SmsReceipt, SmsError> {
        let SmsBody::Text { text } = message.body else { panic!("no template is configured") };
        *self.0.lock().expect("no panic") = text;
        Ok(SmsReceipt {
            provider: "STUB".into(),
            message_id: Some("1".into()),
            duplicate: false,
            cost_rial: None,
        })
    }
}

/// A user and the access token of one session.
struct Seeded {
    caller: Caller,
    access: String,
}

/// Creates users with [`SESSIONS_PER_USER`] sessions each, up to a number of sessions.
async fn seed(store: &Store, otp: &OtpService, identity: &Identity, sessions: usize) -> Vec<Seeded> {
    let users = (0..sessions / SESSIONS_PER_USER).map(|number| seed_user(store, otp, identity, number));
    futures_util::stream::iter(users).buffer_unordered(512).collect().await
}

async fn seed_user(store: &Store, otp: &OtpService, identity: &Identity, number: usize) -> Seeded {
    let now = SystemClock.now();
    let phone = PhoneNumber::parse(&format!("0912{number:07}")).expect("a number");
    let pocket = Pocket::default();
    otp.send(BY_CODE, &phone, HERE, &pocket).await.expect("sent");
    let code: String =
        pocket.0.into_inner().expect("no panic").chars().filter(char::is_ascii_digit).collect();
    let client =
        ClientInfo { ip: "203.0.113.7".parse().ok(), user_agent: AGENT.to_owned(), ..ClientInfo::default() };
    let login =
        identity.authenticate(BY_CODE, &phone, &code, Group::default(), client).await.expect("logged in");
    let kept = Some(login.session_id);
    store.password_set(login.user_id, None, "kept".to_owned(), kept, now).await.expect("stored");
    for index in 1..SESSIONS_PER_USER {
        let draft = PasswordLoginDraft {
            user: login.user_id,
            renewed: None,
            checked: "kept".to_owned(),
            guard: [0; 32],
            total: [1; 32],
            now,
            session: SessionDraft {
                key: Uuid::from_u128((number * SESSIONS_PER_USER + index) as u128),
                expires_at: now.plus(Duration::from_secs(86_400)),
                user_agent: AGENT.to_owned(),
                ip_address: "203.0.113.7".parse().ok(),
                device_name: None,
                per_user_max: SESSIONS_PER_USER,
            },
        };
        let login = store.login_with_password(draft).await.expect("stored");
        assert!(matches!(login, PasswordLogin::LoggedIn { .. }), "the password is the kept one");
    }
    Seeded { caller: Caller { user_id: login.user_id, session_id: login.session_id }, access: login.access }
}

/// Time of a list of sessions among a number of sessions.
struct Lists {
    /// p99 of the identity service alone, in this process.
    inside: Duration,
    /// p99 of a request for `sessions/` over one kept-alive connection.
    request: Duration,
    resident_mib: f64,
}

fn lists(runtime: &tokio::runtime::Runtime, sessions: usize, cache_mib: u64) -> Lists {
    let config = format!("[data]\ncache_mib = {cache_mib}\n[auth]\naccess_token_seconds = 86400\n");
    let gateway = runtime.block_on(TestGateway::start(&config));
    let live = gateway.app.live();
    let seeded = runtime.block_on(seed(&gateway.app.store, &live.otp, &live.identity, sessions));
    // Visits all users in another order than they were created.
    let visited = || (0..LISTS).map(|index| &seeded[(index * 7919) % seeded.len()]);
    let inside = visited().map(|seeded| {
        let started = Instant::now();
        let list = runtime.block_on(live.identity.sessions(&seeded.caller)).expect("read");
        let took = started.elapsed();
        assert_eq!(list.len(), SESSIONS_PER_USER);
        took
    });
    let inside = sorted(inside);
    let mut connection = Connection::open(&gateway.url);
    let requests = visited().map(|seeded| {
        let head = "GET /drfchelseru/sessions/ HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer ";
        let request = format!("{head}{}\r\n\r\n", seeded.access);
        let started = Instant::now();
        let answer = connection.ask(request.as_bytes());
        let took = started.elapsed();
        assert_eq!(answer.matches("\"session_key\"").count(), SESSIONS_PER_USER, "{answer}");
        took
    });
    let requests = sorted(requests);
    Lists {
        inside: percentile(&inside, 0.99),
        request: percentile(&requests, 0.99),
        resident_mib: resident_mib(),
    }
}

/// Resident memory. Source: `/proc/self/statm`, second field, in pages of 4 KiB.
fn resident_mib() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|field| field.parse().ok()).expect("a number");
    pages * 4096.0 / (1024.0 * 1024.0)
}

/// Wall time and CPU time in microseconds of one check of a request's token, with the look-up of its session. Both are
/// equal on an idle machine.
fn check(runtime: &tokio::runtime::Runtime, provider: &Arc<Provider>) -> (f64, f64) {
    let world = {
        let _inside = runtime.enter();
        world()
    };
    let number = PhoneNumber::parse("09121234567").expect("a number");
    let handset = Handset { provider: provider.clone(), text: Mutex::default() };
    let login = runtime.block_on(async {
        seed(&world.store, &world.otp, &world.identity, 1000).await;
        world.otp.send(BY_CODE, &number, HERE, &handset).await.expect("sent");
        let text = handset.text.lock().expect("no panic").clone();
        let code: String = text.chars().filter(char::is_ascii_digit).collect();
        let client = ClientInfo::default();
        world
            .identity
            .authenticate(BY_CODE, &number, &code, Group::default(), client)
            .await
            .expect("logged in")
    });
    let run = || {
        let (cpu, started) = (cpu_seconds(), Instant::now());
        runtime.block_on(async {
            for _ in 0..CHECKS {
                world.identity.caller(&login.access).await.expect("the caller");
            }
        });
        let wall = micros(started.elapsed()) / f64::from(CHECKS);
        (wall, (cpu_seconds() - cpu) * 1e6 / f64::from(CHECKS))
    };
    run();
    let (walls, cpus) = (0..RUNS).map(|_| run()).unzip();
    (median(walls), median(cpus))
}

pub(crate) fn run() {
    let runtime = runtime();
    let provider = runtime.block_on(provider());
    let (mut ratios, mut rates, mut bares, mut cpus) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let ((rate, cpu), bare) = runtime.block_on(async { (logins(&provider).await, commits().await) });
        cpus.push(cpu);
        ratios.push(rate / (bare / COMMITS));
        rates.push(rate);
        bares.push(bare);
    }
    println!(
        "{:.0} logins/s with {CALLERS} callers, {:.0} µs of CPU each; {:.0} bare changes/s, {COMMITS} a login; \
         ratio {:.2}; reach: 0.40",
        median(rates),
        median(cpus),
        median(bares),
        median(ratios)
    );
    let (wall, cpu) = check(&runtime, &provider);
    println!("token check with its session {wall:.2} µs, {cpu:.2} µs of CPU; reach: at most 5 µs");
    let few = lists(&runtime, 1000, CACHE_MIB);
    for cache_mib in [CACHE_MIB, CACHE_MIB_LARGE] {
        let many = lists(&runtime, 1_000_000, cache_mib);
        println!(
            "sessions/ of {SESSIONS_PER_USER} among 1,000,000 (data.cache_mib = {cache_mib}, {:.0} MiB resident; {:.0} \
             MiB among 1,000):",
            many.resident_mib, few.resident_mib
        );
        for (what, few, many) in
            [("request", few.request, many.request), ("the service alone", few.inside, many.inside)]
        {
            println!(
                "  {what}, p99: {:.1} µs among 1,000, {:.1} µs among 1,000,000; ratio {:.2}; reach: 1.50",
                micros(few),
                micros(many),
                many.as_secs_f64() / few.as_secs_f64()
            );
        }
    }
}
