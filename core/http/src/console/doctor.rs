//! The doctor's lines: each check with its state, what was found, and the cure.

use chelseru_domain::operator::doctor::{Check, Finding, State};

use super::page::{Cell, Table};
use super::visit::Visit;
use super::words::Words;

/// A table of findings.
pub(super) fn table(title: &str, findings: &[Finding], visit: &Visit) -> Table {
    let t = visit.t;
    let mut table = Table::new(title, vec![t.check, t.state, t.found, t.cure]);
    for finding in findings {
        let (name, cure) = texts(finding.check, t);
        table.rows.push(vec![
            Cell::plain(name),
            match finding.state {
                State::Well => Cell::good(t.ok),
                State::Warning => Cell::plain(t.warning),
                State::Bad => Cell::bad(t.not_ok),
            },
            Cell::text(&finding.what),
            Cell::text(if finding.state == State::Well { "" } else { cure }),
        ]);
    }
    table
}

/// A check's name and cure in the operator's language.
fn texts(check: Check, t: &Words) -> (&'static str, &'static str) {
    match check {
        Check::Store => (t.store, t.cure_store),
        Check::Disk => (t.check_disk, t.cure_disk),
        Check::Backup => (t.backups, t.cure_backup),
        Check::Config => (t.config, t.cure_config),
        Check::Restart => (t.restart_keys, t.cure_restart),
        Check::Providers => (t.providers, t.cure_providers),
        Check::Callbacks => (t.check_callbacks, t.cure_callbacks),
        Check::OpenFiles => (t.check_files, t.cure_files),
        Check::Clock => (t.check_clock, t.cure_clock),
        Check::Permissions => (t.check_permissions, t.cure_permissions),
        Check::Keys => (t.check_keys, t.cure_keys),
        Check::Webhooks => (t.webhooks, t.cure_webhooks),
        Check::Money => (t.reversals, t.cure_money),
        Check::Operators => (t.operators, t.cure_operators),
    }
}
