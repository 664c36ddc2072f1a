//! The files that a document shows, so that a test runs what a reader copies.
//!
//! A file is a fenced block, and the line before its fence is the file's path in backquotes and a
//! colon.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Result, bail, ensure};

/// A folder with files in it, at the paths that they have on a host; it goes with its value.
#[derive(Debug)]
pub struct Files {
    folder: PathBuf,
    paths: Vec<String>,
}

/// The files below a heading of a Markdown document, up to the next heading.
///
/// # Errors
///
/// There is no such heading, no file below it, or it cannot be written.
pub fn files(document: &str, heading: &str) -> Result<Files> {
    let shown = shown(document, heading)?;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("how-to-{}-{number}", std::process::id());
    let mut files = Files {
        folder: std::env::temp_dir().join(name),
        paths: Vec::new(),
    };
    for (path, content) in shown {
        files.write(&path, &content)?;
    }
    Ok(files)
}

/// Paths and contents, in the order of the document.
fn shown(document: &str, heading: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut inside = false;
    let mut path = None;
    let mut lines = document.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let block: Vec<&str> = lines
                .by_ref()
                .take_while(|line| !line.starts_with("```"))
                .collect();
            if let (true, Some(path)) = (inside, path.take()) {
                found.push((path, block.join("\n") + "\n"));
            }
        } else if line.starts_with('#') {
            inside = line.trim_start_matches('#').trim() == heading;
        } else if !line.is_empty() {
            path = line
                .strip_prefix("`/")
                .and_then(|rest| rest.strip_suffix("`:"))
                .map(|rest| format!("/{rest}"));
        }
    }
    ensure!(!found.is_empty(), "no file below the heading {heading:?}");
    Ok(found)
}

impl Files {
    /// Adds a file that the document leaves to the system; one that is there stays.
    ///
    /// # Errors
    ///
    /// It cannot be written, or the path is not absolute.
    pub fn write_default(&mut self, path: &str, content: &str) -> Result<()> {
        if self.paths.iter().any(|there| there == path) {
            return Ok(());
        }
        self.write(path, content)
    }

    fn write(&mut self, path: &str, content: &str) -> Result<()> {
        let place = self.at(path)?;
        let parent = place.parent().unwrap_or(&self.folder);
        fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        fs::write(&place, content).with_context(|| format!("writing {}", place.display()))?;
        self.paths.push(path.to_owned());
        Ok(())
    }

    /// Where the file or folder of this path lies for now.
    ///
    /// # Errors
    ///
    /// The path is not absolute.
    pub fn at(&self, path: &str) -> Result<PathBuf> {
        match Path::new(path).strip_prefix("/") {
            Ok(relative) => Ok(self.folder.join(relative)),
            Err(_) => bail!("{path} is not absolute"),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "\
# Title

## One

`/etc/one.conf`:

```text
# no heading
a
```

`/etc/two.conf` is something else.

```console
$ ls
```

## Two

`/etc/two.conf`:
```
b
```
";

    #[test]
    fn files_are_found_by_heading_and_path() {
        let one = shown(DOCUMENT, "One").unwrap();
        let expected = ("/etc/one.conf".to_owned(), "# no heading\na\n".to_owned());
        assert_eq!(one, [expected]);
        let two = shown(DOCUMENT, "Two").unwrap();
        assert_eq!(two, [("/etc/two.conf".to_owned(), "b\n".to_owned())]);
        assert!(shown(DOCUMENT, "Title").is_err());
    }

    #[test]
    fn a_default_gives_way_to_what_is_shown() {
        let mut two = files(DOCUMENT, "Two").unwrap();
        two.write_default("/etc/two.conf", "c").unwrap();
        two.write_default("/etc/three.conf", "c").unwrap();
        let read = |path| fs::read_to_string(two.at(path).unwrap()).unwrap();
        assert_eq!(read("/etc/two.conf"), "b\n");
        assert_eq!(read("/etc/three.conf"), "c");
        let folder = two.at("/").unwrap();
        drop(two);
        assert!(!folder.exists());
    }
}
