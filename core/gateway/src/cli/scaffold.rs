//! `chelseru plugin new`: writes a crate that builds into a working provider plugin.
//!
//! The templates are compiled and tested with the SDK, so they stay correct. The new crate is a workspace of its own
//! and refers to the SDK by path. No existing file is overwritten.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;

const SMS: &str = include_str!("../../../../plugins/sdk/templates/sms.rs");
const PAYMENT: &str = include_str!("../../../../plugins/sdk/templates/payment.rs");
/// The same as in the shipped plugins.
const CARGO_CONFIG: &str = include_str!("../../../../plugins/.cargo/config.toml");
const NAME_CHARS_MAX: usize = 40;

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum TemplateKind {
    Sms,
    Payment,
}

/// Writes the crate into `folder` (default: the plugin's name).
pub(crate) fn new(
    name: &str,
    kind: TemplateKind,
    folder: Option<&Path>,
    sdk: Option<&Path>,
) -> Result<(), String> {
    let (title, type_name) = (title(name)?, type_name(name)?);
    let here = std::env::current_dir().map_err(|error| format!("the current folder: {error}"))?;
    let sdk = match sdk {
        Some(sdk) => sdk.to_owned(),
        None => find_sdk(&here).ok_or(
            "no plugins/sdk in this folder or above; name the SDK of chelseru's repository with --sdk PATH",
        )?,
    };
    let sdk = fs::canonicalize(&sdk).map_err(|error| format!("{}: {error}", sdk.display()))?;
    if !sdk.join("Cargo.toml").is_file() {
        return Err(format!("{} holds no Cargo.toml; --sdk needs the folder plugins/sdk", sdk.display()));
    }
    let folder = folder.map_or_else(|| here.join(name), |folder| here.join(folder));
    fs::create_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let template = match kind {
        TemplateKind::Sms => SMS,
        TemplateKind::Payment => PAYMENT,
    };
    let source = template.replace("TITLE", &title).replace("Acme", &type_name).replace("acme", name);
    for (file, text) in [
        ("Cargo.toml", manifest(name, &sdk)),
        (".cargo/config.toml", CARGO_CONFIG.to_owned()),
        (".gitignore", "/target\n".to_owned()),
        ("src/lib.rs", source),
    ] {
        let path = folder.join(file);
        let parent = path.parent().unwrap_or(&folder);
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, text))
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let wasm = format!("target/wasm32-wasip2/release/{}.wasm", name.replace('-', "_"));
    say!(
        "\
{folder} is a working plugin for an invented provider. Adapt src/lib.rs to yours, then run
  cargo native-test                        unit tests, in {folder}
  cargo build --release                    {wasm}
  chelseru plugin test {wasm}
and copy that file to data/plugins/{name}.wasm of a gateway.",
        folder = folder.display()
    );
    Ok(())
}

/// Converts `acme` to `AcmeProvider`, and `my-provider` to `MyProvider`: without that a plugin named `error` or
/// `setting` would have the name of a type that it imports.
fn type_name(name: &str) -> Result<String, String> {
    let title = title(name)?;
    Ok(if title.ends_with("Provider") { title } else { title + "Provider" })
}

/// Converts `my-bank` to `MyBank`.
fn title(name: &str) -> Result<String, String> {
    let words: Vec<&str> = name.split('-').collect();
    let is_word = |word: &&str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !starts_well || name.len() > NAME_CHARS_MAX || !words.iter().all(is_word) {
        return Err(format!(
            "{name:?} is not a plugin name; use lower-case letters, digits and single hyphens, a letter first, \
             at most {NAME_CHARS_MAX} characters"
        ));
    }
    let last = words.last().filter(|last| **last != "provider").map(|_| "Provider");
    Ok(words
        .iter()
        .map(|word| word[..1].to_uppercase() + &word[1..])
        .chain(last.map(str::to_owned))
        .collect())
}

fn find_sdk(from: &Path) -> Option<PathBuf> {
    from.ancestors().map(|folder| folder.join("plugins/sdk")).find(|sdk| sdk.join("Cargo.toml").is_file())
}

fn manifest(name: &str, sdk: &Path) -> String {
    // A TOML string from Debug's escapes holds any path, quotes included.
    let sdk = format!("{:?}", sdk.display().to_string());
    format!(
        "\
[package]
name = \"{name}\"
version = \"0.1.0\"
edition = \"2024\"

[workspace]

# cdylib is the component; rlib lets native tests call the same mapping.
[lib]
crate-type = [\"cdylib\", \"rlib\"]

[dependencies]
chelseru-plugin-sdk = {{ path = {sdk} }}

[profile.release]
opt-level = 3
lto = \"fat\"
codegen-units = 1
panic = \"abort\"
strip = \"debuginfo\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_becomes_a_type_or_is_refused() {
        assert_eq!(type_name("my-provider").as_deref(), Ok("MyProvider"));
        assert_eq!(type_name("my-provider2").as_deref(), Ok("MyProvider2Provider"));
        assert_eq!(type_name("error").as_deref(), Ok("ErrorProvider"));
        for wrong in ["", "-a", "a-", "a--b", "A", "1a", "a/b", "../x", "a_b", &"a".repeat(41)] {
            assert!(type_name(wrong).is_err(), "{wrong:?}");
        }
    }
}
