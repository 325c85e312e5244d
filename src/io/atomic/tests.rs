use std::{
    env,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use super::{PREFIX, SUFFIX, replace};

/// A folder for one test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ndnn-atomic-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    /// A path in the folder; with `content`, the file is created.
    fn at(&self, name: &str, content: Option<&str>) -> PathBuf {
        let path = self.0.join(name);
        content.into_iter().for_each(|c| fs::write(&path, c).unwrap());
        path
    }

    fn names(&self) -> Vec<String> {
        names(&self.0)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn put(path: &Path, content: &str) -> crate::Result<()> {
    replace(path, |out| out.write_all(content.as_bytes()))
}

#[track_caller]
fn refused(path: &Path, why: &str) {
    let error = put(path, "new").unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Io);
    let text = error.to_string();
    assert!(text.starts_with(&format!("save: cannot write {}: ", path.display())) && text.contains(why), "{text}");
}

fn temporary(name: &str) -> bool {
    name.starts_with(PREFIX) && name.ends_with(SUFFIX)
}

#[test]
fn new_and_replaced_under_any_legal_name() {
    let folder = Folder::new();
    let long = "n".repeat(255);
    for name in ["a", &long] {
        let path = folder.at(name, None);
        for content in ["first", "2"] {
            put(&path, content).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }
    assert_eq!(folder.names(), ["a", &long]);
    refused(&folder.0, "it is a folder");
    refused(&folder.at("a/b", None), "");
    refused(&folder.at("missing/b", None), "");
    refused(&folder.at("slash/", None), "");
    refused(Path::new(""), "");
    assert_eq!(folder.names(), ["a", &long]);
}

#[test]
fn a_write_that_fails_or_panics_leaves_the_old_file_and_nothing_else() {
    let folder = Folder::new();
    for name in ["old", "new"] {
        let path = folder.at(name, (name == "old").then_some("old"));
        let half = |out: &mut dyn Write| out.write_all(&[1; 100_000]);
        let error = replace(&path, |out| half(out).and(Err(io::Error::other("disk full")))).unwrap_err();
        assert_eq!(error.to_string(), format!("save: cannot write {}: disk full", path.display()));
        let panicked = std::panic::catch_unwind(|| replace(&path, |out| half(out).map(|()| panic!("on purpose"))));
        assert!(panicked.is_err());
    }
    assert_eq!(folder.names(), ["old"]);
    assert_eq!(fs::read_to_string(folder.0.join("old")).unwrap(), "old");
}

#[test]
fn temporary_names_cannot_be_foretold() {
    let folder = Folder::new();
    let path = folder.at("a", Some("old"));
    let mut seen = Vec::new();
    for _ in 0..20 {
        replace(&path, |_| {
            seen.extend(folder.names().into_iter().filter(|name| name != "a"));
            Ok(())
        })
        .unwrap();
    }
    assert!(seen.iter().all(|name| temporary(name) && !name.contains(&std::process::id().to_string())), "{seen:?}");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 20);
}

#[test]
fn what_nobody_holds_is_removed_and_the_rest_stays() {
    let folder = Folder::new();
    let name = |i: u32| format!("{PREFIX}{i:016x}{SUFFIX}");
    folder.at(&name(1), Some("stale"));
    folder.at(&name(2), Some("held"));
    let held = File::open(folder.0.join(name(2))).unwrap();
    held.lock().unwrap();
    fs::create_dir(folder.0.join(name(3))).unwrap();
    let others = [".ndnn-1.tmp", ".ndnn-000000000000000g.tmp", "x.ndnn-0000000000000004.tmp", "a.tmp"];
    others.iter().for_each(|other| drop(folder.at(other, Some("other"))));
    put(&folder.at("a", None), "new").unwrap();
    let left = folder.names();
    assert!(!left.contains(&name(1)) && left.contains(&name(2)) && left.contains(&name(3)), "{left:?}");
    assert!(others.iter().all(|other| left.iter().any(|name| name == other)) && left.len() == 7, "{left:?}");
    drop(held);
    put(&folder.at("b", None), "new").unwrap();
    assert!(!folder.names().contains(&name(2)));
}

/// Two writers of one path and a third one beside it remove one another's stale files all the time.
#[test]
fn a_reader_sees_one_whole_file_or_another() {
    let folder = Folder::new();
    let path = folder.at("a", Some(&"a".repeat(10_000)));
    let write = |path: &Path, letter: &str| (0..100).for_each(|_| put(path, &letter.repeat(10_000)).unwrap());
    thread::scope(|scope| {
        let writers = [("a", "b"), ("a", "c"), ("other", "d")]
            .map(|(name, letter)| (folder.0.join(name), letter))
            .map(|(path, letter)| scope.spawn(move || write(&path, letter)));
        while writers.iter().any(|w| !w.is_finished()) {
            let content = fs::read_to_string(&path).unwrap();
            assert!(content.len() == 10_000 && content.bytes().all(|b| b == content.as_bytes()[0]));
        }
    });
    assert_eq!(folder.names(), ["a", "other"]);
}

const HALFWAY: &str = "NDNN_TEST_STOP_HALFWAY";

/// Saves, and stops in the middle until it is killed: run by the next test, in a process of its own.
#[test]
fn halfway() {
    let Some(path) = env::var_os(HALFWAY) else { return };
    let _ = replace(Path::new(&path), |out| {
        out.write_all(&[b'n'; 100_000])?;
        out.flush()?;
        println!("\nhalfway");
        // Ends when the process that waits for it ends.
        io::stdin().read_to_end(&mut Vec::new()).map(drop)
    });
}

#[test]
fn a_killed_process_leaves_the_old_file_and_the_next_save_tidies_up() {
    let folder = Folder::new();
    let path = folder.at("a", Some("old"));
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["io::atomic::tests::halfway", "--exact", "--nocapture", "--test-threads=1"])
        .env(HALFWAY, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok).any(|line| line == "halfway");
    assert!(said, "the child did not come halfway");
    let kept = || folder.names().into_iter().filter(|name| temporary(name)).count();
    // The process is alive, so its file is left alone.
    put(&folder.at("b", None), "b").unwrap();
    assert_eq!(kept(), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((kept(), fs::read_to_string(&path).unwrap().as_str()), (1, "old"));
    put(&path, "new").unwrap();
    assert_eq!((folder.names(), fs::read_to_string(&path).unwrap().as_str()), (vec!["a".into(), "b".into()], "new"));
}

#[cfg(unix)]
mod unix {
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn mode_and_owner_stay() {
        let folder = Folder::new();
        let path = folder.at("a", Some("old"));
        let usual = mode(&path);
        for kept in [0o600, 0o640, 0o644, 0o666, 0o755, 0o200] {
            fs::set_permissions(&path, fs::Permissions::from_mode(kept)).unwrap();
            // Nobody else may read a file while it is written.
            let check = || names(&folder.0).iter().filter(|n| temporary(n)).all(|n| mode(&folder.0.join(n)) == kept);
            replace(&path, |_| if check() { Ok(()) } else { Err(io::Error::other("wrong mode")) }).unwrap();
            assert_eq!(mode(&path), kept);
        }
        put(&folder.at("new", None), "new").unwrap();
        assert_eq!(mode(&folder.0.join("new")), usual);
        // Only root can change the owner of a file.
        if chown(&path, Some(1234), Some(2345)).is_ok() {
            put(&path, "new").unwrap();
            let now = fs::metadata(&path).unwrap();
            assert_eq!((now.uid(), now.gid(), now.mode() & 0o777), (1234, 2345, 0o200));
        }
    }

    #[test]
    fn a_read_only_file_is_refused() {
        let folder = Folder::new();
        let path = folder.at("a", Some("old"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        refused(&path, "the file is read-only");
        assert_eq!((mode(&path), fs::read_to_string(&path).unwrap().as_str()), (0o444, "old"));
        assert_eq!(folder.names(), ["a"]);
    }

    #[test]
    fn links_are_followed() {
        let folder = Folder::new();
        let inner = folder.0.join("inner");
        fs::create_dir(&inner).unwrap();
        // Links to a file, through two links, by a relative and by an absolute path; and to a file that does not exist
        // yet.
        folder.at("inner/file", Some("old"));
        for (target, name) in
            [("file", "inner/link"), ("inner/link", "chain"), ("inner/missing", "dangling"), ("inner", "to")]
        {
            symlink(target, folder.0.join(name)).unwrap();
        }
        symlink(inner.join("file"), folder.0.join("absolute")).unwrap();
        for (link, file) in [("chain", "file"), ("absolute", "file"), ("dangling", "missing"), ("to/link", "file")] {
            put(&folder.0.join(link), link).unwrap();
            assert_eq!(fs::read_to_string(inner.join(file)).unwrap(), link);
            assert!(fs::symlink_metadata(folder.0.join(link)).unwrap().is_symlink());
        }
        assert_eq!(names(&inner), ["file", "link", "missing"]);
        symlink("loop", folder.0.join("loop")).unwrap();
        refused(&folder.0.join("loop"), "");
        refused(&folder.0.join("to"), "it is a folder");
        symlink("nowhere/file", folder.0.join("lost")).unwrap();
        refused(&folder.0.join("lost"), "");
        assert_eq!(folder.names(), ["absolute", "chain", "dangling", "inner", "loop", "lost", "to"]);
    }

    #[test]
    fn pipes_and_devices_are_written_to() {
        let folder = Folder::new();
        let pipe = folder.0.join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let reader = thread::spawn({
            let pipe = pipe.clone();
            move || fs::read_to_string(pipe).unwrap()
        });
        put(&pipe, "through").unwrap();
        assert_eq!(reader.join().unwrap(), "through");
        assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
        assert_eq!(folder.names(), ["pipe"]);
        let device = Path::new("/dev/null");
        put(device, "gone").unwrap();
        assert!(fs::metadata(device).unwrap().file_type().is_char_device());
        if Path::new("/dev/full").exists() {
            refused(Path::new("/dev/full"), "");
        }
    }
}
