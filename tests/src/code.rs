//! Compiled code of the built plugins, shared by all tests of a build folder.
//!
//! A debug build compiles a plugin in seconds, and hundreds of gateways load the same few plugins. The first test that
//! needs them compiles each one into `test-code/` beside the test programs. A file lock makes parallel processes wait
//! for that instead of compiling too.
//! Invariant: every gateway has a cache folder of its own, with links to the shared files. A cache writes aside and
//! renames, so nothing that a test does to its cache reaches another test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use chelseru_outbound::kinds::KINDS;
use chelseru_plugin_host::{Host, HostOptions};

use crate::{built_plugins, process};

/// Fills a gateway's cache folder with the compiled code of every built plugin.
pub(crate) fn install(cache: &Path) {
    static ENTRIES: OnceLock<Vec<PathBuf>> = OnceLock::new();
    let entries = ENTRIES.get_or_init(|| {
        let folder = process::profile_folder().join("test-code");
        // A runtime cannot wait inside another one's thread, and this is called from tests.
        let filled = std::thread::spawn(move || fill(&folder, &built_plugins())).join();
        filled.expect("compiling the plugins does not panic").0
    });
    fs::create_dir_all(cache).expect("a folder");
    own(cache);
    for entry in entries {
        let link = cache.join(entry.file_name().expect("a file"));
        // The cache may prune the shared entry, and another file system takes no link: then it is compiled again.
        if fs::hard_link(entry, &link).is_err() {
            let _ = fs::copy(entry, &link);
        }
    }
}

/// Compiles a plugin into a gateway's cache folder, so that the gateway loads it without compiling.
pub(crate) fn compile(cache: &Path, bytes: Vec<u8>) {
    let cache = cache.to_owned();
    let compiled = std::thread::spawn(move || {
        let (host, runtime) = host(&cache);
        runtime.block_on(host.load(bytes, KINDS)).map(drop)
    });
    compiled.join().expect("no panic").expect("the plugin loads");
}

/// Compiles the plugins that the folder lacks. Returns the entries of all of them, and how many were compiled.
fn fill(folder: &Path, plugins: &[(String, PathBuf)]) -> (Vec<PathBuf>, usize) {
    fs::create_dir_all(folder).expect("a folder");
    own(folder);
    let lock = File::create(folder.join("lock")).expect("a file");
    lock.lock().expect("locked");
    let (host, runtime) = host(folder);
    let (mut digests, mut compiled) = (Vec::new(), 0);
    for (_, path) in plugins {
        let bytes = fs::read(path).expect("a built plugin");
        // A plugin that does not load has no code to share; the test that uses it says why.
        if let Ok(plugin) = runtime.block_on(host.load(bytes, KINDS)) {
            compiled += usize::from(!plugin.from_cache());
            digests.push(plugin.digest().to_owned());
        }
    }
    let files = fs::read_dir(folder).expect("a folder").flatten().map(|file| file.path());
    let of_a_plugin = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        digests.iter().any(|digest| name.starts_with(digest.as_str()))
    };
    (files.filter(of_a_plugin).collect(), compiled)
}

/// A host that keeps compiled code in a folder, and a runtime to call it on.
fn host(cache: &Path) -> (Host, tokio::runtime::Runtime) {
    let options = HostOptions { cache_dir: Some(cache.to_owned()), ..HostOptions::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    (Host::new(options).expect("a host"), runtime.expect("a runtime"))
}

/// A cache is used only where nobody else can write.
#[cfg(unix)]
fn own(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).expect("the folder is this user's");
}

#[cfg(not(unix))]
fn own(_: &Path) {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestGateway;

    #[test]
    fn a_plugin_is_compiled_once_however_many_ask() {
        // One is enough: a debug build takes seconds for each.
        let plugins = &built_plugins()[..1];
        let folder = tempfile::tempdir().expect("a folder");
        let filled: Vec<_> = std::thread::scope(|scope| {
            let ask = || scope.spawn(|| fill(folder.path(), plugins));
            let threads = [ask(), ask(), ask()];
            threads.map(|thread| thread.join().expect("no panic")).into()
        });
        let compiled: usize = filled.iter().map(|(_, compiled)| compiled).sum();
        assert_eq!(compiled, 1);
        assert!(filled.iter().all(|(entries, _)| entries.len() == 1), "{filled:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_gateway_compiles_no_built_plugin() {
        let gateway = TestGateway::start("").await;
        let entries = || -> Vec<PathBuf> {
            let files = fs::read_dir(gateway.dir.path().join("data/cache")).expect("a folder");
            let mut files: Vec<_> = files.flatten().map(|file| file.path()).collect();
            files.retain(|file| file.extension().is_some_and(|extension| extension == "cwasm"));
            files
        };
        assert_eq!(entries().len(), built_plugins().len());
    }
}
