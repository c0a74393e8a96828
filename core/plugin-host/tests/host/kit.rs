//! Small components for the tests: one frame in the text format, with a hole for what a plugin does.
//!
//! The frame imports everything the tests use, exports `chelseru:provider/plugin` with a description taken from
//! [`Guest`], and exports `test:probe/probe` with `run: func(input: string) -> string` (the hole) and
//! `many: func() -> list<string>`. Helpers that the hole may call are listed at [`Guest::run`].

#![allow(dead_code, reason = "two test binaries use different parts")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use chelseru_plugin_host::{
    Binding, CallError, Function, Host, HostOptions, HttpError, HttpRequest, HttpResponse, Kind, Limits,
    Plugin, Provider, SettingValue, Transport,
};

pub(crate) const PROBE: Kind = Kind {
    name: "probe",
    package: "test:probe",
    versions: &[(1, 0)],
    any_of: &["probe", "probe-other"],
    optional: &["extra"],
    functions: &[&RUN, &MANY],
};

pub(crate) const RUN: Function<(String,), (String,)> = Function::new("probe", "run");
pub(crate) const MANY: Function<(), (Vec<String>,)> = Function::new("probe", "many");

/// Where the description's texts begin in linear memory.
const DATA: usize = 1024;
/// Where the frame's allocator begins.
const HEAP: usize = 65536;

#[derive(Clone)]
pub(crate) struct Setting {
    pub key: &'static str,
    /// 0 text, 1 integer, 2 boolean, 3 url.
    pub kind: u8,
    pub required: bool,
    pub secret: bool,
    pub default: Option<&'static str>,
}

/// A component to be.
#[derive(Clone)]
pub(crate) struct Guest {
    pub name: &'static str,
    pub version: String,
    pub settings: Vec<Setting>,
    pub hosts: Vec<&'static str>,
    /// Body of `run` in the text format: `$in` and `$len` are the input, the result is a pointer to pointer and
    /// length. Helpers: `$ret ptr len`, `$fetch ptr len` (GET; the body, or the name of the error),
    /// `$setting ptr len`, `$alloc bytes`, `$print ptr len`, `$stdout` (a new handle), `$sleep nanoseconds`.
    /// `$i` is a free local.
    pub run: &'static str,
    /// Body of `many`, returning a pointer to pointer and length of the list.
    pub many: &'static str,
    /// Put at the start of `describe`.
    pub describe: &'static str,
    /// Further imports of the component, and other definitions at its beginning.
    pub imports: &'static str,
    /// A further host function for the hole, as `$extra`: how it is lowered, and its core type.
    pub(crate) extra: Option<(&'static str, &'static str)>,
    /// Name of the exported interface.
    pub export: &'static str,
    /// Name of the exported plugin interface.
    pub plugin: &'static str,
    /// Pages of linear memory at the start.
    pub pages: u32,
}

impl Default for Guest {
    fn default() -> Guest {
        Guest {
            name: "probe",
            version: "1.0.0".to_owned(),
            settings: Vec::new(),
            hosts: Vec::new(),
            run: "(call $ret (local.get $in) (local.get $len))",
            many: "(call $ret (i32.const 0) (i32.const 0))",
            describe: "",
            imports: "",
            extra: None,
            export: "test:probe/probe@1.0.0",
            plugin: "chelseru:provider/plugin@0.1.0",
            pages: 2,
        }
    }
}

/// Answers with its input.
pub(crate) const ECHO: &str = "(call $ret (local.get $in) (local.get $len))";
pub(crate) const LOOP: &str = "(loop $l (br $l)) (unreachable)";
pub(crate) const FETCH: &str = "(call $fetch (local.get $in) (local.get $len))";
pub(crate) const TRAP: &str = "(unreachable)";

pub(crate) fn guest(run: &'static str) -> Guest {
    Guest { run, ..Guest::default() }
}

