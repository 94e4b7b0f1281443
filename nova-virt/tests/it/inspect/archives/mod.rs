//! Archives that must be refused, and archives that must be taken.

mod genuine;
mod hostile;
pub(crate) mod makers;
