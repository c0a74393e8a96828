//! Whose the data folder is: the user's whose gateway keeps its key and its store in it.

use std::path::{Path, PathBuf};

use chelseru_outbound::plugins::PLUGINS_DIR;

use crate::config::STORE_DIR;
use crate::keys;

/// Refuses root where a gateway of another user keeps its data: what root makes there, that gateway cannot open, and
/// reading the store makes files, too. A folder in which no gateway has been is anybody's.
///
/// # Errors
///
/// A text for the operator.
pub(crate) fn refuse_root(data_dir: &Path) -> Result<(), String> {
    let data = data_dir.display();
    match (user(), owner(data_dir)) {
        (Some(0), Some(owner)) if owner != 0 => Err(format!(
            "{data}: belongs to the gateway of user {owner}, which could not open what root makes in it; run this as that \
             user: sudo -u '#{owner}' chelseru ..."
        )),
        _ => Ok(()),
    }
}

/// What an error of opening the store leaves open: the file that belongs to somebody else. Empty when there is none.
pub(crate) fn whose(data_dir: &Path) -> String {
    let Some((user, (path, owner))) = user().zip(foreign(data_dir)) else { return String::new() };
    let path = path.display();
    format!(
        "; {path} belongs to user {owner}, and this is user {user}: chown it, with all that is in its folder"
    )
}

/// The user who runs this process; `None` where there are none.
fn user() -> Option<u32> {
    #[cfg(unix)]
    return Some(rustix::process::geteuid().as_raw());
    #[cfg(not(unix))]
    None
}

/// The user whose gateway keeps its data here.
fn owner(data_dir: &Path) -> Option<u32> {
    let marks = [keys::FILE.to_owned(), format!("{STORE_DIR}/lock")];
    marks.iter().find_map(|mark| owner_of(&data_dir.join(mark)))
}

/// The first entry of the parts that are written that belongs to somebody other than the gateway's user, and whom.
pub(crate) fn foreign(data_dir: &Path) -> Option<(PathBuf, u32)> {
    let owner = owner(data_dir).or_else(user)?;
    let folders = ["", STORE_DIR, "db/sled", PLUGINS_DIR].map(|name| data_dir.join(name));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
    let all = std::iter::once(data_dir.to_owned()).chain(entries.map(|entry| entry.path()));
    let owned = all.filter_map(|path| owner_of(&path).map(|owner| (path, owner)));
    owned.into_iter().find(|(_, found)| *found != owner)
}

fn owner_of(path: &Path) -> Option<u32> {
    #[cfg(unix)]
    return std::fs::symlink_metadata(path).ok().map(|found| std::os::unix::fs::MetadataExt::uid(&found));
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn root_is_refused_where_somebody_elses_gateway_is() {
        if user() != Some(0) {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let dir = tempfile::tempdir().expect("a folder");
        let give = |name: &str, user: u32| {
            std::os::unix::fs::chown(dir.path().join(name), Some(user), None).expect("given");
        };
        // A new folder may be somebody else's: a container's volume is.
        give("", 4321);
        assert_eq!(refuse_root(dir.path()), Ok(()));
        std::fs::create_dir(dir.path().join(STORE_DIR)).expect("a folder");
        for name in ["db/lock", keys::FILE] {
            std::fs::write(dir.path().join(name), "").expect("a file");
            assert_eq!(refuse_root(dir.path()), Ok(()), "{name}");
            give(name, 4321);
            let refused = refuse_root(dir.path()).expect_err(name);
            assert!(refused.ends_with("sudo -u '#4321' chelseru ..."), "{refused}");
        }
        give(STORE_DIR, 4321);
        assert_eq!(foreign(dir.path()), None);
        std::fs::write(dir.path().join("db/snap"), "").expect("a file");
        assert_eq!(foreign(dir.path()), Some((dir.path().join("db/snap"), 0)));
        give(keys::FILE, 0);
        assert!(
            whose(dir.path()).contains("belongs to user 4321, and this is user 0"),
            "{}",
            whose(dir.path())
        );
    }
}
