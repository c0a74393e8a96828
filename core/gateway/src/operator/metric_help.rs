//! What each metric means: the help texts of `metrics/`, and the table of `core/gateway/OPERATING.md`.

use super::metrics::store_gauge;

/// The kind of a metric.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Seconds,
}

/// A metric: its name, its kind, the labels, and what it means.
pub(super) struct Help {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Separated by commas; each with its values where those are few.
    #[cfg_attr(not(test), expect(dead_code, reason = "the document's table has them"))]
    pub(super) labels: &'static str,
    pub(super) text: &'static str,
}

const fn counter(name: &'static str, labels: &'static str, text: &'static str) -> Help {
    Help { name, kind: Kind::Counter, labels, text }
}

const fn gauge(name: &'static str, labels: &'static str, text: &'static str) -> Help {
    Help { name, kind: Kind::Gauge, labels, text }
}

const fn seconds(name: &'static str, labels: &'static str, text: &'static str) -> Help {
    Help { name, kind: Kind::Seconds, labels, text }
}

/// Every metric.
pub(super) const HELP: &[Help] = &[
    counter("chelseru_requests_total", "class", "HTTP requests answered, by status class"),
    counter(
        "chelseru_connections_refused_total",
        "share: address, network",
        "connections closed because an address or its network has its share",
    ),
    counter("chelseru_logins_total", "", "successful logins"),
    counter("chelseru_login_refusals_total", "", "logins refused for a wrong, used, burned or expired code"),
    gauge("chelseru_messages_waiting", "", "SMS in the queue"),
    counter(
        "chelseru_messages_total",
        "state: accepted, failed, unknown, expired, retried",
        "passes over the providers, by the resulting state of the message",
    ),
    counter(
        "chelseru_sms_total",
        "provider, outcome: accepted, refused, unknown",
        "messages handed to a provider, by provider and outcome",
    ),
    seconds("chelseru_sms_seconds", "provider", "time a provider took for one message"),
    gauge(
        "chelseru_sms_circuit",
        "provider",
        "0 while a provider is used, 2 while it is left out, 1 while it is tried again",
    ),
    gauge("chelseru_sms_credit", "provider, unit", "credit at a provider as it told last"),
    gauge("chelseru_sms_credit_low", "provider", "1 while the credit is below credit_min of the entry"),
    gauge(
        "chelseru_sms_stepped_back",
        "provider",
        "1 while a provider is tried last because its credit is used up",
    ),
    counter(
        "chelseru_sms_reports_total",
        "outcome: moved, unchanged, unknown_id",
        "delivery reports, by what they changed",
    ),
    counter(
        "chelseru_sms_shield_refusals_total",
        "cap",
        "codes that the shield refused or delayed, by the cap that was reached",
    ),
    gauge("chelseru_sms_prefixes_slowed", "", "number ranges that the shield slows down now"),
    gauge("chelseru_payments_open", "gateway", "payments without an outcome"),
    gauge(
        "chelseru_payments_uncredited",
        "gateway",
        "payments that the gateway lists as paid and that were not credited, since the start",
    ),
    gauge(
        "chelseru_reversals_refused",
        "gateway",
        "reversals that the gateway refused since the start; a person has to decide",
    ),
    counter(
        "chelseru_webhooks_total",
        "webhook, outcome: delivered, failed, dead, dropped",
        "deliveries of events, by endpoint and outcome",
    ),
    gauge("chelseru_chat_sockets", "", "open sockets of this gateway"),
    counter("chelseru_chat_closes_total", "reason", "sockets closed by the gateway, by reason"),
    gauge("chelseru_files_bytes", "", "bytes of all uploaded files"),
    gauge("chelseru_user_search_bytes", "", "memory of the console's search for users"),
    gauge(store_gauge::HEALTHY, "", "1 while changes can be stored, 0 otherwise"),
    gauge(store_gauge::OLDEST_WAITING, "", "waiting time of the oldest unanswered change"),
    gauge(store_gauge::CHANGES_WAITING, "", "changes waiting for the writer"),
    gauge(store_gauge::BATCHES, "", "batches written since the start, one flush each"),
    gauge(store_gauge::CHANGES, "", "changes answered since the start"),
    gauge(store_gauge::WRITE, "", "time spent writing and flushing since the start"),
    gauge(store_gauge::FLUSH_LAST, "", "time spent writing and flushing the last batch"),
    gauge(store_gauge::DISK_FREE, "", "free bytes on the disk of the store"),
    gauge(store_gauge::RECORDS, "", "records in the store at the last count"),
    gauge(
        "chelseru_plugins",
        "state: failed, serving_old, compiling",
        "provider entries in a state that needs a look",
    ),
    counter("chelseru_plugin_calls_total", "provider", "calls of a provider entry's plugin"),
    gauge("chelseru_plugin_calls_in_flight", "provider", "calls that run now"),
    counter("chelseru_plugin_call_errors_total", "provider, kind", "calls without an answer, by kind"),
    gauge("chelseru_plugin_call_seconds_p50", "provider", "median time of the last calls"),
    gauge("chelseru_plugin_call_seconds_p99", "provider", "time below which 99 % of the last calls were"),
    gauge("chelseru_plugin_cpu_seconds", "provider", "CPU time of all calls"),
    gauge("chelseru_plugin_memory_bytes_max", "provider", "most memory that a call took"),
    gauge(
        "chelseru_plugin_compile_seconds",
        "provider",
        "time that compiling the plugin took; 0 when it was compiled before",
    ),
    counter("chelseru_plugin_http_requests_total", "provider", "requests that the plugin made"),
    counter("chelseru_plugin_http_bytes_out_total", "provider", "bytes that the plugin sent"),
    counter("chelseru_plugin_http_bytes_in_total", "provider", "bytes that the plugin received"),
    counter(
        "chelseru_plugin_lookups_refused_total",
        "provider",
        "requests not sent because too many name lookups had no answer yet",
    ),
    counter(
        "chelseru_plugin_reload_failures_total",
        "provider",
        "states of a provider entry that were refused",
    ),
    counter("chelseru_reloads_total", "", "configuration and plugin changes that took effect"),
    counter(
        "chelseru_reload_failures_total",
        "",
        "refused changes; the old configuration or plugin keeps serving",
    ),
    gauge("chelseru_bucket_up", "", "1 while the bucket of files answers; with files.store = \"s3\""),
    counter("chelseru_bucket_requests_total", "method", "requests to the bucket of files, by method"),
    counter(
        "chelseru_bucket_errors_total",
        "kind: away, refused",
        "requests to the bucket without success, by kind",
    ),
    seconds("chelseru_bucket_seconds", "method", "time until the bucket answered a request"),
    gauge("chelseru_bus_up", "", "1 while the bus answers; with bus.url"),
    gauge("chelseru_bus_dropped", "", "notes to other gateways that were dropped since the start"),
    gauge("chelseru_nodes", "", "gateways that share the store"),
    gauge("chelseru_task_held", "task", "1 where a task of all gateways runs at this one"),
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap()
    }

    /// The names of metrics in a text.
    fn names(text: &str) -> impl Iterator<Item = &str> {
        let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        words.filter(|word| word.starts_with("chelseru_"))
    }

    #[test]
    fn the_guide_has_this_table() {
        let row = |help: &Help| {
            let kind = match help.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Seconds => "histogram",
            };
            let labels = if help.labels.is_empty() { String::new() } else { format!(", {}", help.labels) };
            format!("| `{}` | {kind}{labels} | {} |", help.name, help.text)
        };
        let guide = read("core/gateway/OPERATING.md");
        let rows: Vec<&str> = guide.lines().filter(|line| line.starts_with("| `chelseru_")).collect();
        assert_eq!(rows, HELP.iter().map(row).collect::<Vec<_>>());
    }

    #[test]
    fn alerts_and_guides_name_metrics_that_there_are() {
        let known = |name: &str| HELP.iter().any(|help| help.name == name);
        let alerts = read("examples/prometheus/chelseru.rules.yml");
        let alerts = alerts.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<String>();
        let mut seen = 0;
        for name in names(&alerts) {
            assert!(known(name), "{name}");
            seen += 1;
        }
        assert!(seen >= 20, "{seen} names");
        for guide in ["OPERATING.md", "NODES.md", "PAYMENTS.md", "WEBHOOKS.md"] {
            for name in names(&read(&format!("core/gateway/{guide}"))) {
                assert!(known(name), "{guide}: {name}");
            }
        }
    }
}
