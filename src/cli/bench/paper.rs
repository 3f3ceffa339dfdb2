//! The file that a report is written to.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::cli::Usage;

/// A place where a file can be written, found before the load begins: nobody
/// wants to learn after ten minutes that the folder is not there.
#[derive(Debug)]
pub(super) struct Paper {
    path: PathBuf,
    /// Becomes the file as a whole. None if what is there is no ordinary file,
    /// such as a pipe or `/dev/stderr`: that is written to and not replaced.
    draft: Option<NamedTempFile>,
}

impl Paper {
    /// # Errors
    /// The file cannot be written there.
    pub(super) fn at(path: &Path) -> Result<Self, Usage> {
        let wrong = |problem: String| {
            let shown = path.display();
            Usage(format!(
                "--report {shown}: {problem}; name another file, or --no-report"
            ))
        };
        let there = fs::metadata(path).ok();
        if there.as_ref().is_some_and(fs::Metadata::is_dir) {
            return Err(wrong("is a folder".to_owned()));
        }
        let draft = if there.is_none_or(|there| there.is_file()) {
            let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
            let draft = tempfile::Builder::new()
                .prefix(".ringpush-bench-")
                // As any file; the umask takes from it.
                .permissions(Permissions::from_mode(0o666))
                .tempfile_in(folder.unwrap_or(Path::new(".")));
            Some(draft.map_err(|error| wrong(error.to_string()))?)
        } else {
            None
        };
        let path = path.to_owned();
        Ok(Self { path, draft })
    }

    /// Writes the file and says where it is.
    ///
    /// # Errors
    /// The disk is full, or the like.
    pub(super) fn write(self, text: &[u8]) -> anyhow::Result<PathBuf> {
        match self.draft {
            Some(mut draft) => {
                draft.write_all(text)?;
                draft.persist(&self.path)?;
            }
            None => fs::OpenOptions::new()
                .write(true)
                .open(&self.path)?
                .write_all(text)?,
        }
        Ok(self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_what_cannot_be_is_known_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.html");
        fs::write(&file, "old").unwrap();
        let paper = Paper::at(&file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "old");
        assert_eq!(paper.write(b"new").unwrap(), file);
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        for path in [folder.path(), &folder.path().join("none/a.html")] {
            let error = Paper::at(path).unwrap_err().to_string();
            assert!(error.contains("--report") && error.contains("--no-report"));
        }
        // Not replaced by a file of that name.
        Paper::at(Path::new("/dev/null"))
            .unwrap()
            .write(b"x")
            .unwrap();
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }
}