impl Guest {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        wat::parse_str(self.text()).expect("the frame is valid")
    }

    fn text(&self) -> String {
        let mut data = Data::default();
        let (name, version, summary) =
            (data.text(self.name), data.text(&self.version), data.text("A plugin for tests."));
        let mut settings = Vec::new();
        for setting in &self.settings {
            let (key, help) = (data.text(setting.key), data.text("For the test."));
            let default = setting.default.map(|d| data.text(d));
            settings.extend_from_slice(&words(key));
            let flags = [setting.kind, setting.required.into(), setting.secret.into(), 0];
            settings.extend_from_slice(&flags);
            settings.extend_from_slice(&[default.is_some().into(), 0, 0, 0]);
            settings.extend_from_slice(&words(default.unwrap_or_default()));
            settings.extend_from_slice(&words(help));
            // `replaces`: an empty list.
            settings.extend_from_slice(&words(Default::default()));
        }
        let settings = (data.block(&settings), self.settings.len());
        let hosts: Vec<u8> = self.hosts.iter().flat_map(|host| words(data.text(host))).collect();
        let hosts = (data.block(&hosts), self.hosts.len());
        let record: Vec<u8> = [name, version, summary, settings, hosts].into_iter().flat_map(words).collect();
        let record = data.block(&record);
        assert!(DATA + data.0.len() < HEAP);

        let Guest { run, many, describe, imports, export, plugin, pages, .. } = self;
        let data = data.literal();
        let (lowered, core_import, with) = match self.extra {
            None => (String::new(), String::new(), ""),
            Some((lower, ty)) => (
                format!("(core func $extra (canon lower {lower} (memory $memory) (realloc $realloc)))"),
                format!("(import \"host\" \"extra\" (func $extra {ty}))"),
                "(export \"extra\" (func $extra))",
            ),
        };
        FRAME
            .replace("%record%", &record.to_string())
            .replace("%data%", &data)
            .replace("%base%", &DATA.to_string())
            .replace("%heap%", &HEAP.to_string())
            .replace("%pages%", &pages.to_string())
            .replace("%lowered%", &lowered)
            .replace("%core-import%", &core_import)
            .replace("%with%", with)
            .replace("%run%", run)
            .replace("%many%", many)
            .replace("%describe%", describe)
            .replace("%imports%", imports)
            .replace("%export%", export)
            .replace("%plugin%", plugin)
    }
}

#[derive(Default)]
struct Data(Vec<u8>);

impl Data {
    fn block(&mut self, bytes: &[u8]) -> usize {
        while !self.0.len().is_multiple_of(4) {
            self.0.push(0);
        }
        let at = DATA + self.0.len();
        self.0.extend_from_slice(bytes);
        at
    }

    fn text(&mut self, text: &str) -> (usize, usize) {
        (self.block(text.as_bytes()), text.len())
    }

    fn literal(&self) -> String {
        self.0.iter().map(|b| format!("\\{b:02x}")).collect()
    }
}

fn words((first, second): (usize, usize)) -> [u8; 8] {
    let mut out = [0; 8];
    out[..4].copy_from_slice(&(first as u32).to_le_bytes());
    out[4..].copy_from_slice(&(second as u32).to_le_bytes());
    out
}

