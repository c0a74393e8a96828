//! Every rule of tidy over a small checkout that breaks it, and over this repository.

use super::crates::REGISTRY;
use super::documents::{DEFECTS, DEFECTS_FILE};
use super::*;

/// A small checkout that breaks no rule, in a folder of its own; changed by `change`, then checked.
fn check_fixture(name: &str, change: impl Fn(&dyn Fn(&str, &str))) -> Vec<String> {
    let root = std::env::temp_dir().join(format!("xtask-tidy-{name}-{}", std::process::id()));
    let write = |file: &str, text: &str| {
        let path = root.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let lints = "[lints]\nworkspace = true\n";
    write("Cargo.toml", "[workspace]\nmembers = [\"core/domain\", \"core/store\"]\n");
    let domain = "[package]\nname = \"chelseru-domain\"\n[dependencies]\nchelseru-store.workspace = true\n";
    write("core/domain/Cargo.toml", &format!("{domain}{lints}"));
    write("core/domain/src/lib.rs", "//! Rules.\n");
    write("core/store/Cargo.toml", &format!("[package]\nname = \"chelseru-store\"\n{lints}"));
    write("core/store/src/lib.rs", "//! State.\n");
    write("plugins/Cargo.toml", "[workspace]\nmembers = [\"a\"]\n");
    write("plugins/a/Cargo.toml", &format!("[package]\nname = \"a\"\n{lints}"));
    let lock = format!("[[package]]\nname = \"serde\"\nsource = \"{REGISTRY}\"\n");
    write("Cargo.lock", &lock);
    write("plugins/Cargo.lock", &lock);
    write("deny.toml", "[bans]\ndeny = [\n{ crate = \"bad\", reason = \"because\" },\n]\n");
    write("README.md", "core/ domain/ store/ gateway/ xtask/ plugins/ a/\n");
    write(allowances::FILE, "");
    write("core/store/src/account.rs", "//! Tests.\n#[test]\nfn it_holds() {\n}\n");
    write(DEFECTS_FILE, &(1..=DEFECTS).map(defect).collect::<String>());
    change(&write);
    let findings = Report::of(&root).findings.iter().map(Finding::to_string).collect();
    fs::remove_dir_all(&root).unwrap();
    findings
}

fn defect(number: u32) -> String {
    format!("| {number} | it broke | `account::it_holds` |\n")
}

#[track_caller]
fn finds(findings: &[String], part: &str) {
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].contains(part), "{findings:?}");
}

#[test]
fn this_repository_is_tidy() {
    let report = Report::of(&Workspace::find().unwrap().root);
    let lines: Vec<_> = report.findings.iter().map(Finding::to_string).collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}

#[test]
fn a_tidy_checkout_has_no_finding() {
    assert_eq!(check_fixture("clean", |_| {}), Vec::<String>::new());
}

#[test]
fn an_arrow_against_the_table_is_found_with_its_line() {
    let backwards = check_fixture("arrow", |write| {
        write(
            "core/store/Cargo.toml",
            "[package]\nname = \"chelseru-store\"\n[lints]\nworkspace = true\n[dev-dependencies]\nchelseru-domain.workspace = true\n",
        );
    });
    finds(&backwards, "core/store/Cargo.toml:6: chelseru-store must not depend on chelseru-domain");
    let plugin = check_fixture("plugin-arrow", |write| {
        write(
            "plugins/a/Cargo.toml",
            "[package]\nname = \"a\"\n[lints]\nworkspace = true\n[dependencies]\nx = { path = \"..\", package = \"chelseru-store\" }\n",
        );
    });
    finds(&plugin, "a must not depend on chelseru-store");
}

#[test]
fn a_carrier_in_the_domain_is_found() {
    let findings = check_fixture("foreign", |write| {
        write(
            "core/domain/Cargo.toml",
            "[package]\nname = \"chelseru-domain\"\n[lints]\nworkspace = true\n[dependencies]\nhyper = \"1\"\n",
        );
    });
    finds(&findings, "chelseru-domain must not depend on hyper");
}

#[test]
fn a_crate_without_a_place_in_the_table_is_found() {
    let findings = check_fixture("stranger", |write| {
        write("Cargo.toml", "[workspace]\nmembers = [\"core/domain\", \"core/store\", \"tests\"]\n");
        write("tests/Cargo.toml", "[package]\nname = \"stranger\"\n[lints]\nworkspace = true\n");
        write("README.md", "core/ domain/ store/ gateway/ xtask/ plugins/ a/ tests/\n");
    });
    finds(&findings, "stranger is not in the table");
}

#[test]
fn missing_docs_leftovers_paths_and_length_are_found() {
    finds(&check_fixture("docs", |write| write("core/store/src/lib.rs", "fn a() {}\n")), "module doc");
    for (index, (leftover, rule)) in LEFTOVERS.iter().enumerate() {
        let text = format!("//! State.\n{leftover}\n");
        let found = check_fixture(&format!("left{index}"), |write| write("core/store/src/lib.rs", &text));
        finds(&found, rule);
    }
    for (index, path) in MACHINE_PATHS.iter().enumerate() {
        let text =
            format!("core/ domain/ store/ gateway/ xtask/ plugins/ a/ see {path}x and not frame{path}x\n");
        let found = check_fixture(&format!("path{index}"), |write| write("README.md", &text));
        finds(&found, "README.md:1: names a folder");
    }
    let lines = |count: usize| format!("//! State.\n{}", "\n".repeat(count - 1));
    let at = check_fixture("at", |write| write("core/store/tests/long.rs", &lines(FILE_LINES_MAX)));
    assert!(at.is_empty(), "{at:?}");
    let over = check_fixture("over", |write| write("core/store/tests/long.rs", &lines(FILE_LINES_MAX + 1)));
    finds(&over, "701 lines");
}

