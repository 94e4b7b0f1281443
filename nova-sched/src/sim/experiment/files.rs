//! Files that are whole or not there.

use std::io::Write as _;
use std::path::Path;

use super::ExperimentError;

pub(super) fn failed(path: &Path, source: std::io::Error) -> ExperimentError {
    ExperimentError::File { path: path.to_owned(), source }
}

pub(super) fn write_json(
    path: &Path,
    value: &impl serde::Serialize,
) -> Result<(), ExperimentError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| failed(path, error.into()))?;
    bytes.push(b'\n');
    write(path, &bytes)
}

/// Writes a file whole or not at all: whoever dies meanwhile leaves what was there.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), ExperimentError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    // Temporary files are their owner's alone; results are everybody's whom the umask allows.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let written = builder.tempfile_in(folder).and_then(|mut file| {
        file.write_all(bytes)?;
        file.persist(path).map_err(|error| error.error)
    });
    written.map(|_| ()).map_err(|source| failed(path, source))
}