const FRAME: &str = r#"
(component
  (import "chelseru:provider/http@0.1.0" (instance $http
    (type $m0 (enum "get" "post" "put" "patch" "delete"))
    (export "method" (type $method (eq $m0)))
    (type $h0 (record (field "name" string) (field "value" string)))
    (export "header" (type $header (eq $h0)))
    (type $r0 (record (field "method" $method) (field "url" string) (field "headers" (list $header))
      (field "body" (list u8)) (field "timeout-ms" (option u32))))
    (export "request" (type $request (eq $r0)))
    (type $p0 (record (field "status" u16) (field "headers" (list $header)) (field "body" (list u8))))
    (export "response" (type $response (eq $p0)))
    (type $e0 (variant (case "not-granted" string) (case "invalid-request" string) (case "not-sent" string)
      (case "unanswered" string) (case "too-large" u64)))
    (export "error" (type $error (eq $e0)))
    (export "send" (func (param "request" $request) (result (result $response (error $error)))))))
  (import "chelseru:provider/settings@0.1.0" (instance $settings
    (export "get" (func (param "key" string) (result (option string))))))
  (import "wasi:io/error@0.2.0" (instance $ioerror (export "error" (type (sub resource)))))
  (alias export $ioerror "error" (type $io-error))
  (import "wasi:io/poll@0.2.0" (instance $poll
    (export "pollable" (type $pollable (sub resource)))
    (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
  (alias export $poll "pollable" (type $io-pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (alias outer 1 $io-error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (export "output-stream" (type $os (sub resource)))
    (type $se0 (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $se (eq $se0)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $os)) (param "contents" (list u8)) (result (result (error $se)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $outer-stream))
    (export "output-stream" (type $os (eq $outer-stream)))
    (export "get-stdout" (func (result (own $os))))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
    (alias outer 1 $io-pollable (type $outer-pollable))
    (export "pollable" (type $pollable (eq $outer-pollable)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $pollable))))))
  %imports%

  (core module $libc
    (memory (export "memory") %pages%)
    (global $next (mut i32) (i32.const %heap%))
    (func (export "realloc") (param i32 i32 i32 i32) (result i32)
      (local $at i32)
      (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
      (global.set $next (i32.add (local.get $at) (local.get 3)))
      (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
        (then (if (i32.eq (i32.const -1) (memory.grow (i32.add (i32.const 1)
            (i32.div_u (i32.sub (global.get $next) (i32.mul (memory.size) (i32.const 65536))) (i32.const 65536)))))
          (then (unreachable)))))
      (local.get $at)))
  (core instance $libc (instantiate $libc))
  (alias core export $libc "memory" (core memory $memory))
  (alias core export $libc "realloc" (core func $realloc))
  (core func $send (canon lower (func $http "send") (memory $memory) (realloc $realloc)))
  (core func $get (canon lower (func $settings "get") (memory $memory) (realloc $realloc)))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush") (memory $memory)))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $subscribe (canon lower (func $clock "subscribe-duration")))
  (core func $block (canon lower (func $poll "[method]pollable.block")))
  %lowered%

  (core module $main
    (import "libc" "memory" (memory 1))
    (import "libc" "realloc" (func $realloc (param i32 i32 i32 i32) (result i32)))
    (import "host" "send" (func $send (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
    (import "host" "get" (func $get (param i32 i32 i32)))
    (import "host" "write" (func $write (param i32 i32 i32 i32)))
    (import "host" "stdout" (func $stdout (result i32)))
    (import "host" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "host" "block" (func $block (param i32)))
    %core-import%
    (data (i32.const 256) "not-granted     invalid-request not-sent        unanswered      too-large       ")
    (data (i32.const %base%) "%data%")
    (func $ret (param $ptr i32) (param $len i32) (result i32)
      (i32.store (i32.const 512) (local.get $ptr))
      (i32.store (i32.const 516) (local.get $len))
      (i32.const 512))
    (func $alloc (param i32) (result i32)
      (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (local.get 0)))
    (func $fetch (param $url i32) (param $len i32) (result i32)
      (local $case i32)
      (call $send (i32.const 0) (local.get $url) (local.get $len) (i32.const 0) (i32.const 0) (i32.const 0)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 768))
      (if (i32.eqz (i32.load8_u (i32.const 768)))
        (then (return (call $ret (i32.load (i32.const 788)) (i32.load (i32.const 792))))))
      (local.set $case (i32.load8_u (i32.const 776)))
      (call $ret (i32.add (i32.const 256) (i32.mul (local.get $case) (i32.const 16)))
        (i32.load8_u (i32.add (i32.const 400) (local.get $case)))))
    (data (i32.const 400) "\0b\0f\08\0a\09")
    (func $setting (param $key i32) (param $len i32) (result i32)
      (call $get (local.get $key) (local.get $len) (i32.const 640))
      (if (i32.eqz (i32.load8_u (i32.const 640))) (then (return (call $ret (i32.const 0) (i32.const 0)))))
      (call $ret (i32.load (i32.const 644)) (i32.load (i32.const 648))))
    (func $print (param $ptr i32) (param $len i32)
      (call $write (call $stdout) (local.get $ptr) (local.get $len) (i32.const 832)))
    (func $sleep (param $nanoseconds i64)
      (call $block (call $subscribe (local.get $nanoseconds))))
    (func (export "describe") (result i32) (local $i i32) %describe% (i32.const %record%))
    (func (export "run") (param $in i32) (param $len i32) (result i32) (local $i i32) %run%)
    (func (export "many") (result i32) (local $i i32) %many%))
  (core instance $main (instantiate $main
    (with "libc" (instance $libc))
    (with "host" (instance
      (export "send" (func $send)) (export "get" (func $get)) (export "write" (func $write))
      (export "stdout" (func $get-stdout)) (export "subscribe" (func $subscribe)) (export "block" (func $block)) %with%))))

  (type $kind0 (enum "text" "integer" "boolean" "url" "link"))
  (type $setting0 (record (field "key" string) (field "kind" $kind0) (field "required" bool)
    (field "secret" bool) (field "default" (option string)) (field "help" string)
    (field "replaces" (list string))))
  (type $description0 (record (field "name" string) (field "version" string) (field "summary" string)
    (field "settings" (list $setting0)) (field "hosts" (list string))))
  (func $describe (result $description0)
    (canon lift (core func $main "describe") (memory $memory) (realloc $realloc)))
  (instance $plugin (export "setting-kind" (type $kind0)) (export "setting" (type $setting0))
    (export "description" (type $description0)) (export "describe" (func $describe)))
  (export "%plugin%" (instance $plugin))
  (func $run (param "input" string) (result string)
    (canon lift (core func $main "run") (memory $memory) (realloc $realloc)))
  (func $many (result (list string)) (canon lift (core func $main "many") (memory $memory) (realloc $realloc)))
  (instance $probe (export "run" (func $run)) (export "many" (func $many)))
  (export "%export%" (instance $probe))
)
"#;

#[derive(Default)]
pub(crate) struct Scripted {
    /// Answers with this body after `delay_ms`; 0 is at once.
    pub body: Vec<u8>,
    pub delay_ms: u64,
    pub error: Option<HttpError>,
    pub requests: AtomicU32,
    pub ended: AtomicU32,
    /// Requests that ended without an answer because their call did.
    pub dropped: AtomicU32,
}

/// Counts when it is dropped, unless it was forgotten.
struct Unanswered<'a>(&'a AtomicU32);

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Transport for Scripted {
    async fn send(&self, _: HttpRequest) -> Result<HttpResponse, HttpError> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let unanswered = Unanswered(&self.dropped);
        tokio::time::sleep(std::time::Duration::from_millis(self.delay_ms)).await;
        std::mem::forget(unanswered);
        self.ended.fetch_add(1, Ordering::SeqCst);
        match &self.error {
            Some(error) => Err(error.clone()),
            None => Ok(HttpResponse { status: 200, headers: Vec::new(), body: self.body.clone() }),
        }
    }
}

pub(crate) fn host() -> Host {
    Host::new(HostOptions { calls_max: 32, ..HostOptions::default() }).expect("a host")
}

pub(crate) async fn load(host: &Host, guest: &Guest) -> Arc<Plugin> {
    host.load(guest.bytes(), &[PROBE]).await.expect("the plugin loads")
}

pub(crate) fn binding(settings: &[(&str, SettingValue)], hosts: Option<&[&str]>, limits: Limits) -> Binding {
    Binding {
        name: "PROBE".to_owned(),
        settings: settings.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect::<BTreeMap<_, _>>(),
        hosts: hosts.map(|h| h.iter().map(|e| (*e).to_owned()).collect()),
        limits,
    }
}

/// A provider without settings and hosts.
pub(crate) async fn provider(host: &Host, run: &'static str, limits: Limits) -> Provider {
    let plugin = load(host, &guest(run)).await;
    Provider::bind(host, plugin, binding(&[], None, limits)).expect("binds")
}

pub(crate) async fn run(provider: &Provider, input: &str) -> Result<String, CallError> {
    provider.call(RUN, (input.to_owned(),)).await.map(|(answer,)| answer)
}

/// Calls of a neighbour beside an attack.
const CALLS: u32 = 200;

/// Makes another plugin's calls while `attack` is repeated, both on the runtime's workers. Panics unless every call is
/// answered and attacks went on to the end.
pub(crate) async fn beside<F>(echo: &Arc<Provider>, attack: impl Fn() -> F, what: &str)
where
    F: Future<Output = ()> + Send + 'static,
{
    let echo = Arc::clone(echo);
    let mut calls = tokio::spawn(async move {
        for _ in 0..CALLS {
            assert_eq!(run(&echo, "x").await, Ok("x".to_owned()));
        }
    });
    loop {
        let mut attacking = tokio::spawn(attack());
        tokio::select! {
            called = &mut calls => {
                attacking.abort();
                let _ = attacking.await;
                return called.unwrap_or_else(|error| panic!("beside one that {what}: {error}"));
            }
            ended = &mut attacking => ended.unwrap_or_else(|error| panic!("{what}: {error}")),
        }
    }
}
