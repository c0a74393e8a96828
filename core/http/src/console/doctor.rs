//! The doctor's lines: each check with its state, what was found, and the cure.

use chelseru_domain::operator::doctor::{Check, Finding, Found, Phrase, State};

use super::page::{Cell, Table};
use super::show;
use super::visit::Visit;
use super::words::{Language, Words};

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
            Cell::text(&found(&finding.what, visit.language)),
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
        Check::Files => (t.uploads, t.cure_uploads),
        Check::Clock => (t.check_clock, t.cure_clock),
        Check::Permissions => (t.check_permissions, t.cure_permissions),
        Check::Keys => (t.check_keys, t.cure_keys),
        Check::Webhooks => (t.webhooks, t.cure_webhooks),
        Check::Money => (t.reversals, t.cure_money),
        Check::Operators => (t.operators, t.cure_operators),
    }
}

fn found(found: &Found, language: Language) -> String {
    match language {
        Language::English => found.to_string(),
        Language::Persian => {
            found.text(persian, |part| match part.bytes().all(|byte| byte.is_ascii_digit()) {
                true => show::digits(part, language),
                // Names, keys and paths run left to right.
                false => format!("\u{2068}{part}\u{2069}"),
            })
        }
    }
}

fn persian(phrase: Phrase) -> &'static str {
    match phrase {
        Phrase::StoreServes => "تغییرها ذخیره می‌شوند",
        Phrase::StoreIs => "وضعیت انبارهٔ داده: {}",
        Phrase::DiskFree => "{} مبی‌بایت آزاد است و انبارهٔ داده {} مبی‌بایت دارد",
        Phrase::DiskUnknown => "جای آزاد دیسک معلوم نیست",
        Phrase::BackupOnServer => {
            "داده روی سرور پایگاه داده است: پشتیبان‌گیری آن با همان سرور است و پوشهٔ data.dir با شما"
        }
        Phrase::BackupNone => "هیچ پشتیبانی ثبت نشده است",
        Phrase::BackupHours => "آخرین پشتیبان {} ساعت پیش گرفته شد: {}",
        Phrase::BackupDays => "آخرین پشتیبان {} روز پیش گرفته شد: {}",
        Phrase::ConfigServes => "پرونده به کار است",
        Phrase::ConfigRefused => "پذیرفته نشد: {}",
        Phrase::EditRefused => "اینجا انجام نشد: {}",
        Phrase::RestartNone => "هیچ کلیدی منتظر راه‌اندازی دوباره نیست",
        Phrase::RestartKeys => "این کلیدها منتظرند: {}",
        Phrase::ProvidersServe => "{} ارائه‌دهنده کار می‌کند",
        Phrase::ProvidersDown => "کار نمی‌کند: {}",
        Phrase::ProvidersOld => "با آخرین نسخهٔ سالم کار می‌کند: {}",
        Phrase::CallbacksNone => "پرداختی پذیرفته نمی‌شود",
        Phrase::CallbacksWell => "پرداخت‌کننده‌ها برمی‌گردند",
        Phrase::CallbacksWarned => "پرداخت‌کننده‌ها برنمی‌گردند: {}",
        Phrase::FilesEnough => "کافی است",
        Phrase::FilesWarned => "کافی نیست: {}",
        Phrase::PlaceServes => "فایل‌ها اینجا نوشته، خوانده و پاک می‌شوند: {}",
        Phrase::PlaceFails => "جای فایل‌ها کار نمی‌کند: {}",
        Phrase::PermissionsWell => "تنها صاحب پوشهٔ داده آن را می‌خواند",
        Phrase::PermissionsOpen => "{} برای دیگران باز است (حالت {})",
        Phrase::PermissionsForeign => "{} از آن کاربر {} است و نه کاربر درگاه",
        Phrase::KeyThere => "کلید در پوشهٔ داده است",
        Phrase::KeyMissing => "کلید خوانده نمی‌شود: {}",
        Phrase::ClockWell => "ساعت از تازه‌ترین ثبت عقب نیست",
        Phrase::ClockYears => "ساعت سال‌ها عقب است",
        Phrase::ClockHours => "یک ثبت {} ساعت از ساعت دستگاه جلوتر است",
        Phrase::ClockDays => "یک ثبت {} روز از ساعت دستگاه جلوتر است",
        Phrase::WebhooksWell => "رویداد مرده یا مقصد متوقف نیست",
        Phrase::WebhooksDead => "{} رویداد مرده",
        Phrase::WebhooksDeadLeast => "دست‌کم {} رویداد مرده",
        Phrase::WebhooksPaused => "متوقف: {}",
        Phrase::MoneyWell => "هیچ برگشت وجهی منتظر تصمیم نیست",
        Phrase::MoneyStuck => "برگشت وجه این پرداخت‌ها تصمیم می‌خواهد: {}",
        Phrase::OperatorsWell => "همه عامل دوم دارند",
        Phrase::OperatorsWithout => "بدون عامل دوم: {}",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phrase_has_a_persian_form_with_the_same_places() {
        for phrase in Phrase::ALL {
            let (fa, en) = (persian(*phrase), phrase.english());
            assert!(fa.chars().any(|one| ('\u{600}'..='\u{6ff}').contains(&one)), "{en}");
            assert_eq!(fa.matches("{}").count(), en.matches("{}").count(), "{en}");
        }
        let disk = Found::of(Phrase::DiskFree, ["12".to_owned(), "3".to_owned()]);
        assert_eq!(found(&disk, Language::Persian), "۱۲ مبی‌بایت آزاد است و انبارهٔ داده ۳ مبی‌بایت دارد");
        assert_eq!(found(&disk, Language::English), "12 MiB free, the store has 3 MiB");
    }
}
