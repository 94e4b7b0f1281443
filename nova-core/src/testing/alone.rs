//! Work on one thread and in virtual time.

use std::sync::Arc;

use crate::cloud::ApiError;
use crate::memory::VirtualClock;

/// Does `work` on one thread, with a clock that moves on whenever nobody has anything to do: the
/// same work takes the same turns every time.
///
/// # Errors
/// Those of `work`; [`ApiError::Unsuitable`] when there can be no runtime.
pub fn alone<T>(
    work: impl AsyncFnOnce(Arc<VirtualClock>) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.map_err(|source| ApiError::Unsuitable {
        what: "runtime".to_owned(),
        reason: source.to_string(),
    })?;
    let clock = Arc::new(VirtualClock::new());
    runtime.block_on(clock.drive(work(Arc::clone(&clock))))
}
