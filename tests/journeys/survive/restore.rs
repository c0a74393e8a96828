//! A power cut while a backup is restored leaves a whole data folder or one that no gateway starts on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chelseru_store::{Store, StoreError, StoreOptions};
use chelseru_tests::folder;

use super::*;

#[path = "../../../core/store/tests/store/power/disk.rs"]
pub(super) mod disk;

const IMAGES: usize = 24;

/// The files of a backup beside the store.
fn files(backup: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let all = disk::read_all(backup).into_iter();
    let below = |path: PathBuf| path.strip_prefix(backup).expect("below").to_owned();
    all.filter_map(|(path, content)| Some((below(path), content?)))
        .filter(|(path, _)| !["store.export", "manifest.json"].map(Path::new).contains(&path.as_path()))
        .collect()
}

async fn records(store: &Store) -> usize {
    let (mut records, mut after) = (0, Some(Vec::new()));
    while let Some(last) = after {
        let (more, next) = store.count_on(&last, 10_000).await.expect("read");
        (records, after) = (records + more, next);
    }
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_while_restoring_leaves_all_or_nothing() {
    let tools = tempfile::tempdir().expect("a folder");
    let Some(library) = disk::recorder(tools.path()) else {
        eprintln!("skipped: power cuts need Linux with glibc and a C compiler");
        return;
    };
    let dir = folder("");
    let mut town = Town::in_gateway(Served::start(dir.path())).await;
    assert_eq!(town.say("kept").await.status, 201);
    assert_eq!(super::disk::upload(&town).await.status, 201);
    town.served.terminate();
    assert!(town.served.ended().await.success());
    let backup = tools.path().join("backup");
    let output = process::run(dir.path(), &["backup", backup.to_str().expect("text")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let expected = files(&backup);
    assert!(expected.keys().any(|path| path.starts_with("uploads")), "{:?}", expected.keys());

    let root = tools.path().join("root");
    std::fs::create_dir(&root).expect("a folder");
    let config = std::fs::read(dir.path().join("config.toml")).expect("a file");
    std::fs::write(root.join("config.toml"), config).expect("a file");
    let before = disk::read_all(&root);
    let trace = tools.path().join("trace");
    let mut restore = Command::new(process::binary());
    restore.arg("restore").arg(&backup).current_dir(&root);
    disk::record(&mut restore, &library, &root, &trace);
    let output = restore.output().expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let whole = records(&Store::open(root.join("data/db"), StoreOptions::default()).expect("a store")).await;
    let recorded = disk::Recorded::read(&root, before, &trace);

    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    let seed = now.as_nanos() as u64 | 1;
    let (mut refused, mut restored) = (0, 0);
    for image in 0..IMAGES {
        let mut random = disk::Random(seed.wrapping_add(image as u64 * 2));
        // The last one is after the end.
        let cut = if image + 1 == IMAGES { recorded.len() } else { random.below(recorded.len() + 1) };
        let context = format!("seed {seed}, image {image}, cut at {cut} of {}", recorded.len());
        let folder = tempfile::tempdir().expect("a folder");
        recorded.image(cut, &mut random, folder.path());
        let data = folder.path().join("data");
        let done = recorded.said(cut).any(|line| line.contains("records"));
        let database = data.join("db");
        let store = match database.exists().then(|| Store::open(&database, StoreOptions::default())) {
            Some(Ok(store)) if !store.is_empty().await.expect("read") => store,
            // A start makes a new gateway, or refuses the key that is there already.
            None | Some(Ok(_) | Err(StoreError::HalfImported { .. })) => {
                assert!(!done, "{context}: what was restored is not there");
                refused += 1;
                continue;
            }
            Some(Err(error)) => panic!("{context}: {error}"),
        };
        // Before it was said to be done the audit log may lack its last record.
        let there = records(&store).await;
        assert!(there >= whole - 4, "{context}: {there} of {whole} records");
        assert_eq!(store.ledger_verify().await.expect("readable").difference, None, "{context}");
        for (path, content) in &expected {
            let there = std::fs::read(data.join(path));
            assert!(there.is_ok_and(|there| there == *content), "{context}: {}", path.display());
        }
        restored += 1;
    }
    assert!(refused > 0 && restored > 0, "{refused} refused, {restored} restored");
    // And a gateway goes on from it.
    let town = town.again(Served::start(&root));
    assert_eq!(town.said().await, ["kept"]);
}
