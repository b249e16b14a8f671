//! Objects from YAML and JSON files (`--mesh PATH`): files, or folders with everything below them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use egress_core::manifest::{self, Problem, RawObject};
use egress_core::mesh::{Mesh, MeshOptions};
use egress_core::world::MeshSource;
use thiserror::Error;

/// Bytes of one file; a dump of 10 000 pods has about 100 MiB.
const MAX_FILE: u64 = 1 << 30;

/// Folders below a folder: a link that leads back to itself ends here.
const MAX_DEPTH: usize = 32;

/// A path that cannot be read at all. What is malformed inside of a file is a [`Problem`] and never fatal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FilesError {
    /// The file or folder cannot be opened or read.
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is larger than what is sensible.
    #[error("{} has {size} bytes; more than {MAX_FILE} in one file are not read", path.display())]
    TooLarge {
        /// Which.
        path: PathBuf,
        /// How large.
        size: u64,
    },
    /// Folders that contain themselves.
    #[error("{} lies more than {MAX_DEPTH} folders deep; a link may lead back to itself", path.display())]
    TooDeep {
        /// Which.
        path: PathBuf,
    },
    /// A folder without a file of a known suffix.
    #[error("no .yaml, .yml or .json file in {}", path.display())]
    Empty {
        /// Which.
        path: PathBuf,
    },
}

/// What the files hold.
#[derive(Debug, Default)]
pub struct Files {
    /// All objects.
    pub objects: Vec<RawObject>,
    /// What could not be read.
    pub problems: Vec<Problem>,
}

/// Reads every path, in the order given; folders recursively, sorted.
pub fn read(paths: &[PathBuf]) -> Result<Files, FilesError> {
    let mut out = Files::default();
    for path in paths {
        let meta = fs::metadata(path).map_err(|source| FilesError::Unreadable { path: path.clone(), source })?;
        if !meta.is_dir() {
            file(path, &mut out)?;
            continue;
        }
        let mut found = BTreeSet::new();
        walk(path, 0, &mut found)?;
        if found.is_empty() {
            return Err(FilesError::Empty { path: path.clone() });
        }
        for path in found {
            file(&path, &mut out)?;
        }
    }
    Ok(out)
}

/// Reads and compiles, and says where it all comes from.
pub fn load(paths: &[PathBuf], options: &MeshOptions) -> Result<(Arc<Mesh>, MeshSource), FilesError> {
    let Files { objects, problems } = read(paths)?;
    let mesh = Mesh::compile(&objects, options);
    // nobody waits for their end
    std::thread::spawn(move || drop(objects));
    let place: Vec<String> = paths.iter().map(|p| p.display().to_string()).collect();
    let skipped = problems.iter().chain(mesh.problems()).map(|p| egress_core::name::printable(&p.to_string()).into());
    let source = MeshSource {
        kind: "files".into(),
        place: place.join(", ").into(),
        objects: u32::try_from(mesh.object_count()).unwrap_or(u32::MAX),
        skipped: skipped.collect(),
    };
    Ok((Arc::new(mesh), source))
}

fn walk(folder: &Path, depth: usize, out: &mut BTreeSet<PathBuf>) -> Result<(), FilesError> {
    let unreadable = |source| FilesError::Unreadable { path: folder.to_owned(), source };
    if depth > MAX_DEPTH {
        return Err(FilesError::TooDeep { path: folder.to_owned() });
    }
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        // what kubelet keeps beside the links of a mounted ConfigMap
        if path.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"..")) {
            continue;
        }
        let meta = fs::metadata(&path).map_err(|source| FilesError::Unreadable { path: path.clone(), source })?;
        let suffix = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if meta.is_dir() {
            walk(&path, depth + 1, out)?;
        } else if matches!(suffix, "yaml" | "yml" | "json") {
            out.insert(path);
        }
    }
    Ok(())
}

fn file(path: &Path, out: &mut Files) -> Result<(), FilesError> {
    let unreadable = |source| FilesError::Unreadable { path: path.to_owned(), source };
    let handle = fs::File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // a pipe has no size: the limit counts while reading
    handle.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(FilesError::TooLarge { path: path.to_owned(), size: bytes.len() as u64 });
    }
    let name = path.display().to_string();
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let line = error.as_bytes().get(..at).unwrap_or_default().split(|b| *b == b'\n').count();
            let says = "is not UTF-8 here; what cannot be read is replaced".to_owned();
            let line = u32::try_from(line).unwrap_or(0);
            out.problems.push(Problem {
                object: None,
                field: "".into(),
                file: name.as_str().into(),
                line,
                column: 0,
                says,
            });
            String::from_utf8_lossy(error.as_bytes()).into_owned()
        }
    };
    let read = manifest::parse(&name, text.strip_prefix('\u{feff}').unwrap_or(&text));
    out.objects.extend(read.objects);
    out.problems.extend(read.problems);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("egress-tui-files-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(path.join("b")).expect("a folder can be made");
        path
    }

    #[test]
    fn folders_are_read_recursively_and_broken_documents_do_not_stop_it() {
        let path = folder("recursive");
        fs::write(path.join("z.yaml"), "kind: Pod\napiVersion: v1\nmetadata: {name: z}\n---\nkind: [\n")
            .expect("writable");
        fs::write(path.join("b/a.json"), r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a"}}"#)
            .expect("writable");
        fs::write(path.join("b/note.txt"), "not read").expect("writable");
        let files = read(std::slice::from_ref(&path)).expect("readable");
        assert_eq!((files.objects.len(), files.problems.len()), (2, 1));
        assert!(files.problems[0].file.ends_with("z.yaml"), "{}", files.problems[0]);
        let (mesh, source) = load(std::slice::from_ref(&path), &MeshOptions::default()).expect("readable");
        assert_eq!((mesh.object_count(), source.objects, source.skipped.len()), (2, 2, 1));
        fs::remove_dir_all(&path).expect("removable");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let path = PathBuf::from("/nonexistent/mesh");
        let error = read(std::slice::from_ref(&path)).expect_err("is not there");
        assert!(error.to_string().contains("/nonexistent/mesh"), "{error}");
        let path = folder("empty");
        assert!(matches!(read(std::slice::from_ref(&path)), Err(FilesError::Empty { .. })));
        fs::remove_dir_all(&path).expect("removable");
    }

    #[test]
    fn bytes_that_are_no_text_are_told_and_the_rest_is_read() {
        let path = folder("latin");
        fs::write(path.join("a.yaml"), b"kind: Pod\nmetadata: {name: a}\n# caf\xe9\n").expect("writable");
        let files = read(std::slice::from_ref(&path)).expect("readable");
        assert_eq!((files.objects.len(), files.problems.len(), files.problems[0].line), (1, 1, 3));
        fs::remove_dir_all(&path).expect("removable");
    }
}
