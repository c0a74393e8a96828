//! What the watcher says, and what it keeps to itself.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use chelseru_plugin_host::{Change, WatchError, WatchPaths, Watcher};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

struct Scene {
    folder: TempDir,
    changes: Receiver<Change>,
    _watcher: Watcher,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("plugins")).expect("writable");
        fs::write(folder.path().join("plugins/a.wasm"), "one").expect("writable");
        fs::write(folder.path().join("config.toml"), "one").expect("writable");
        let (watcher, changes) = Watcher::new(WatchPaths {
            dirs: vec![folder.path().join("plugins")],
            files: vec![folder.path().join("config.toml")],
        })
        .expect("watches");
        Scene { folder, changes, _watcher: watcher }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("writable");
    }

    /// Far below the slow look, so that it cannot be what noticed.
    async fn next(&mut self) -> Change {
        timeout(Duration::from_secs(2), self.changes.recv()).await.expect("in time").expect("watches")
    }

    async fn silent(&mut self) {
        let said = timeout(Duration::from_millis(400), self.changes.recv()).await;
        assert!(said.is_err(), "{said:?}");
    }
}

#[tokio::test]
async fn a_changed_plugin_and_a_changed_file_are_told_apart() {
    let mut scene = Scene::new();
    scene.write("plugins/a.wasm", "two");
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/a.wasm")]));
    scene.write("config.toml", "two");
    assert_eq!(scene.next().await, Change::File(scene.path("config.toml")));
    scene.silent().await;
}

#[tokio::test]
async fn a_rename_over_the_file_and_a_new_and_a_removed_file_are_changes() {
    let mut scene = Scene::new();
    scene.write("aside", "two");
    fs::rename(scene.path("aside"), scene.path("config.toml")).expect("same folder");
    assert_eq!(scene.next().await, Change::File(scene.path("config.toml")));
    // And once more: the folder is watched, not the file that is gone.
    scene.write("aside", "three");
    fs::rename(scene.path("aside"), scene.path("config.toml")).expect("same folder");
    assert_eq!(scene.next().await, Change::File(scene.path("config.toml")));
    scene.write("plugins/b.wasm", "new");
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/b.wasm")]));
    fs::remove_file(scene.path("plugins/a.wasm")).expect("there");
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/a.wasm")]));
    scene.silent().await;
}

#[tokio::test]
async fn the_same_contents_are_no_change() {
    let mut scene = Scene::new();
    scene.write("plugins/a.wasm", "one");
    scene.write("config.toml", "one");
    scene.write("aside", "one");
    fs::rename(scene.path("aside"), scene.path("config.toml")).expect("same folder");
    scene.write("plugins/notes.txt", "not a plugin");
    scene.write("unrelated", "not watched");
    scene.silent().await;
}

#[tokio::test]
async fn many_writes_are_one_change() {
    let mut scene = Scene::new();
    for i in 0..10 {
        scene.write("plugins/a.wasm", &format!("part {i}"));
        scene.write("plugins/b.wasm", &format!("part {i}"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let both = vec![scene.path("plugins/a.wasm"), scene.path("plugins/b.wasm")];
    assert_eq!(scene.next().await, Change::Plugins(both));
    scene.silent().await;
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("plugins");
    match Watcher::new(WatchPaths { dirs: vec![missing.clone()], files: Vec::new() }).map(drop) {
        Err(WatchError::Folder { path, .. }) => assert_eq!(path, missing),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_watcher_ends_the_stream() {
    let Scene { mut changes, _watcher, folder } = Scene::new();
    drop(_watcher);
    let end = timeout(Duration::from_secs(8), changes.recv()).await.expect("ends");
    assert_eq!(end, None);
    drop(folder);
}
