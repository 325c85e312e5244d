//! The conformance runner: compares ndnn with PyTorch's results, case by case. FORMAT.md, which comes with the cases,
//! describes them.
//!
//! `CONFORMANCE_CASES` names another folder of cases; `CONFORMANCE_ONLY=module/Conv2d,tensor/add/F64/3` selects targets
//! or cases by prefix. Without either, it runs all but the optimizers and schedulers that are not built (`BUILT` in
//! `targets/`).

// The interface for every dispatch file; some of them do not use all of it.
#[allow(dead_code)]
mod args;
mod check;
#[path = "../common/mod.rs"]
mod common;
mod run;
mod run_module;
mod run_optim;
mod skips;
mod targets;
mod values;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use run::Outcome;
use values::CaseFile;

const KINDS: [&str; 5] = ["tensor", "functional", "module", "optim", "sched"];

/// The cases that the environment selects.
struct Selection {
    folder: PathBuf,
    /// Prefixes of `kind/target` or `kind/target/case`; empty for all.
    only: Vec<String>,
    /// Whether targets that are not built are left out.
    built_only: bool,
}

impl Selection {
    fn from_env() -> Selection {
        let set = |name| env::var(name).ok().filter(|value| !value.is_empty());
        let folder = set("CONFORMANCE_CASES");
        let only = set("CONFORMANCE_ONLY").unwrap_or_default();
        let only: Vec<_> = only.split(',').filter(|p| !p.is_empty()).map(|p| p.trim().to_string()).collect();
        Selection {
            built_only: folder.is_none() && only.is_empty(),
            folder: folder.map_or(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/cases"), PathBuf::from),
            only,
        }
    }

    fn takes_case(&self, target: &str, kind: &str, name: &str) -> bool {
        let name = format!("{kind}/{name}");
        self.only.is_empty() || self.only.iter().any(|p| target.starts_with(p.as_str()) || name.starts_with(p.as_str()))
    }

    /// Whether a file may contain selected cases.
    fn opens(&self, target: &str, kind: &str) -> bool {
        // The only file of the schedulers contains cases of many names.
        let whole = if kind == "sched" { "sched" } else { target };
        let inside = |p: &str| p.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.only.is_empty() || self.only.iter().any(|p| target.starts_with(p.as_str()) || inside(p))
    }
}

/// One case file.
struct Target {
    kind: &'static str,
    /// `kind/name`.
    name: String,
    path: PathBuf,
}

/// The selected case files, in order, and the names of those that are not built.
fn find(selection: &Selection) -> (Vec<Target>, Vec<String>) {
    let (mut targets, mut missing) = (Vec::new(), Vec::new());
    for kind in KINDS {
        let entries = fs::read_dir(selection.folder.join(kind)).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|e| e.path()).collect();
        paths.retain(|path| path.extension().is_some_and(|e| e == "safetensors"));
        paths.sort();
        for path in paths {
            let stem = path.file_stem().expect("a file").to_string_lossy().into_owned();
            let name = format!("{kind}/{stem}");
            if selection.built_only && !targets::built(kind, &stem) {
                missing.push(name);
            } else if selection.opens(&name, kind) {
                targets.push(Target { kind, name, path });
            }
        }
    }
    (targets, missing)
}

/// The results of the cases of one target.
#[derive(Clone, Default)]
struct Report {
    passed: usize,
    skipped: usize,
    /// Case and differences.
    failed: Vec<(String, Vec<String>)>,
}

impl Report {
    fn line(&self) -> String {
        format!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped)
    }
}

fn run_target(target: &Target, selection: &Selection) -> Report {
    let mut report = Report::default();
    let file = match CaseFile::read(&target.path) {
        Ok(file) => file,
        Err(message) => {
            report.failed.push((target.name.clone(), vec![message]));
            return report;
        }
    };
    for case in &file.cases {
        let name = case["name"].as_str().unwrap_or("a case without a name");
        if !selection.takes_case(&target.name, target.kind, name) {
            continue;
        }
        match run::run(&file, case) {
            Outcome::Passed => report.passed += 1,
            Outcome::Skipped => report.skipped += 1,
            Outcome::Failed(differences) => report.failed.push((name.to_string(), differences)),
        }
    }
    report
}

/// Runs the targets on all cores and prints their reports in order, each as soon as all reports before it were printed.
fn run_all(targets: &[Target], selection: &Selection) -> Report {
    let next = AtomicUsize::new(0);
    let printed: Mutex<(usize, Vec<Option<Report>>, Report)> =
        Mutex::new((0, vec![None; targets.len()], Report::default()));
    let work = || {
        while let Some((i, target)) =
            Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, targets.get(i)?)))
        {
            let report = run_target(target, selection);
            let (done, reports, total) = &mut *printed.lock().unwrap();
            reports[i] = Some(report);
            while let Some(report) = reports.get_mut(*done).and_then(Option::take) {
                print_report(&targets[*done], &report);
                total.passed += report.passed;
                total.skipped += report.skipped;
                total.failed.extend(report.failed);
                *done += 1;
            }
        }
    };
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(work);
        }
    });
    printed.into_inner().unwrap().2
}

fn print_report(target: &Target, report: &Report) {
    if report.passed + report.skipped + report.failed.len() > 0 {
        println!("{} {}", target.name, report.line());
    }
    for (case, differences) in &report.failed {
        for difference in differences {
            println!("    {case}: {}", difference.chars().take(400).collect::<String>());
        }
    }
}

/// What `cargo test` and nextest request on the command line of a test without libtest's harness.
enum Request {
    Run,
    List,
    Nothing,
}

fn request(arguments: impl Iterator<Item = String>) -> Request {
    const NAME: &str = "conformance";
    let (mut filters, mut list, mut exact, mut ignored) = (Vec::new(), false, false, false);
    let mut arguments = arguments.skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--list" => list = true,
            "--exact" => exact = true,
            "--ignored" => ignored = true,
            "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_string()),
        }
    }
    let meant = |filter: &String| if exact { filter == NAME } else { NAME.contains(filter.as_str()) };
    match () {
        () if ignored || !(filters.is_empty() || filters.iter().any(meant)) => Request::Nothing,
        () if list => Request::List,
        () => Request::Run,
    }
}

fn main() -> ExitCode {
    match request(env::args()) {
        Request::Nothing => return ExitCode::SUCCESS,
        Request::List => {
            println!("conformance: test");
            return ExitCode::SUCCESS;
        }
        Request::Run => {}
    }
    run::quiet_panics();
    let selection = Selection::from_env();
    let (targets, missing) = find(&selection);
    let total = run_all(&targets, &selection);
    if !missing.is_empty() {
        println!("not built yet: {}", missing.join(" "));
    }
    if targets.is_empty() {
        println!("there are no such cases in {}", selection.folder.display());
    }
    println!("{}", total.line());
    if total.failed.is_empty() && !targets.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
