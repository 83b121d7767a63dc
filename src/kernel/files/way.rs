//! The way to a file: who may change what a path leads to.
//!
//! A file that only root may write is worth nothing in a folder where somebody else may put another in its place, or take it
//! away: an absent configuration means the built-in defaults, an absent config.json unknown capabilities. So every folder
//! from `/` on is looked at, as sshd does with its keys. Links in the middle are followed, for `/var/run` and a
//! policies folder that is a link are common; but one by one, each being a thing in a folder that was looked at before, and
//! the way goes on from where it leads. (`RESOLVE_NO_SYMLINKS` would refuse them, and says nothing of owners.)
//!
//! Looking is by path, one lstat(2) for a folder, and not by descriptors: who may change nothing in the folders before cannot
//! change what the next look finds.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use rustix::fs::{FileType, PROC_SUPER_MAGIC, Stat, lstat, readlink, statfs};

use super::{ReadError, errno};

/// As many links as the kernel follows (`MAXSYMLINKS`).
const MAXSYMLINKS: usize = 40;

/// What is known of the folder at the end of a way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Its owner, where that is neither root nor us. Only [`Last::AnyOwner`] lets it pass.
    pub(super) foreign: Option<u32>,
    /// Others may put files there, and not touch those of others (`/tmp`).
    pub(super) shared: bool,
}

/// Whose the folder at the end may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// Root's or ours, as those before.
    Ours,
    /// Anybody's: the caller knows whose it has to be.
    AnyOwner,
}

/// Who is believed.
struct Trusted {
    us: u32,
    group: u32,
    /// The owner of `/`: root, or what root is where a rootless engine runs its hooks and root has no number
    /// (`overflowuid`). Whom else that namespace does not map is then not told from root.
    top: (u32, u32),
}

impl Trusted {
    fn owns(&self, stat: &Stat) -> bool {
        [0, self.us, self.top.0].contains(&stat.st_uid)
    }

    /// Others may put something in the place of what is there.
    fn others_write(&self, stat: &Stat) -> bool {
        let group = stat.st_mode & 0o020 != 0 && ![0, self.group, self.top.1].contains(&stat.st_gid);
        (group || stat.st_mode & 0o002 != 0) && stat.st_mode & 0o1000 == 0
    }
}

/// Looks at every folder that leads to `folder`, and at itself.
///
/// # Errors
/// [`ReadError::Way`] for one that somebody else may change; [`ReadError::Missing`]; the kernel's.
pub(super) fn believe(folder: &Path, last: Last) -> Result<Place, ReadError> {
    let top = look(Path::new("/"))?;
    let trusted = Trusted {
        us: rustix::process::geteuid().as_raw(),
        group: rustix::process::getegid().as_raw(),
        top: (top.st_uid, top.st_gid),
    };
    let mut at = PathBuf::from("/");
    let mut place = judge(&at, &top, &trusted)?;
    let mut ahead = parts(&absolute(folder)?);
    let mut links = 0;
    while let Some(part) = ahead.pop_front() {
        if part == ".." {
            at.pop();
            place = judge(&at, &look(&at)?, &trusted)?;
            continue;
        }
        at.push(&part);
        let stat = look(&at)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            place = match judge(&at, &stat, &trusted) {
                Err(ReadError::Way { owner: Some(uid), .. }) if last == Last::AnyOwner && ahead.is_empty() => {
                    Place { foreign: Some(uid), shared: place.shared }
                }
                judged => judged?,
            };
            continue;
        }
        links += 1;
        if links > MAXSYMLINKS {
            return Err(ReadError::Errno(Errno::ELOOP));
        }
        // /proc/PID/root, cwd and fd/N lead elsewhere than they read, as the process they belong to sees it.
        if statfs(at.parent().unwrap_or(&at)).map_err(|error| ReadError::Errno(errno(error)))?.f_type
            == PROC_SUPER_MAGIC
        {
            return Err(ReadError::Symlink);
        }
        // In a folder that all may write, a link is its owner's.
        if !trusted.owns(&stat) {
            return Err(ReadError::Way { folder: at, owner: Some(stat.st_uid), mode: stat.st_mode });
        }
        let target = readlink(&at, Vec::new()).map_err(|error| ReadError::Errno(errno(error)))?;
        let target = PathBuf::from(OsString::from_vec(target.into_bytes()));
        if target.is_absolute() {
            at = PathBuf::from("/");
        } else {
            at.pop();
        }
        for part in parts(&target).into_iter().rev() {
            ahead.push_front(part);
        }
    }
    Ok(place)
}

fn judge(folder: &Path, stat: &Stat, trusted: &Trusted) -> Result<Place, ReadError> {
    let way = |owner| ReadError::Way { folder: folder.to_owned(), owner, mode: stat.st_mode & 0o7777 };
    // A file in the middle: what lies below it is missing, as open(2) will say.
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(ReadError::Missing);
    }
    if trusted.others_write(stat) {
        return Err(way(None));
    }
    if !trusted.owns(stat) {
        return Err(way(Some(stat.st_uid)));
    }
    Ok(Place { foreign: None, shared: stat.st_mode & 0o022 != 0 })
}

