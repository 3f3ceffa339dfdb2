//! Other languages: the examples' dependencies are installed by their lock
//! files, once, into a folder under `target/`.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// An example with everything that it imports.
pub(crate) struct Installed {
    /// A copy of its files, beside their dependencies.
    pub(crate) folder: PathBuf,
}

impl Installed {
    /// A command in that folder that sees only these variables, and how to
    /// find programs.
    pub(crate) fn command(&self, program: &str, variables: &[(&str, &str)]) -> Command {
        let own = self.folder.join("venv/bin").join(program);
        let mut command = Command::new(if own.exists() { own } else { program.into() });
        command
            .current_dir(&self.folder)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.folder)
            .envs(variables.iter().copied());
        command
    }
}

/// A Node project of this repository, with its packages. `None`, and a line
/// that says so, where there is no Node.
pub(crate) fn node(project: &str) -> Option<Installed> {
    available(&["node", "npm"], project)?;
    Some(install(project, "package-lock.json", |folder| {
        let mut npm = Command::new("npm");
        npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
            .arg("--loglevel=error")
            .current_dir(folder);
        done(&mut npm);
    }))
}

/// A Python project of this repository, with its packages. `None`, and a line
/// that says so, where there is no Python.
pub(crate) fn python(project: &str) -> Option<Installed> {
    available(&["python3"], project)?;
    Some(install(project, "requirements.txt", |folder| {
        let mut venv = Command::new("python3");
        done(venv.args(["-m", "venv"]).arg(folder.join("venv")));
        let mut pip = Command::new(folder.join("venv/bin/python"));
        pip.args(["-m", "pip", "install", "--quiet", "--require-hashes"])
            .args(["--disable-pip-version-check", "--only-binary=:all:", "-r"])
            .arg(folder.join("requirements.txt"));
        done(&mut pip);
    }))
}

/// Runs a command to its end, which has to be a good one.
pub(crate) fn done(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn available(programs: &[&str], project: &str) -> Option<()> {
    for program in programs {
        let found = Command::new(program).arg("--version").output();
        if !found.is_ok_and(|output| output.status.success()) {
            // Past the test harness, which shows nothing of a test that passes.
            let _ = writeln!(
                std::io::stderr(),
                "\nSKIPPED: {project} was not tested, there is no {program} on this machine\n"
            );
            return None;
        }
    }
    Some(())
}

/// The folder is named after the lock file's content, so a new lock installs
/// anew; and it is marked last, so that what was broken off is not used.
fn install(project: &str, lock: &str, work: impl FnOnce(&Path)) -> Installed {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(project);
    let mut hasher = DefaultHasher::new();
    std::fs::read(source.join(lock))
        .expect("a lock file")
        .hash(&mut hasher);
    let name = format!("{}-{:016x}", project.replace('/', "-"), hasher.finish());
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("examples");
    let folder = root.join(name);
    std::fs::create_dir_all(&root).expect("a folder");
    // Several tests may want the same one, in several processes.
    let guard = std::fs::File::create(folder.with_extension("lock")).expect("a lock");
    guard.lock().expect("locked");
    if !folder.join(".installed").exists() {
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).expect("a folder");
        copy(&source, &folder);
        work(&folder);
        std::fs::write(folder.join(".installed"), "").expect("marked");
    }
    copy(&source, &folder);
    Installed { folder }
}

fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            let name = path.file_name().expect("a name");
            std::fs::copy(&path, to.join(name)).expect("copied");
        }
    }
}
