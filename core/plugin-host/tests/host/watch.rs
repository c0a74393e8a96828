//! What the watcher reports, and what it does not. Nothing here depends on the speed of the machine: the slow look is
//! turned off, and that nothing is reported is shown by what is reported next.

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use chelseru_plugin_host::{Change, WatchError, WatchPaths, WatchTimes, Watcher};
use tempfile::TempDir;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

const NEVER: Duration = Duration::from_secs(86_400);
/// How long a change is waited for before the test fails.
const PATIENCE: Duration = Duration::from_secs(120);

struct Scene {
    folder: TempDir,
    changes: Receiver<Change>,
    marks: u32,
    _watcher: Watcher,
}

impl Scene {
    fn new() -> Scene {
        Scene::with(WatchTimes { still: NEVER, poll: NEVER })
    }

    fn with(times: WatchTimes) -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("plugins")).expect("writable");
        fs::write(folder.path().join("plugins/a.wasm"), "one").expect("writable");
        fs::write(folder.path().join("config.toml"), "one").expect("writable");
        let file = |name: &str| folder.path().join(name);
        let (dirs, files) = (vec![file("plugins")], vec![file("config.toml"), file("mark")]);
        let (watcher, changes) = Watcher::new(WatchPaths { dirs, files, times }).expect("watches");
        Scene { folder, changes, marks: 0, _watcher: watcher }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.path(file), text).expect("writable");
    }

    async fn next(&mut self) -> Change {
        timeout(PATIENCE, self.changes.recv()).await.expect("a change").expect("watches")
    }

    /// Nothing that was done so far is reported: the next change is of a file that a look compares last.
    async fn silent(&mut self) {
        self.marks += 1;
        self.write("aside", &self.marks.to_string());
        fs::rename(self.path("aside"), self.path("mark")).expect("same folder");
        assert_eq!(self.next().await, Change::File(self.path("mark")));
    }
}

#[tokio::test]
async fn a_changed_plugin_and_a_changed_file_are_told_apart() {
    let mut scene = Scene::new();
    scene.write("plugins/a.wasm", "two");
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/a.wasm")]));
    scene.write("aside", "two");
    fs::rename(scene.path("aside"), scene.path("config.toml")).expect("same folder");
    assert_eq!(scene.next().await, Change::File(scene.path("config.toml")));
    scene.silent().await;
}

#[tokio::test]
async fn a_file_that_is_saved_again_as_it_was_is_told_and_a_plugin_is_not() {
    let mut scene = Scene::new();
    let now = std::time::SystemTime::now() + Duration::from_secs(5);
    for name in ["config.toml", "plugins/a.wasm"] {
        let file = fs::File::options().write(true).open(scene.path(name)).expect("there");
        file.set_modified(now).expect("touched");
    }
    assert_eq!(scene.next().await, Change::Same(scene.path("config.toml")));
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
    for file in ["plugins/a.wasm", "config.toml"] {
        scene.write("aside", "one");
        fs::rename(scene.path("aside"), scene.path(file)).expect("same file system");
    }
    scene.write("plugins/notes.txt", "not a plugin");
    scene.write("unrelated", "not watched");
    scene.silent().await;
}

#[tokio::test]
async fn what_was_written_in_parts_is_one_change_however_long_it_takes() {
    let mut scene = Scene::new();
    let path = scene.path("plugins/a.wasm");
    let mut file = File::create(&path).expect("writable");
    for part in 0..5 {
        writeln!(file, "part {part}").expect("writable");
        // The watcher has looked since this part, and reports nothing of it.
        scene.silent().await;
    }
    drop(file);
    assert_eq!(scene.next().await, Change::Plugins(vec![path]));
    scene.silent().await;
}

#[tokio::test]
async fn a_writer_that_does_nothing_any_more_is_not_waited_for() {
    let mut scene = Scene::with(WatchTimes { still: Duration::from_millis(200), poll: NEVER });
    let path = scene.path("plugins/a.wasm");
    let mut file = File::create(&path).expect("writable");
    file.write_all(b"begun").expect("writable");
    // Empty first, when this thread paused between making and writing.
    assert_eq!(scene.next().await, Change::Plugins(vec![path]));
    drop(file);
}

#[tokio::test]
async fn what_no_event_reports_is_found_by_the_slow_look() {
    let mut scene = Scene::with(WatchTimes { still: NEVER, poll: Duration::from_millis(50) });
    // The link's target is outside of what is watched.
    scene.write("elsewhere", "one");
    std::os::unix::fs::symlink(scene.path("elsewhere"), scene.path("plugins/l.wasm")).expect("linked");
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/l.wasm")]));
    let outside = tempfile::tempdir().expect("a folder");
    fs::write(outside.path().join("b"), "two").expect("writable");
    fs::remove_file(scene.path("plugins/l.wasm")).expect("there");
    std::os::unix::fs::symlink(outside.path().join("b"), scene.path("plugins/l.wasm")).expect("linked");
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/l.wasm")]));
    fs::write(outside.path().join("b"), "three").expect("writable");
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/l.wasm")]));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = folder.path().join("plugins");
    let paths = WatchPaths { dirs: vec![missing.clone()], ..WatchPaths::default() };
    match Watcher::new(paths).map(drop) {
        Err(WatchError::Folder { path, .. }) => assert_eq!(path, missing),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_dropped_watcher_ends_the_stream() {
    let Scene { mut changes, _watcher, folder, .. } = Scene::new();
    drop(_watcher);
    let end = timeout(PATIENCE, changes.recv()).await.expect("ends");
    assert_eq!(end, None);
    drop(folder);
}

#[cfg(unix)]
#[tokio::test]
async fn a_pipe_and_a_huge_file_in_the_folder_stop_nobody() {
    let mut scene = Scene::new();
    let pipe = scene.path("plugins/pipe.wasm");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
    assert!(made.success());
    let huge = File::create(scene.path("plugins/huge.wasm")).expect("writable");
    huge.set_len(20 << 30).expect("a sparse file");
    drop(huge);
    assert_eq!(scene.next().await, Change::Plugins(vec![scene.path("plugins/huge.wasm")]));
    scene.silent().await;
}