#[test]
fn prose_is_found_past_its_last_column_only() {
    let prose = |columns: usize| format!("two words {}", "é".repeat(columns - 10));
    for (name, file, before) in [
        ("rust", "core/store/src/account.rs", "//! "),
        ("toml", "config.toml", "key = 1 # "),
        ("md", "CHANGELOG.md", ""),
    ] {
        let line = |columns: usize| format!("{before}{}", prose(columns - before.len()));
        let test = "//! Tests.\n#[test]\nfn it_holds() {\n}\n";
        let text = |columns: usize| {
            if name == "rust" { format!("{test}{}\n", line(columns)) } else { line(columns) }
        };
        let at = check_fixture(&format!("{name}-at"), |write| write(file, &text(PROSE_COLUMNS_MAX)));
        assert!(at.is_empty(), "{at:?}");
        let over = check_fixture(&format!("{name}-over"), |write| write(file, &text(PROSE_COLUMNS_MAX + 1)));
        finds(&over, "lines of prose over 120 columns: 1, at most 0");
    }
    let table = format!("| {} |\n```\n{}\n```\n{}\n", prose(200), prose(200), "x".repeat(200));
    let none = check_fixture("prose-none", |write| write("CHANGELOG.md", &table));
    assert!(none.is_empty(), "{none:?}");
}

#[test]
fn lengths_and_circles_are_held_against_their_targets() {
    let of = |name: &str, file: &str, text: &str| check_fixture(name, |write| write(file, text));
    let function = |lines: usize| format!("//! State.\nfn long() {{\n{}}}\n", "\n".repeat(lines - 2));
    assert!(of("function-at", "core/store/src/lib.rs", &function(80)).is_empty());
    let over = of("function-over", "core/store/src/lib.rs", &function(81));
    finds(&over, "core/store/src/lib.rs:2: fn long has 81 lines, at most 80");
    let lines = |count: usize| "//! State.\n".repeat(count);
    let median = |count: usize| {
        check_fixture(&format!("median-{count}"), |write| {
            write("core/store/src/a.rs", &lines(count));
            write("core/store/src/b.rs", &lines(count));
            write("core/store/src/lib.rs", &lines(count));
        })
    };
    assert!(median(180).is_empty());
    finds(&median(181), "lines of the median file: 181, at most 180");
    assert!(of("p90-at", "core/store/src/lib.rs", &lines(450)).is_empty());
    finds(&of("p90-over", "core/store/src/lib.rs", &lines(451)), "90th percentile: 451, at most 450");
    let ring = |count: usize| {
        check_fixture(&format!("ring-{count}"), |write| {
            for one in 0..count {
                let next = (one + 1) % count;
                let text = format!("//! State.\npub struct S{one};\nuse super::m{next}::S{next};\n");
                write(&format!("core/store/src/chat/m{one}.rs"), &text);
            }
            write("core/store/src/chat/mod.rs", "//! State.\n");
        })
    };
    assert!(ring(3).is_empty());
    finds(&ring(4), "files in import circles of more than three: 4, at most 0");
    let across = check_fixture("across", |write| {
        write("core/store/src/chat.rs", "//! State.\nuse crate::sms::Sms;\npub struct Chat;\n");
        write("core/store/src/sms.rs", "//! State.\nuse crate::chat::Chat;\npub struct Sms;\n");
    });
    finds(&across, "files in import circles across top-level modules: 2, at most 0");
}

#[test]
fn every_defect_names_tests_that_are_there() {
    let table = |rows: &dyn Fn(u32) -> String| (1..=DEFECTS).map(rows).collect::<String>();
    let of = |name: &str, text: String| check_fixture(name, |write| write(DEFECTS_FILE, &text));
    let without = |number| if number == 7 { String::new() } else { defect(number) };
    finds(&of("defects", table(&without)), "defect 7 is not in the table");
    for (name, test, found) in [
        ("gone", "`account::it_does_not`", "account::it_does_not: there is no such test"),
        ("elsewhere", "`other::it_holds`", "other::it_holds: there is no such test"),
        ("none", "later", "defect 3 names no test"),
    ] {
        let row = |number| match number {
            3 => format!("| 3 | it broke | {test} |\n"),
            _ => defect(number),
        };
        finds(&of(name, table(&row)), found);
    }
}

#[test]
fn lints_map_bans_and_sources_are_held() {
    let lints = check_fixture("lints", |write| {
        write("core/store/Cargo.toml", "[package]\nname = \"chelseru-store\"\n");
    });
    finds(&lints, "inherit the lints");
    let map = check_fixture("map", |write| {
        write("README.md", "core/ domain/ xstore/ gateway/ xtask/ plugins/ a/\n")
    });
    finds(&map, "leaves out store/");
    let ban = check_fixture("ban", |write| write("Cargo.lock", "[[package]]\nname = \"bad\"\n"));
    finds(&ban, "bad is banned: because");
    let source = check_fixture("source", |write| {
        write("plugins/Cargo.lock", "[[package]]\nname = \"x\"\nsource = \"git+https://example.org/x\"\n");
    });
    finds(&source, "git+https://example.org/x");
    finds(&check_fixture("nobans", |write| write("deny.toml", "[bans]\n")), "bans nothing");
}
