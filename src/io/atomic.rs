//! Writing a file completely, or not at all.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    hash::{BuildHasher, Hasher, RandomState},
    io::{self, BufWriter, ErrorKind as Kind, Write},
    path::{Path, PathBuf},
};

use crate::{Error, Result, error::ErrorKind};

/// Replaces the file at `path` with what `write` writes; all writers of the library use this.
///
/// A new file is written next to the old one, synced to disk, and renamed over it. A symbolic link is followed; the old
/// file's mode is kept, and its owner if the system allows it; other hard links to it keep the old content. A device or
/// a pipe is written to directly. A file without write permission is an error.
///
/// # Errors
/// If the file cannot be written. Then the old one is unchanged, and no other file is left.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    try_replace(path, write)
        .map_err(|e| Error::new(ErrorKind::Io, "save", format!("cannot write {}", path.display())).caused_by(e))
}

fn try_replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let old = match fs::metadata(path) {
        Err(e) if e.kind() == Kind::NotFound => None,
        found => Some(found?),
    };
    match &old {
        Some(old) if old.is_dir() => return Err(io::Error::new(Kind::IsADirectory, "it is a folder")),
        Some(old) if !old.is_file() => return fill(&OpenOptions::new().write(true).open(path)?, write),
        Some(old) if old.permissions().readonly() => {
            return Err(io::Error::new(Kind::PermissionDenied, "the file is read-only"));
        }
        _ => {}
    }
    let target = follow(path)?;
    if old.is_some() {
        // Renaming requires permissions only on the folder.
        OpenOptions::new().write(true).open(&target)?;
    }
    let folder = target.parent().filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."));
    remove_stale(folder);
    let temporary = Temporary::new(folder, old.is_some())?;
    if let Some(old) = &old {
        keep_rights(&temporary.file, old)?;
    }
    fill(&temporary.file, write)?;
    temporary.file.sync_all()?;
    fs::rename(&temporary.path, &target)?;
    // The new file is in place; on a system that cannot sync a folder, a loss of power may restore the old one,
    // complete.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
    Ok(())
}

fn fill(file: &File, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let mut out = BufWriter::new(file);
    write(&mut out)?;
    out.flush()
}

/// Where a chain of symbolic links ends, whether or not that file exists.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut at = path.to_path_buf();
    for _ in 0..40 {
        let Ok(to) = fs::read_link(&at) else { return Ok(at) };
        at.pop();
        at.push(to);
    }
    Err(io::Error::other("too many symbolic links"))
}

/// Gives the new file the mode of the old one, and its owner and group if the system allows it.
#[cfg(unix)]
fn keep_rights(file: &File, old: &Metadata) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
    let _ = fchown(file, None, Some(old.gid()));
    let new = file.metadata()?;
    let mut mode = old.mode() & 0o777;
    if new.gid() != old.gid() {
        // A different group gets no more rights than everybody else.
        mode = mode & 0o707 | (mode << 3) & mode & 0o070;
    }
    // Some file systems have one mode for all files, and refuse to set it.
    if new.mode() & 0o777 != mode {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    let _ = fchown(file, Some(old.uid()), None);
    Ok(())
}

#[cfg(not(unix))]
fn keep_rights(_: &File, _: &Metadata) -> io::Result<()> {
    Ok(())
}

const PREFIX: &str = ".ndnn-";
const SUFFIX: &str = ".tmp";

/// A file that is removed when this is dropped, unless it was renamed. Its writer holds a lock on it, which ends with
/// the process.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// `private`: nobody else may read it until it has the rights of the file that it replaces.
    fn new(folder: &Path, private: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if private {
            std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        }
        for _ in 0..100 {
            // Not drawn from the library's generator: saving does not change later draws, and the name cannot be
            // predicted from a seed.
            let name = format!("{PREFIX}{:016x}{SUFFIX}", RandomState::new().build_hasher().finish());
            let path = folder.join(name);
            let file = match options.open(&path) {
                Err(e) if e.kind() == Kind::AlreadyExists => continue,
                opened => opened?,
            };
            let temporary = Temporary { path, file };
            // In between, another process that removes stale files may have locked or removed it. Without locks, no
            // process removes any.
            let taken = matches!(temporary.file.try_lock(), Err(TryLockError::WouldBlock));
            if !taken && temporary.path.exists() {
                return Ok(temporary);
            }
        }
        Err(io::Error::new(Kind::AlreadyExists, "no temporary file could be made beside it"))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the temporary files of processes that ended while saving: those that nobody holds a lock on.
fn remove_stale(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
        let ours = random.is_some_and(|r| r.len() == 16 && r.bytes().all(|b| b.is_ascii_hexdigit()));
        if ours
            && entry.file_type().is_ok_and(|kind| kind.is_file())
            && let Ok(file) = OpenOptions::new().write(true).open(entry.path())
            && file.try_lock().is_ok()
        {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests;