fn look(path: &Path) -> Result<Stat, ReadError> {
    lstat(path).map_err(|error| match errno(error) {
        Errno::ENOENT | Errno::ENOTDIR => ReadError::Missing,
        errno => ReadError::Errno(errno),
    })
}

fn absolute(path: &Path) -> Result<PathBuf, ReadError> {
    if path.is_absolute() {
        return Ok(path.to_owned());
    }
    let here = rustix::process::getcwd(Vec::new()).map_err(|error| ReadError::Errno(errno(error)))?;
    Ok(PathBuf::from(OsString::from_vec(here.into_bytes())).join(path))
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// A folder of ours with `a/b` in it.
    fn folders() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().canonicalize().unwrap();
        fs::create_dir_all(top.join("a/b")).unwrap();
        (dir, top)
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_way_that_nobody_else_may_change_is_believed() {
        let (_dir, top) = folders();
        let ours = Ok(Place::default());
        assert_eq!(believe(&top.join("a/b"), Last::Ours), ours);
        assert_eq!(believe(&top.join("a/../a/./b"), Last::Ours), ours);
        assert_eq!(believe(Path::new("/proc"), Last::Ours), ours);
        assert_eq!(believe(Path::new("/"), Last::Ours), ours);
        assert_eq!(believe(&top.join("none/b"), Last::Ours), Err(ReadError::Missing));
        fs::write(top.join("file"), "").unwrap();
        assert_eq!(believe(&top.join("file/b"), Last::Ours), Err(ReadError::Missing));
    }

    #[test]
    fn a_folder_that_others_may_write_is_not_believed_wherever_it_stands() {
        let (_dir, top) = folders();
        for (bits, good) in [(0o700, true), (0o755, true), (0o777, false), (0o702, false), (0o1777, true)] {
            mode(&top.join("a"), bits);
            for path in ["a", "a/b"] {
                let found = believe(&top.join(path), Last::Ours);
                let way = ReadError::Way { folder: top.join("a"), owner: None, mode: bits };
                assert_eq!(found.clone().err(), (!good).then_some(way), "{bits:o} {path}");
            }
            assert_eq!(believe(&top.join("a/b"), Last::AnyOwner).is_ok(), good);
        }
        assert_eq!(believe(&top.join("a"), Last::Ours), Ok(Place { foreign: None, shared: true }));
        assert_eq!(believe(&top.join("a/b"), Last::Ours), Ok(Place::default()));
    }

    #[test]
    fn links_are_followed_and_what_they_lead_to_is_looked_at() {
        let (_dir, top) = folders();
        symlink("a", top.join("relative")).unwrap();
        symlink(top.join("a/b"), top.join("absolute")).unwrap();
        symlink("../../relative/b", top.join("a/b/far")).unwrap();
        symlink("loop", top.join("loop")).unwrap();
        for path in ["relative/b", "absolute", "a/b/far"] {
            assert!(believe(&top.join(path), Last::Ours).is_ok(), "{path}");
        }
        assert_eq!(believe(&top.join("loop"), Last::Ours), Err(ReadError::Errno(Errno::ELOOP)));
        // The same folder, and yet: of another process these would lead into its own root.
        symlink("/proc/self/root", top.join("magic")).unwrap();
        for path in [PathBuf::from("/proc/self/root/etc"), PathBuf::from("/proc/self/cwd"), top.join("magic/etc")] {
            assert_eq!(believe(&path, Last::Ours), Err(ReadError::Symlink), "{}", path.display());
        }
        mode(&top.join("a"), 0o777);
        for path in ["relative/b", "absolute"] {
            assert!(matches!(believe(&top.join(path), Last::Ours), Err(ReadError::Way { .. })), "{path}");
        }
    }

    #[test]
    fn whose_a_folder_is_and_whose_its_group_decides() {
        let trusted = Trusted { us: 1000, group: 1000, top: (65534, 65534) };
        let stat = |uid, gid, mode| {
            let mut stat = look(Path::new("/")).unwrap();
            (stat.st_uid, stat.st_gid, stat.st_mode) = (uid, gid, mode);
            stat
        };
        for (uid, owns) in [(0, true), (1000, true), (65534, true), (1001, false)] {
            assert_eq!(trusted.owns(&stat(uid, 0, 0o040755)), owns, "{uid}");
        }
        // The group that a user has alone (umask 002) is not somebody else.
        for (gid, written) in [(0, false), (1000, false), (65534, false), (5, true)] {
            assert_eq!(trusted.others_write(&stat(0, gid, 0o040775)), written, "{gid}");
            assert!(!trusted.others_write(&stat(0, gid, 0o041777)));
            assert!(trusted.others_write(&stat(0, gid, 0o040777)));
        }
    }
}
